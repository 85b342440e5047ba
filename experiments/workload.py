# SPDX-License-Identifier: MIT
"""A workload: a part that makes page tables, releases their memory, and has them cleaned."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import cleanup
from experiments import measure as measuring
from experiments import summary
from experiments.part import Documents, Measured, Needs, Part, Pictures, Row, Saving, Scale
from experiments.phases import GRANULARITIES, NO_RELEASE, PHASES, Parameters
from experiments.sparse import PAGE, UNIT, SparseMapping, sparse_mapping
from experiments.stage import Stage


@dataclass(frozen=True, slots=True)
class Remains:
    """What a run finds in its memory at its end.

    `contents_intact` says whether pages read as they should: as zeros if released or never written.
    `survivors` are the pages kept. `counts` is what else the workload counted, by name.
    """

    contents_intact: bool
    survivors: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


class Workload(Part):
    """A part that makes page tables, releases the memory under them, and has them cleaned.

    `size_bytes` are mapped, and `quick_bytes` in a quick measurement; the first of `touches` and of
    `granularities` are the defaults. A rehearsal maps `rehearsal_bytes`, enough for all that a run
    does to happen once. With `zero_pages` its tables hold the shared zero page: the module drops
    entries for it, and the oracle counts tables that hold nothing else as empty.
    """

    size_bytes: int
    quick_bytes: int
    touches: tuple[str, ...] = ("one",)
    granularities: tuple[str, ...] = tuple(GRANULARITIES)
    repeats: int = 1
    rehearsal_bytes: int
    zero_pages: bool = False
    options: ClassVar[frozenset[str]] = frozenset(
        {"methods", "granularities", "touch", "size_bytes", "repeats"}
    )
    # The table fits into 80 columns; `call` is the size of each release call.
    headings: ClassVar[Row] = (
        *("call", "method", "before", "peak", "released", "cleaned", "freed/empty", "time", "data"),
    )

    def run(self, stage: Stage, parameters: Parameters) -> Remains:
        """Run once: have `start` and `touched` measured, release the memory, have it cleaned."""
        raise NotImplementedError

    def mapping(
        self,
        parameters: Parameters,
        **options: Any,  # noqa: ANN401 -- those of `sparse_mapping`
    ) -> AbstractContextManager[SparseMapping]:
        """Map the memory that a run touches and releases."""
        return sparse_mapping(
            parameters.size_bytes,
            seed=parameters.seed,
            every_page=parameters.touch == "all",
            block=GRANULARITIES.get(parameters.granularity, PAGE),
            **options,
        )

    def details_of(self, _parameters: Parameters) -> Mapping[str, Any]:
        """Return more about the run that a reader of its figures should know, by name."""
        return {}

    def size_at(self, scale: Scale) -> int:
        """Return how many bytes are mapped at a scale."""
        return scale.size_bytes or scale.pick(self.size_bytes, self.quick_bytes)

    def needs_at(self, scale: Scale) -> Needs:
        """Return the machine; it has more memory where more than `size_bytes` is mapped."""
        times = max(1, -(-self.size_at(scale) // self.size_bytes))
        return replace(self.needs, memory=f"{times * int(self.needs.memory.rstrip('G'))}G")

    def check(self, scale: Scale) -> None:
        """Raise ValueError if the scale asks for a variant that the workload does not have."""
        super().check(scale)
        if scale.touch and scale.touch not in self.touches:
            raise ValueError(f"{self.name} has no --touch {scale.touch}")
        for granularity in scale.granularities:
            if granularity not in self.granularities:
                raise ValueError(f"{self.name} has no --granularity {granularity}")

    def measure(self, scale: Scale) -> Measured:
        """Run the workload at each granularity with each method, as often as the scale says."""
        features = cleanup.features()
        quick = scale.quick and features.methods["module"].works
        # A quick measurement needs only the module's run, which shows tables left empty and freed.
        wanted = scale.methods or (("module",) if quick else ())
        methods, unavailable = measuring.usable(wanted, features)
        repeats = scale.runs(self.repeats)
        granularities = scale.granularities or self.granularities[:1]
        touch = scale.touch or self.touches[0]
        common = Parameters(self.size_at(scale), granularities[0], touch, scale.seed, scale.quick)
        runs = []
        for granularity in granularities:
            at = f" at {granularity}" if granularity != NO_RELEASE else ""
            for method in methods:
                for repeat in range(repeats):
                    count = f", {repeat + 1} of {repeats}" if repeats > 1 else ""
                    scale.progress(f"{method}{at}{count}")
                    parameters = replace(common, granularity=granularity)
                    runs.append(
                        measuring.run_once(
                            self.name, parameters, method, repeat, zero_pages=self.zero_pages
                        )
                    )
        return {
            "parameters": {
                "size_bytes": common.size_bytes,
                "units": common.size_bytes // UNIT,
                "granularity": list(granularities),
                "touch": touch,
                "repeats": repeats,
                **self.details_of(common),
            },
            "runs": runs,
            "unavailable": unavailable,
        }

    def title(self, measured: Measured) -> str:
        """Return a title that says what the sizes in the table are."""
        size = summary.size_text(measured["parameters"]["size_bytes"])
        return f"VmPTE under {size} mapped"

    def rows(self, measured: Measured) -> list[Row]:
        """Return VmPTE by phase, the tables freed out of those empty, and the median time."""
        return [
            (
                one.granularity,
                one.method,
                *(summary.size_text(one.vmpte_bytes[phase]) for phase in PHASES),
                f"{one.freed_tables}/{one.empty_tables}",
                "" if one.method == "none" else f"{one.seconds['cleaned']['median']:.3f} s",
                "intact" if one.first["contents_intact"] else "CHANGED",
            )
            for one in summary.summaries(measured["runs"])
        ]

    def details(self, measured: Measured) -> list[str]:
        """Return, for each row of the table, a sentence of figures it has no room for."""
        return [
            f"{one.granularity}, {one.method}: {summary.details(one)}"
            for one in summary.summaries(measured["runs"])
        ]

    def violations(self, measured: Measured) -> list[str]:
        """Return the invariants that each run broke."""
        return [
            f"{run['method']} at {run['granularity']}: {violation}"
            for run in measured["runs"]
            for violation in run["violations"]
        ]

    def savings(self, measured: Measured) -> list[Saving]:
        """Return the saving at each granularity, from the module's run or else from `none`'s."""
        by_granularity = {
            one.granularity: one
            for one in summary.summaries(measured["runs"])
            if one.method in ("none", "module")
        }
        return [
            Saving(
                name=self.name if at == NO_RELEASE else f"{self.name}, {at} a call",
                tables=one.vmpte_bytes["released"] // PAGE,
                empty=one.empty_tables,
                freed=one.freed_tables if one.method == "module" else None,
                control=self.control,
            )
            for at, one in by_granularity.items()
        ]

    def draw(self, documents: Documents) -> Pictures:
        """Draw sizes and times by phase, a panel for each kernel and granularity."""
        from experiments import plot  # noqa: PLC0415 -- a guest draws nothing

        return plot.draw(documents)
