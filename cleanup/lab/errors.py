# SPDX-License-Identifier: MIT
"""The errors of the lab, each with a message fit for the user."""

from cleanup.errors import CleanupError


class LabError(CleanupError):
    """The lab could not do its part: no package, no kernel, no boot, a guest that died."""


class KernelNotServed(LabError):
    """The Debian mirror does not serve a kernel, or no longer.

    Backports drop a kernel on the day that the next one comes.
    """


class KernelReportError(LabError):
    """The guest's kernel reported a bug in its log, which the dmesg gate looks for.

    ``reports`` holds the offending lines of the kernel's log.
    """

    def __init__(self, message: str, reports: list[str]) -> None:
        super().__init__(message)
        self.reports = reports
