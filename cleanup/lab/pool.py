# SPDX-License-Identifier: MIT
"""A pool of guests, shared by all who want the same kernel and machine."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from cleanup.lab.booting import boot
from cleanup.lab.guest import Guest
from cleanup.lab.kernels import DEFAULT, Kernel, get_kernel
from cleanup.lab.machine import Machine
from cleanup.lab.progress import Progress

# The number of guests is limited, as an open guest keeps all memory that it ever touched.
MOST_GUESTS = 4


class Pool:
    """Open guests, one for each kernel and machine; the end of its block powers all of them off.

    ::

        with lab.Pool() as pool:
            pool.guest("6.12").run(["uname", "-r"])
            pool.guest("6.12").run(["nproc"])  # in the same guest
    """

    def __init__(
        self,
        *,
        visible: Sequence[Path] = (),
        writable: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Boot nothing yet; the parameters are those of `boot`, for all guests."""
        self._visible = visible
        self._writable = writable
        self._progress = progress
        # The guests are in the order of their last use.
        self._guests: dict[tuple[Kernel, Machine], Guest] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def guest(self, kernel: str | Kernel = DEFAULT, machine: Machine | None = None) -> Guest:
        """Return the open guest with that kernel and machine, booted if there is none.

        A guest that has ended is not returned again.  Where too many are open, the one that was
        not used for the longest time is closed.  Raises LabError as `boot` and `Guest.close` do.
        """
        if isinstance(kernel, str):
            kernel = get_kernel(kernel, progress=self._progress)
        key = kernel, machine or Machine()
        guest = self._guests.pop(key, None)
        if guest is None or guest.ended:
            while len(self._guests) >= MOST_GUESTS:
                self._guests.pop(next(iter(self._guests))).close()
            guest = boot(
                *key, visible=self._visible, writable=self._writable, progress=self._progress
            )
        self._guests[key] = guest
        return guest

    def close(self) -> None:
        """Power all guests off.  Raises LabError as `Guest.close` does, once all are closed."""
        with ExitStack() as stack:
            for guest in self._guests.values():
                stack.callback(guest.close)
        self._guests.clear()
