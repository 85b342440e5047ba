# SPDX-License-Identifier: MIT
"""Many workers that map one large file: page reclaim takes its pages, but leaves their tables."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cleanup import cgroup
from cleanup.errors import CleanupError
from experiments.phases import NO_RELEASE, Parameters
from experiments.scratch import (
    DATA_ONE_IN,
    reads_as_written,
    resident,
    scratch_directory,
    units_with_data,
    write,
)
from experiments.sparse import PAGE, SparseMapping
from experiments.stage import Stage
from experiments.workers import Orders, workers
from experiments.workload import Remains, Workload

_WORKERS = 8
# Page reclaim spares pages used lately, and takes them only in a later round.
_ROUNDS = 20


class WorkersFile(Workload):
    """A case from the field, scaled down from a file of 390 GiB and 802 MiB of tables a worker."""

    name = "workers-file-32g"
    description = "nine processes read a file of 32 GiB here and there, page reclaim takes it"
    size_bytes = 32 << 30
    quick_bytes = 2 << 30
    granularities = (NO_RELEASE,)
    rehearsal_bytes = 1 << 30

    def details_of(self, _parameters: Parameters) -> Mapping[str, Any]:
        """Return how many processes map the file, and of how many touched pages one holds data."""
        return {"processes": 1 + _WORKERS, "written_one_in": DATA_ONE_IN}

    def run(self, stage: Stage, parameters: Parameters) -> Remains:
        """Have each process read the file, and the kernel reclaim the file's pages."""
        with (
            _group() as group,
            self.mapping(parameters, write=False, directory=scratch_directory()) as mapping,
        ):
            units = units_with_data(mapping)
            orders: Orders = {
                "read": lambda: mapping.touch(0, mapping.units),
                "check": lambda: reads_as_written(mapping, units),
            }
            with workers(_WORKERS, orders) as others:
                stage.pids = others.pids
                stage.measure("start")
                write(mapping, units)
                seconds = mapping.touch(0, mapping.units)
                others.tell("read")
                stage.measure("touched", seconds)
                before = resident(mapping)
                rounds = _reclaim(group, mapping)
                stage.clean(mapping.range, mapping.around())
                intact = [reads_as_written(mapping, units), others.tell("check")]
                return Remains(
                    all(intact),
                    counts={"resident pages before": before, "rounds of page reclaim": rounds},
                )


def _reclaim(group: Path, mapping: SparseMapping) -> int:
    """Have the kernel reclaim all pages of the file; return how many rounds it took."""
    before = resident(mapping)
    for rounds in range(1, _ROUNDS + 1):
        try:
            (group / "memory.reclaim").write_text(str(before * PAGE))
        except BlockingIOError:  # the kernel reclaimed less than was asked
            pass
        except OSError as error:
            raise CleanupError(
                f"page reclaim by {group}/memory.reclaim failed: {error}: it takes Linux 5.19"
            ) from error
        after = resident(mapping)
        if not after:
            return rounds
    raise CleanupError(
        f"page reclaim left {after} of {before} pages of the file in memory: let "
        "TMPDIR name a directory on ext4 or xfs, not on a tmpfs"
    )


@contextmanager
def _group() -> Iterator[Path]:
    """Put this process in a new cgroup, to reclaim pages of that alone.  Raises CleanupError."""
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


PART = WorkersFile()
