# SPDX-License-Identifier: MIT
"""An LMDB database that is read through its mapping, then paged out: its page tables stay."""

import hashlib
import random
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from cleanup import _uapi
from cleanup.errors import CleanupError
from experiments import _memory
from experiments.phases import NO_RELEASE, Parameters
from experiments.scratch import scratch_directory
from experiments.sparse import UNIT, Bounds
from experiments.stage import Stage
from experiments.workload import Remains, Workload

_RECORD = 2000
_BATCH = 4096
_SAMPLE = 256
# Paging out is repeated: it passes over pages that another CPU has yet to put on an LRU list.
_ROUNDS = 5


class Lmdb(Workload):
    """A database of about `size_bytes` of records, in a map twice as large."""

    name = "lmdb-reclaim"
    description = "write 512 MiB of records to LMDB, read them all, page the database out"
    size_bytes = 512 << 20
    quick_bytes = 32 << 20
    granularities = (NO_RELEASE,)
    rehearsal_bytes = 16 << 20

    def details_of(self, parameters: Parameters) -> Mapping[str, Any]:
        """Return how many records there are, of how many bytes."""
        return {"records": parameters.size_bytes // _RECORD, "record_bytes": _RECORD}

    def run(self, stage: Stage, parameters: Parameters) -> Remains:
        """Write the records, read them, page out the mapping, and read some again."""
        try:
            # lmdb is imported only here, as the package itself does not require it.
            import lmdb  # noqa: PLC0415
        except ImportError as error:
            raise CleanupError("Python's lmdb is missing: pip install lmdb") from error
        chooser = random.Random(parameters.seed)  # noqa: S311 -- to be the same at every run
        records = parameters.size_bytes // _RECORD
        content = chooser.randbytes(_RECORD)
        with tempfile.TemporaryDirectory(dir=scratch_directory(), prefix="lmdb-") as directory:
            # The map has room to spare, as a database's has.
            opened = partial(lmdb.open, directory, map_size=2 * parameters.size_bytes)
            with opened() as database:
                _write(database, records, content)
            stage.measure("start")
            with opened() as database:
                file = Path(directory) / "data.mdb"
                start, end = _mapped(file)
                begin = time.monotonic()
                checksum = _checksum(database)
                stage.measure("touched", time.monotonic() - begin)
                begin = time.monotonic()
                left = _page_out(file)
                seconds = time.monotonic() - begin
                stage.clean((start, end), [(0, end // UNIT - -(-start // UNIT))], seconds)
                with database.begin() as transaction:
                    intact = all(
                        transaction.get(_key(number)) == _record(number, content)
                        for number in chooser.choices(range(records), k=_SAMPLE)
                    )
                return Remains(
                    intact and _checksum(database) == checksum,
                    counts={"kB resident after MADV_PAGEOUT": left >> 10},
                )


def _key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _record(number: int, content: bytes) -> bytes:
    return _key(number) + content


def _write(database: Any, records: int, content: bytes) -> None:  # noqa: ANN401 -- lmdb is untyped
    for first in range(0, records, _BATCH):
        with database.begin(write=True) as transaction:
            for number in range(first, min(first + _BATCH, records)):
                transaction.put(_key(number), _record(number, content), append=True)


def _checksum(database: Any) -> bytes:  # noqa: ANN401
    """Return the checksum of all records, read one after the other."""
    digest = hashlib.blake2b()
    with database.begin(buffers=True) as transaction:
        for _key_of, value in transaction.cursor():
            digest.update(value)
    return digest.digest()


def _mapped(file: Path) -> Bounds:
    """Return the part of the database's mapping that the file, which is shorter, backs."""
    start = int(_mapping_of(file).addr.partition("-")[0], 16)
    return start, start + file.stat().st_size


def _mapping_of(file: Path) -> Any:  # noqa: ANN401 -- psutil names its type in no public place
    maps = psutil.Process().memory_maps(grouped=False)
    return next(one for one in maps if one.path == str(file))


def _page_out(file: Path) -> int:
    """Have all of the mapping paged out, and return how many bytes stay.

    Raises CleanupError where more than half stay.
    """
    start, end = _mapped(file)
    before = _mapping_of(file).rss
    for _ in range(_ROUNDS):
        _uapi.madvise(start, end - start, _memory.MADV_PAGEOUT)
    left: int = _mapping_of(file).rss
    if left > before / 2:
        raise CleanupError(
            f"MADV_PAGEOUT left {left >> 10} of {before >> 10} kB of the database in memory: let "
            "TMPDIR name a directory on ext4 or xfs, not on a tmpfs"
        )
    return left


PART = Lmdb()
