# SPDX-License-Identifier: MIT
"""The cost of page faults after a cleanup that freed their page tables, or that kept them."""

from collections.abc import Mapping, Sequence

from cleanup import cleaning
from cleanup.errors import CleanupError
from cleanup.proc import settled_pagetables_bytes
from cleanup.process import page_tables
from experiments.cost import _faults
from experiments.cost.turns import cpu_ns, shares
from experiments.part import COUNTING, Measured, Part, Row, Scale
from experiments.sparse import PAGE, SparseMapping, sparse_mapping
from experiments.spread import spread, text

# The pages are 1 GiB apart, so that every fault has a PTE and a PMD table of its own.
_GIB = 1 << 30
_FAULTS = 1024
_QUICK_FAULTS = 128
_RUNS = 5
_THREADS = (1, 4)
# The levels that the cleanup frees before pages are touched again, and what reports call that.
_FREED: Mapping[str, tuple[Sequence[str], str]] = {
    "kept": ((), "tables kept"),
    "pte_freed": (("pte",), "PTE table freed"),
    "pmd_freed": (("pte", "pmd"), "PTE and PMD tables freed"),
}


class Refault(Part):
    name = "reclaim-cost/refault"
    description = "page faults after a cleanup, with their tables kept and freed"
    needs = COUNTING

    def measure(self, scale: Scale) -> Measured:
        """Touch, release, clean and touch again, for each number of threads and set of levels.

        The threads take turns on the one CPU.  What counts is their CPU time, which contains
        what interrupts and the scheduler took meanwhile.
        """
        figures: Measured = {}
        faults, runs = scale.pick(_FAULTS, _QUICK_FAULTS), scale.runs(_RUNS, 2)
        with sparse_mapping(faults * _GIB, seed=scale.seed) as mapping:
            _touch(mapping, 1)
            for threads in _THREADS:
                scale.progress(f"{threads} thread(s)")
                figures[str(threads)] = {
                    freed: spread([_refault(mapping, threads, levels) for _ in range(runs)])
                    for freed, (levels, _label) in _FREED.items()
                }
        return {"faults": faults, "fault_instructions_by_threads": figures}

    def rows(self, measured: Measured) -> Sequence[Row]:
        return [
            (
                f"fault, {threads} thread{'s' if threads != '1' else ''}, {_FREED[freed][1]}",
                text(figure, "instructions"),
            )
            for threads, figures in measured["fault_instructions_by_threads"].items()
            for freed, figure in figures.items()
        ]


def _refault(mapping: SparseMapping, threads: int, levels: Sequence[str]) -> float:
    """Return the instructions per fault on released pages whose tables of `levels` were freed."""
    _faults.release(mapping.view, stride=_GIB, span=PAGE)
    faults = len(mapping.view) // _GIB
    freed = 0
    if levels:
        freed = cleaning.reclaim(mapping.view, levels=levels).freed.total
        if freed != len(levels) * faults:
            raise CleanupError(f"{freed} tables were freed of {len(levels) * faults} empty ones")
    # Wait until all is freed: work for that during the faults would count as theirs.
    settled_pagetables_bytes()
    before = page_tables().vmpte_bytes
    instructions = _touch(mapping, threads)
    made = (page_tables().vmpte_bytes - before) // PAGE
    if made < freed:
        raise CleanupError(f"the faults made {made} tables where {freed} were missing")
    return instructions / faults


def _touch(mapping: SparseMapping, threads: int) -> int:
    """Touch one page in each GiB by several threads, and return their CPU time."""
    with shares(mapping.view, threads) as parts:
        return cpu_ns(lambda part: _faults.touch(part, stride=_GIB), parts)


PART = Refault()
