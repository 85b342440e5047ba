# SPDX-License-Identifier: MIT
"""Ends a command together with the programs that it has started."""

import signal
import sys


def unwind_when_stopped() -> None:
    """Have SIGTERM and SIGHUP end this program the way Ctrl-C does, with nothing left behind.

    A program that was started with a signal ignored, as nohup does, goes on ignoring it.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda received, _frame: sys.exit(128 + received))
