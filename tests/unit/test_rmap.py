# SPDX-License-Identifier: MIT
"""Tests of finding who maps a file, on this machine's own /proc."""

import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cleanup
from cleanup import _uapi, rmap

PAGE = mmap.PAGESIZE
# A program that maps the file argv[1] shared, from its second page on, and prints the address.
MAP_IT = """
import mmap, sys
from cleanup import _uapi, rmap
with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 2 * mmap.PAGESIZE, offset=mmap.PAGESIZE)
print(_uapi.address_of(memory), flush=True)
input()
"""


def of(found: list[cleanup.Mapper], pid: int) -> tuple[tuple[int, int], ...]:
    (ranges,) = [mapper.ranges for mapper in found if mapper.pid == pid] or [()]
    return ranges


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mapped by 1"
    path.write_bytes(bytes(4 * PAGE))
    return path


def test_nobody_maps_a_new_file(file: Path) -> None:
    assert cleanup.mappers(file) == []


@pytest.mark.parametrize("flags", [mmap.MAP_SHARED, mmap.MAP_PRIVATE], ids=["shared", "private"])
def test_mappings_of_this_process(file: Path, flags: int) -> None:
    with file.open("r+b") as opened:
        memory = mmap.mmap(opened.fileno(), 3 * PAGE, flags=flags)
        try:
            span = (_uapi.address_of(memory), 3 * PAGE)
            assert of(cleanup.mappers(file), os.getpid()) == (span,)
        finally:
            memory.close()
    assert cleanup.mappers(file) == []


def test_another_process_and_its_deleted_file(file: Path) -> None:
    with (
        file.open("rb") as opened,
        subprocess.Popen(
            [sys.executable, "-P", "-c", MAP_IT, file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child,
    ):
        assert child.stdout is not None
        address = int(child.stdout.readline())
        wanted = [cleanup.Mapper(child.pid, (cleanup.Range(address, 2 * PAGE),))]
        assert cleanup.mappers(file) == wanted
        file.unlink()
        assert cleanup.mappers(f"/proc/self/fd/{opened.fileno()}") == wanted
        # A new file under the old name is another file.
        file.write_bytes(bytes(PAGE))
        assert cleanup.mappers(file) == []


def test_neighbouring_mappings_are_one_range_and_others_are_not() -> None:
    fd = os.memfd_create("tests")
    os.ftruncate(fd, 8 * PAGE)
    with mmap.mmap(fd, 8 * PAGE) as memory:
        start = _uapi.address_of(memory)
        # Advice about forking splits the VMA in three.
        memory.madvise(mmap.MADV_DONTFORK, 2 * PAGE, PAGE)
        assert len(Path("/proc/self/maps").read_text().split("memfd:tests")) == 4
        assert of(cleanup.mappers(f"/proc/self/fd/{fd}"), os.getpid()) == ((start, 8 * PAGE),)
        with mmap.mmap(fd, PAGE) as other:
            found = of(cleanup.mappers(f"/proc/self/fd/{fd}"), os.getpid())
            assert sum(length for _, length in found) == 9 * PAGE
            assert any(at <= _uapi.address_of(other) < at + length for at, length in found)
        # Two memfds of one name are two files.
        namesake = os.memfd_create("tests")
        assert cleanup.mappers(f"/proc/self/fd/{namesake}") == []
        # Truncating the file leaves the mapping and its tables.
        os.ftruncate(fd, 0)
        assert of(cleanup.mappers(f"/proc/self/fd/{fd}"), os.getpid()) == ((start, 8 * PAGE),)
        os.close(namesake)
    os.close(fd)


def test_the_file_system_of_the_interpreter() -> None:
    """Mappings of the interpreter are found even on overlayfs: maps and stat() differ in device."""
    assert of(cleanup.mappers(sys.executable), os.getpid())


def test_inodes_of_one_number_on_one_device(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only map_files tells files of equal device and inode apart, as in two btrfs subvolumes."""
    namesake = tmp_path / "namesake"
    namesake.write_bytes(bytes(PAGE))
    with (
        file.open("r+b") as one,
        namesake.open("r+b") as other,
        mmap.mmap(one.fileno(), PAGE) as memory,
        mmap.mmap(other.fileno(), PAGE) as wrong,
    ):
        spans = [(_uapi.address_of(mapped), PAGE) for mapped in (memory, wrong)]
        both = b"|".join(b"%s %s" % line_of(address) for address, _ in spans)
        pattern = re.compile(
            rb"^([0-9a-f]+)-([0-9a-f]+) \S+ [0-9a-f]+ (?:%s) " % both, re.MULTILINE
        )
        monkeypatch.setattr(rmap, "_lines_of", lambda _fd: (pattern, False))
        stat = Path.stat
        try:
            stat(Path(f"/proc/self/map_files/{spans[0][0]:x}-{spans[0][0] + PAGE:x}"))
        except PermissionError:
            pytest.skip("only CAP_CHECKPOINT_RESTORE sees what /proc/PID/map_files links to")
        assert of(cleanup.mappers(file), os.getpid()) == (spans[0],)

        def denied(path: Path) -> os.stat_result:
            if "map_files" in path.parts:
                raise PermissionError
            return stat(path)

        monkeypatch.setattr(Path, "stat", denied)
        found = of(cleanup.mappers(file), os.getpid())
        assert sum(length for _, length in found) == 2 * PAGE


def line_of(address: int) -> tuple[bytes, bytes]:
    """Return device and inode from the line of /proc/self/maps that begins at an address."""
    lines = Path("/proc/self/maps").read_bytes().splitlines()
    line = next(line for line in lines if int(line.split(b"-")[0], 16) == address)
    device, inode = line.split()[3:5]
    return device, inode


def test_a_process_that_may_not_be_looked_at(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = Path.read_bytes
    monkeypatch.setattr("psutil.pids", lambda: [1, os.getpid()])

    def denied(path: Path) -> bytes:
        if path == Path("/proc/1/maps"):
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    refused: list[int] = []
    assert cleanup.mappers(file, refused=lambda pid, _error: refused.append(pid)) == []
    assert refused == [1]
    assert cleanup.mappers(file) == []


def test_no_regular_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo, Path(os.devnull)):
        with pytest.raises(ValueError, match=f"{path} is not a regular file"):
            cleanup.mappers(path)
    with pytest.raises(FileNotFoundError):
        cleanup.mappers(tmp_path / "missing")


def test_no_descriptor_and_no_mapping_is_left(file: Path) -> None:
    def held() -> tuple[int, str]:
        return len(list(Path("/proc/self/fd").iterdir())), Path("/proc/self/maps").read_text()

    before = held()[0]
    cleanup.mappers(file)
    after = held()
    assert after[0] == before
    assert file.name not in after[1]
