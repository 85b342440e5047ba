# SPDX-License-Identifier: MIT
"""A sweep of workloads over sizes, methods and kernels: each combination is a run of its own.

Dask spreads the runs over processes of this machine, or over a named scheduler's workers. A result
is written here as soon as a worker has it; a combination that has a result is not run again.
"""

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cleanup.errors import CleanupError
from experiments import document as documents
from experiments import provenance, runner
from experiments.document import Document
from experiments.part import ExperimentError, Progress, Scale
from experiments.workload import Workload

if TYPE_CHECKING:
    from distributed import Client

HOST = "host"
"""Given in place of a kernel of the lab: the run takes no guest, but the worker's machine."""


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of a sweep: a workload on a kernel, at one size and by one method."""

    workload: Workload
    kernel: str
    scale: Scale

    @property
    def name(self) -> str:
        """A name that no other point has; the name of a result's file adds the commit.

        The size is in bytes, so that no two sizes are taken for one.
        """
        scale = self.scale
        parts = [self.workload.name, self.kernel, *scale.methods, *scale.granularities]
        parts += [str(scale.size_bytes), str(scale.touch), f"seed{scale.seed}", f"x{scale.repeats}"]
        return "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part) for part in parts)


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of a sweep: points measured now, those that had a result, and failures."""

    measured: tuple[str, ...]
    kept: tuple[str, ...]
    failed: dict[str, str]


@dataclass(frozen=True, slots=True)
class Store:
    """The directory that results are kept in.

    A result counts if it was measured at `commit` with no file changed: nobody could tell later
    what was in a changed file. With `other_commits`, any result counts.
    """

    directory: Path
    commit: str | None
    other_commits: bool = False

    def path(self, point: Point) -> Path:
        """Return where the point's result is to be written."""
        commit, _, dirty = (self.commit or "unknown").partition("-")
        return self.directory / f"{point.name}_{commit[:12]}{'-dirty' if dirty else ''}.json"

    def kept(self, point: Point) -> Path | None:
        """Return the file of a result that counts for the point, or None."""
        own = self.path(point)
        if own.exists() and provenance.is_certain(self.commit):
            return own
        if self.other_commits:
            return max(self.directory.glob(f"{point.name}_*.json"), key=_age, default=None)
        return None

    def results(self, points: Iterable[Point]) -> list[Document]:
        """Return a result for each of the `points` that has one."""
        paths = (self.kept(point) or self.path(point) for point in points)
        return [documents.read(path) for path in paths if path.exists()]


def _age(path: Path) -> float:
    return path.stat().st_mtime


def points(
    workloads: Sequence[Workload],
    kernels: Sequence[str],
    methods: Sequence[str],
    sizes: Sequence[int],
    granularities: Sequence[str],
    *,
    seed: int,
    repeats: int,
) -> list[Point]:
    """Return a point for each combination; without `sizes`, say, each workload has its own."""
    found = []
    for workload in workloads:
        fitting = [one for one in granularities if one in workload.granularities]
        found += [
            Point(
                workload,
                kernel,
                Scale(
                    size_bytes=size,
                    granularities=(granularity,),
                    touch=workload.touches[0],
                    repeats=repeats,
                    methods=(method,),
                    seed=seed,
                ),
            )
            for kernel, method, size, granularity in itertools.product(
                kernels,
                methods,
                sizes or [workload.size_bytes],
                fitting or workload.granularities[:1],
            )
        ]
    return found


def run(
    wanted: Iterable[Point],
    store: Store,
    *,
    scheduler: str | None,
    workers: int | None,
    progress: Progress,
) -> Ended:
    """Measure the points that have no result yet; where one fails, the others go on.

    `scheduler` is the address of a Dask scheduler; without one, `workers` processes are started
    here, by default one for each two CPUs. Raises ExperimentError without Dask.
    """
    missing: list[Point] = []
    kept: list[Point] = []
    for point in wanted:
        (kept if store.kept(point) else missing).append(point)
    measured: list[str] = []
    failed: dict[str, str] = {}
    if missing:
        with _client(scheduler, workers or max(1, (os.cpu_count() or 1) // 2)) as client:
            for point, answer in _measured(client, missing):
                if isinstance(answer, str):
                    failed[point.name] = answer
                else:
                    documents.write({**answer, "commit": store.commit}, store.path(point))
                    measured.append(point.name)
                progress(
                    f"{len(measured) + len(failed)} of {len(missing)}: {point.name}"
                    + (f" FAILED: {failed[point.name]}" if point.name in failed else "")
                )
    return Ended(tuple(measured), tuple(point.name for point in kept), failed)


@contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator["Client"]:
    try:
        from distributed import Client, LocalCluster  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise ExperimentError(
            "a sweep takes Dask's scheduler: pip install 'pgtable-cleanup[experiments]'"
        ) from error
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout="10s")
        except OSError as error:
            raise ExperimentError(f"there is no Dask scheduler at {scheduler}: {error}") from error
        with client:
            yield client
        return
    # Each worker has a process to itself: two that shared one would disturb each other's times.
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _measured(client: "Client", missing: Sequence[Point]) -> Iterator[tuple[Point, Document | str]]:
    """Yield each point with its result, or why it has none, as they come."""
    from distributed import as_completed  # noqa: PLC0415 -- an extra

    # Dask gives the run of a lost worker to another. A failed run would fail again: no retries.
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
    """Measure a point in a worker."""
    run = (
        runner.here([point.workload], point.scale)
        if point.kernel == HOST
        else runner.in_lab([(point.workload, point.kernel)], point.scale)
    )
    (document,) = run
    if document["failures"]:
        raise CleanupError("; ".join(document["failures"]))
    return document
