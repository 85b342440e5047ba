# SPDX-License-Identifier: MIT
"""UFFDIO_MOVE, which walks down the page tables twice: for its source and for its target."""

from _raw import peek, poke

from guest import abi
from guest.layout import MADV_DONTNEED, PAGE, UFFD_WRITE_PROTECT, area, madvise, userfaultfd
from guest.moves import move, move_with_holes
from proof.scenarios.races import Inconclusive, Race, cleaned, delayed, repeated


@delayed("_raw_spin_lock@move_pages_pte|move_pages:500")
def moved_page_arrives(race: Race) -> None:
    """The page arrives on 6.12, where the move waits between finding and locking its target."""
    _move_beside_cleaner_of_the_target(race)


@delayed("pte_offset_map_rw_nolock@move_pages_ptes|move_pages:500")
def table_of_the_target_stays(race: Race) -> None:
    """On 7.3 UFFDIO_MOVE has found the target's table, and waits before it looks for the source's.

    Without the target's table the move would fail.  That loses no page, but must not happen.
    """
    _move_beside_cleaner_of_the_target(race)


def table_of_the_source_stays(race: Race) -> None:
    """The source's table must stay: 6.12's move warns where it vanishes.

    The source need not be registered with userfaultfd.  The window can't be widened, because
    the kernel enters no function in it; it takes a tenth of a move's time.
    """
    _not_on_6_1(race)
    with (
        area(16) as source,
        area(16) as target,
        userfaultfd(*target.span, UFFD_WRITE_PROTECT) as fd,
        cleaned(abi.Args([source.span])),
    ):
        for _ in race.rounds():
            stops = move_with_holes(fd, target, source, race.chance.randrange(1, 256))
            assert stops == 0, "the move stopped"


def _move_beside_cleaner_of_the_target(race: Race) -> None:
    _not_on_6_1(race)
    with area(1) as source, area(2) as target:
        args = abi.Args([target.span])

        def clean() -> None:
            abi.call(args)

        with (
            userfaultfd(*target.span, UFFD_WRITE_PROTECT) as fd,
            repeated(clean),
            race.delays(),
        ):
            for _ in race.rounds():
                value = race.chance.randrange(1, 256)
                poke(source.addr, 1, PAGE, value)
                move(fd, target.addr, source.addr, PAGE)
                found = peek(target.addr, 1, PAGE)
                assert found == bytes([value]), "the moved page is not there"
                madvise(target.addr, PAGE, MADV_DONTNEED)


def _not_on_6_1(race: Race) -> None:
    if race.kernel == "6.1":
        raise Inconclusive("6.8 brought UFFDIO_MOVE")
