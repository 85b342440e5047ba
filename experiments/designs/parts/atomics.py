# SPDX-License-Identifier: MIT
"""A model: what reference counts or locks of page tables would add to each page fault."""

from array import array
from collections.abc import Callable, Sequence

from experiments.cost import _faults
from experiments.cost.turns import cpu_ns
from experiments.designs import _atomics
from experiments.part import Measured, Needs, Part, Row, Scale
from experiments.sparse import PAGE, UNIT, sparse_mapping
from experiments.spread import spread

_FAULT_UNITS = 32
_FAULTS = _FAULT_UNITS * UNIT // PAGE
_PAIRS = 2_000_000
_ROUNDS = 9
# The threads' word is the first of this many, to keep other data out of its cache line.
_WORDS_APART = 64
_THREADS = {"alone": (1, "1 thread"), "shared": (2, "2 threads, one table")}
_OPERATIONS: dict[str, tuple[str, Callable[[memoryview, int], None]]] = {
    "references": ("a reference taken and dropped", _atomics.references),
    "read_locks": ("a reader-writer lock taken for read and left", _atomics.read_locks),
}


class Atomics(Part):
    name = "designs/atomics"
    description = (
        "a MODEL of designs nobody built: two atomics on a word of each page table, beside a page "
        "fault's own time"
    )
    needs = Needs(hardware=True)

    def measure(self, scale: Scale) -> Measured:
        """Time faults by one thread, then the operations by one and two threads on one word."""
        rounds = scale.runs(_ROUNDS, 3)
        result: Measured = {"faults": _FAULTS, "pairs": _PAIRS, "operations": {}}
        scale.progress("faults")
        with sparse_mapping(_FAULT_UNITS * UNIT, seed=scale.seed, every_page=True) as mapping:
            times = []
            for _ in range(rounds + 1):
                times.append(cpu_ns(_touch, [mapping.view]) / _FAULTS)
                _faults.release(mapping.view)
            result["fault_ns"] = spread(times[1:])
        fault = result["fault_ns"]["median"]
        for name, (label, operation) in _OPERATIONS.items():
            scale.progress(label)
            figures = {
                kind: spread([_pair_ns(operation, threads) for _ in range(rounds)])
                for kind, (threads, _label) in _THREADS.items()
            }
            result["operations"][name] = {
                "label": label,
                **{f"{kind}_ns": one for kind, one in figures.items()},
                **{f"{kind}_of_fault": one["median"] / fault for kind, one in figures.items()},
            }
        return result

    def rows(self, measured: Measured) -> Sequence[Row]:
        """Return the nanoseconds of each operation, and what share of a page fault they are."""
        rows: list[Row] = [("a page fault, 1 thread", _ns(measured["fault_ns"]))]
        for one in measured["operations"].values():
            for kind, (_threads, label) in _THREADS.items():
                share = f"{one[f'{kind}_of_fault']:.2%} of a fault"
                rows.append((f"{one['label']}, {label}", f"{_ns(one[f'{kind}_ns'])}: {share}"))
        return rows


def _touch(memory: memoryview) -> None:
    _faults.touch(memory, stride=PAGE)


def _ns(figures: Measured) -> str:
    return f"{figures['median']:,.1f} ns ({figures['min']:,.1f} to {figures['max']:,.1f})"


def _pair_ns(operation: Callable[[memoryview, int], None], threads: int) -> float:
    """Return the nanoseconds that a pair of operations takes while `threads` use one word."""
    word = memoryview(array("Q", bytes(8 * _WORDS_APART)))
    return cpu_ns(lambda _thread: operation(word, _PAIRS), range(threads)) / (threads * _PAIRS)


PART = Atomics()
