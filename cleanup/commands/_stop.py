# SPDX-License-Identifier: MIT
"""Ends a command, and what it has started with it."""

import signal
import sys


def unwind_when_stopped() -> None:
    """Have SIGTERM and SIGHUP end this program the way Ctrl-C does, with nothing left behind.

    One that was started with a signal ignored, as by nohup, goes on ignoring it.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda received, _frame: sys.exit(128 + received))
