# SPDX-License-Identifier: MIT
"""What a page fault costs after a cleanup: its table is gone, or was kept."""

import threading
from collections.abc import Sequence

from cleanup import cleaning
from cleanup.errors import CleanupError
from cleanup.proc import settled_pagetables_bytes
from cleanup.process import page_tables
from experiments.cost import _faults
from experiments.measure import Progress
from experiments.sparse import PAGE, SparseMapping, sparse_mapping
from experiments.suite.part import Guest, Part, Result, Row
from experiments.suite.spread import spread, text

# One page in each GiB, so that every fault has a PTE and a PMD table for itself.
_GIB = 1 << 30
_FAULTS = 1024
_RUNS = 5
_THREADS = (1, 4)
# What the cleanup frees before the pages are touched again.
_FREED = {"kept": (), "pte_freed": ("pte",), "pmd_freed": ("pte", "pmd")}
_SHOWN = {
    "kept": "tables kept",
    "pte_freed": "PTE table freed",
    "pmd_freed": "PTE and PMD tables freed",
}


class Refault:
    """See `Part`."""

    name = "refault"
    description = "page faults after a cleanup, with their tables kept and freed"
    guest = Guest(icount=True, cpus=1)

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        """Touch, release, clean and touch again, in every combination.

        Threads take turns on the one CPU; what each takes is its CPU time, with what
        interrupts and the scheduler took meanwhile.
        """
        figures: Result = {}
        with sparse_mapping(_FAULTS * _GIB, seed=seed) as mapping:
            _touch(mapping, 1)
            for threads in _THREADS:
                progress(f"{threads} thread(s)")
                figures[str(threads)] = {
                    freed: spread(
                        [_refault(mapping, threads, levels) for _ in range(2 if quick else _RUNS)]
                    )
                    for freed, levels in _FREED.items()
                }
        return {"faults": _FAULTS, "fault_instructions_by_threads": figures}

    def rows(self, result: Result) -> Sequence[Row]:
        """See `Part`."""
        return [
            (
                f"fault, {threads} thread{'s' if threads != '1' else ''}, {_SHOWN[freed]}",
                text(figure, "instructions"),
            )
            for threads, figures in result["fault_instructions_by_threads"].items()
            for freed, figure in figures.items()
        ]


def _refault(mapping: SparseMapping, threads: int, levels: Sequence[str]) -> float:
    """Instructions of a fault on a page released before, its tables of `levels` freed."""
    _faults.release(mapping.view, stride=_GIB, span=PAGE)
    freed = 0
    if levels:
        freed = cleaning.reclaim(mapping.view, levels=levels).freed.total
        if freed != len(levels) * _FAULTS:
            raise CleanupError(f"{freed} tables were freed of {len(levels) * _FAULTS} empty ones")
    # What is freed late must not be on the faults' account.
    settled_pagetables_bytes()
    before = page_tables().vmpte_bytes
    instructions = _touch(mapping, threads)
    made = (page_tables().vmpte_bytes - before) // PAGE
    if made < freed:
        raise CleanupError(f"the faults made {made} tables where {freed} were missing")
    return instructions / _FAULTS


def _touch(mapping: SparseMapping, threads: int) -> int:
    """CPU time of that many threads for touching one page in each GiB, in nanoseconds."""
    share = len(mapping.view) // threads
    taken = [0] * threads
    ready = threading.Barrier(threads)

    def work(index: int) -> None:
        part = mapping.view[index * share : (index + 1) * share]
        ready.wait()
        taken[index] = _faults.touch(part, stride=_GIB)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(taken)


PART: Part = Refault()
