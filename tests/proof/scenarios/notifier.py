# SPDX-License-Identifier: MIT
"""A secondary MMU that mapped a zero page which the module drops."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from _raw import peek

from cleanup import _uapi
from guest import abi
from guest.layout import UNIT, area
from proof.scenarios.races import Race

UNITS = 16


@contextmanager
def shadow() -> Iterator[int]:
    """Open a shadow of this process's memory, as the module tests/proof/modules/shadow keeps it."""
    subprocess.run(["insmod", os.environ["PGTABLE_CLEANUP_SHADOW_MODULE"]], check=True)
    fd = os.open("/dev/pgtable_cleanup_shadow", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
        subprocess.run(["rmmod", "shadow"], check=True)


def sees_what_is_written_after(race: Race) -> None:
    """A shadow must see what is written after the zero pages that it remembers were dropped."""
    with shadow() as fd, area(UNITS) as made:
        places = [made.unit(index) for index in range(UNITS)]
        for _ in race.rounds():
            peek(made.addr, UNITS, UNIT)
            assert [os.pread(fd, 1, place) for place in places] == [b"\0"] * UNITS
            answer = abi.call(abi.Args([made.span], flags=_uapi.ZERO_PAGES))
            assert answer.zero_pages_dropped == UNITS, "zero pages stayed"
            value = race.chance.randrange(1, 256)
            made.touch(value)
            seen = b"".join(os.pread(fd, 1, place) for place in places)
            assert seen == bytes([value] * UNITS), f"the shadow saw {seen.hex()}, not {value:02x}"
            made.release()
