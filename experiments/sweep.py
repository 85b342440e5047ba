# SPDX-License-Identifier: MIT
"""Many runs, each for itself, side by side where there are workers for them.

The scheduler is Dask's: a cluster of this machine's own processes, or any that is named.  What a
worker measured is written here as it comes; what was written already is not run again.
"""

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cleanup.errors import CleanupError
from experiments import measure
from experiments.document import Document, write
from experiments.measure import ExperimentError, Progress
from experiments.provenance import commit
from experiments.summary import size_text
from experiments.workload import Parameters
from experiments.workloads import registry

if TYPE_CHECKING:
    from distributed import Client

HOST = "host"
"""In place of a kernel of the lab: this machine, or the worker's."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run, or `repeats` of it."""

    workload: str
    kernel: str
    backend: str
    parameters: Parameters
    repeats: int

    @property
    def name(self) -> str:
        """Of its result's file, without the extension."""
        size = size_text(self.parameters.size_bytes).replace(" ", "").replace(".00", "")
        parts = [self.workload, self.kernel, self.backend, self.parameters.granularity, size]
        parts += [self.parameters.touch, f"seed{self.parameters.seed}", f"x{self.repeats}"]
        return "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part) for part in parts)


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a sweep: points measured now, those whose results were there, and failures."""

    measured: tuple[str, ...]
    kept: tuple[str, ...]
    failed: dict[str, str]


def points(
    workloads: Sequence[str],
    kernels: Sequence[str],
    backends: Sequence[str],
    sizes: Sequence[int],
    granularities: Sequence[str],
    *,
    seed: int,
    repeats: int,
) -> list[Point]:
    """Every combination that there is; sizes and granularities are a workload's own by default."""
    found = []
    for name in workloads:
        workload = registry()[name]
        fitting = [one for one in granularities if one in workload.granularities]
        found += [
            Point(
                name,
                kernel,
                backend,
                Parameters(size, granularity, workload.touches[0], seed),
                repeats,
            )
            for kernel, backend, size, granularity in itertools.product(
                kernels,
                backends,
                sizes or [workload.size_bytes],
                fitting or workload.granularities[:1],
            )
        ]
    return found


def run(
    wanted: Iterable[Point],
    out: Path,
    *,
    scheduler: str | None,
    workers: int | None,
    progress: Progress,
) -> Ended:
    """Measure what has no result in `out` yet; one that fails costs no other's result.

    `scheduler` is the address of a Dask scheduler; without one, so many `workers` are started
    here, by default as many as have two CPUs each.  Raises ExperimentError without Dask.
    """
    missing: list[Point] = []
    kept: list[Point] = []
    for point in wanted:
        (kept if _path(out, point).exists() else missing).append(point)
    measured: list[str] = []
    failed: dict[str, str] = {}
    if missing:
        with _client(scheduler, workers or max(1, (os.cpu_count() or 1) // 2)) as client:
            for point, answer in _measured(client, missing):
                if isinstance(answer, str):
                    failed[point.name] = answer
                else:
                    write(answer, _path(out, point))
                    measured.append(point.name)
                progress(
                    f"{len(measured) + len(failed)} of {len(missing)}: {point.name}"
                    + (f" FAILED: {failed[point.name]}" if point.name in failed else "")
                )
    return Ended(tuple(measured), tuple(point.name for point in kept), failed)


def results(out: Path, wanted: Iterable[Point]) -> list[Document]:
    """Those that are there."""
    paths = [_path(out, point) for point in wanted]
    return [cast(Document, json.loads(path.read_bytes())) for path in paths if path.exists()]


def _path(out: Path, point: Point) -> Path:
    return out / f"{point.name}.json"


@contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator["Client"]:
    try:
        from distributed import Client, LocalCluster  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise ExperimentError(
            "a sweep takes Dask's scheduler: pip install 'pgtable-cleanup[sweep]'"
        ) from error
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout="30s")
        except OSError as error:
            raise ExperimentError(f"there is no Dask scheduler at {scheduler}: {error}") from error
        with client:
            yield client
        return
    # A run is of one thread, and times others in its own process.
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _measured(client: "Client", missing: Sequence[Point]) -> Iterator[tuple[Point, Document | str]]:
    """Each with its result, or why it has none, as they come."""
    from distributed import as_completed  # noqa: PLC0415 -- an extra

    # The run of a worker that is lost is another's; one that fails would fail again.
    futures = {
        client.submit(_measure, point, key=point.name, pure=False): point for point in missing
    }
    try:
        for future in as_completed(futures):
            error = future.exception()
            yield futures[future], str(error) if error else future.result()
    finally:
        client.cancel(list(futures))


def _measure(point: Point) -> Document:
    """In a worker."""
    workload = registry()[point.workload]
    if point.kernel == HOST:
        document = measure.run(
            workload,
            parameters=[point.parameters],
            backends=[point.backend],
            repeats=point.repeats,
            accelerator=HOST,
            progress=lambda _: None,
        )
    else:
        # Guests have no use for the lab, nor what imports this.
        from experiments import in_lab  # noqa: PLC0415

        document = in_lab.run(
            workload,
            parameters=[point.parameters],
            backends=[point.backend],
            repeats=point.repeats,
            kernel=point.kernel,
        )
    if broken := [each for one in document["runs"] for each in one["violations"]]:
        raise CleanupError("; ".join(broken))
    document["commit"] = commit()
    return document
