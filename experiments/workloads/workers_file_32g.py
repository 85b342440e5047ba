# SPDX-License-Identifier: MIT
"""Many workers that map one large file: page reclaim takes its pages, each keeps its tables."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cleanup import cgroup
from cleanup.errors import CleanupError
from experiments.phases import NO_RELEASE, Parameters
from experiments.scratch import (
    WRITTEN_ONE_IN,
    contents,
    reads_as_written,
    resident,
    scratch_directory,
    write,
)
from experiments.sparse import PAGE, SparseMapping, sparse_mapping
from experiments.workers import Obey, workers
from experiments.workload import Clean, Measure, Outcome, Workload

_WORKERS = 8
_READ, _CHECK = b"r", b"c"
# A page that was used lately is taken at a second look, or a later one.
_ROUNDS = 20


class WorkersFile(Workload):
    """A report from the field, scaled down: 390 GiB of a file, 802 MiB of tables in each worker."""

    name = "workers-file-32g"
    description = "nine processes read a file of 32 GiB here and there, page reclaim takes it"
    size_bytes = 32 << 30
    quick_bytes = 2 << 30
    granularities = (NO_RELEASE,)
    rehearsal_bytes = 1 << 30

    def details_of(self, parameters: Parameters) -> Mapping[str, Any]:
        """Return how many tables each process gets, and how much of the file holds data."""
        return {
            "units": parameters.size_bytes >> 21,
            "processes": 1 + _WORKERS,
            "written_one_in": WRITTEN_ONE_IN,
        }

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """Have each process read all, and the kernel reclaim what they read."""
        directory = scratch_directory()
        with ExitStack() as stack:
            group = stack.enter_context(_group())
            mapping = stack.enter_context(
                sparse_mapping(
                    parameters.size_bytes, seed=parameters.seed, write=False, directory=directory
                )
            )
            written = contents(mapping.units, parameters.seed)
            others = stack.enter_context(workers(_WORKERS, _obeying(mapping, written)))
            pids = others.pids
            measure("start", pids=pids)
            write(mapping, written)
            seconds = mapping.touch(0, mapping.units)
            others.tell(_READ)
            measure("touched", seconds, pids=pids)
            before = resident(mapping)
            after, rounds = before, 0
            while after and rounds < _ROUNDS:
                _reclaim(group, before * PAGE)
                after = resident(mapping)
                rounds += 1
            if after:
                raise CleanupError(
                    f"page reclaim left {after} of {before} pages of the file in memory: let "
                    "TMPDIR name a directory on ext4 or xfs, not on a tmpfs"
                )
            measure("released", populated=[mapping.range], pids=pids)
            clean(mapping, [(0, mapping.units)], pids)
            intact = [reads_as_written(mapping, written), others.tell(_CHECK)]
            return Outcome(
                all(intact),
                counts={"resident pages before": before, "rounds of page reclaim": rounds},
            )


def _obeying(mapping: SparseMapping, written: Mapping[int, bytes]) -> Obey:
    def obey(order: bytes) -> bool:
        if order == _READ:
            mapping.touch(0, mapping.units)
            return True
        return reads_as_written(mapping, written)

    return obey


@contextmanager
def _group() -> Iterator[Path]:
    """A cgroup with this process in it, so that its pages alone are reclaimed; CleanupError."""
    top = cgroup.root()
    own = next(
        line for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"
    )
    home = top / own[3:].lstrip("/")
    group = top / f"pgtable-cleanup-{os.getpid()}"
    try:
        (top / "cgroup.subtree_control").write_text("+memory")
        group.mkdir()
    except OSError as error:
        raise CleanupError(
            f"making a cgroup with its memory counted failed: {error}: run as root, or in the lab"
        ) from error
    try:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield group
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def _reclaim(group: Path, size_bytes: int) -> None:
    try:
        (group / "memory.reclaim").write_text(str(size_bytes))
    except BlockingIOError:  # less than that was found
        pass
    except OSError as error:
        raise CleanupError(
            f"page reclaim by {group}/memory.reclaim failed: {error}: it takes Linux 5.19"
        ) from error


PART = WorkersFile()
