# SPDX-License-Identifier: MIT
"""An LMDB database that is read through its mapping, then paged out: its tables stay."""

import hashlib
import mmap
import random
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cleanup import _uapi
from cleanup.errors import CleanupError
from experiments import _memory
from experiments.phases import NO_RELEASE, Parameters
from experiments.scratch import scratch_directory
from experiments.sparse import UNIT
from experiments.workload import Clean, Measure, Outcome, Workload

_RECORD = 2000
_BATCH = 4096
_SAMPLE = 256
# A page that another CPU has yet to put on its LRU list is passed over.
_ROUNDS = 5


class Lmdb(Workload):
    """The records are `size_bytes`, about, and the map has as much again."""

    name = "lmdb-reclaim"
    description = "write 512 MiB of records to LMDB, read them all, page the database out"
    size_bytes = 512 << 20
    quick_bytes = 32 << 20
    granularities = (NO_RELEASE,)
    rehearsal_bytes = 16 << 20

    def details_of(self, parameters: Parameters) -> Mapping[str, Any]:
        """Return how many records there are, of how many bytes."""
        return {"records": parameters.size_bytes // _RECORD, "record_bytes": _RECORD}

    def run(self, measure: Measure, clean: Clean, parameters: Parameters) -> Outcome:
        """Write the records, read them, page out the mapping, and read some again."""
        try:
            # Of the tests' requirements, not of the package's.
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
            measure("start")
            with opened() as database:
                mapped = _Mapped.of(Path(directory) / "data.mdb")
                begin = time.monotonic()
                checksum = _checksum(database)
                measure("touched", time.monotonic() - begin)
                begin = time.monotonic()
                left = mapped.page_out()
                measure("released", time.monotonic() - begin, [mapped.range])
                clean(mapped, [(0, mapped.units)])
                with database.begin() as transaction:
                    intact = all(
                        transaction.get(_key(number)) == _record(number, content)
                        for number in chooser.choices(range(records), k=_SAMPLE)
                    )
                return Outcome(
                    intact and _checksum(database) == checksum,
                    counts={"kB resident after MADV_PAGEOUT": left},
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


@dataclass(frozen=True, slots=True)
class _Mapped:
    """The part of the database's mapping that has a file under it."""

    address: int
    length: int

    @classmethod
    def of(cls, file: Path) -> "_Mapped":
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        line = next(line for line in maps.splitlines() if line.endswith(str(file)))
        return cls(int(line.partition("-")[0], 16), file.stat().st_size)

    @property
    def range(self) -> tuple[int, int]:
        return self.address, self.address + self.length

    @property
    def units(self) -> int:
        """Whole ones."""
        start, end = self.range
        return end // UNIT - -(-start // UNIT)

    def zap(self, first: int, last: int) -> None:
        start = -(-self.address // UNIT) * UNIT
        _uapi.madvise(start + first * UNIT, (last - first) * UNIT, mmap.MADV_DONTNEED)

    def page_out(self) -> int:
        """Have all of it paged out: how many kB stay; CleanupError where most does."""
        before = _figures_of(self.address)["Rss"]
        for _ in range(_ROUNDS):
            _uapi.madvise(self.address, self.length, _memory.MADV_PAGEOUT)
        left = _figures_of(self.address)["Rss"]
        if left > before / 2:
            raise CleanupError(
                f"MADV_PAGEOUT left {left} of {before} kB of the database in memory: let TMPDIR "
                "name a directory on ext4 or xfs, not on a tmpfs"
            )
        return left


def _figures_of(address: int) -> dict[str, int]:
    """The figures of a mapping in /proc/self/smaps, in kB, by the address of its start."""
    found: dict[str, int] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if "-" in name.partition(" ")[0]:
            inside = int(name.partition("-")[0], 16) == address
        elif inside and value.endswith("kB"):
            found[name] = int(value.split()[0])
    return found


PART = Lmdb()
