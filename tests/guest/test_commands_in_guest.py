# SPDX-License-Identifier: MIT
"""Tests of the command line on whole hosts, on cgroups, and on all processes that map a file.

Each test makes processes with a known number of empty tables and judges the command by what VmPTE,
memory.stat and /proc/meminfo say, and by the bytes that these processes read afterwards.
"""

import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import cleanup
from cleanup import _uapi
from cleanup.cgroup import LAZY_SECONDS
from guest.identity import CAP_SYS_NICE, become_nobody, dumpable_nobody
from guest.layout import PAGE, UNIT, Child, area, child, memfd, punch_hole, vmpte
from guest.others import COMMAND, command, in_fork

UNITS = 64
Pause = Callable[[], None]


def document(done: "subprocess.CompletedProcess[str]", code: int = 0) -> Any:  # noqa: ANN401
    """Check a command's exit code, and return the JSON that it printed."""
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def of(found: Any, pid: int) -> Any:  # noqa: ANN401 -- JSON
    (process,) = [process for process in found["processes"] if process["pid"] == pid]
    return process


def total(counts: dict[str, int]) -> int:
    return sum(counts.values())


def emptied(
    units: int = UNITS, identity: Callable[[], object] = lambda: None
) -> Callable[[Pause], None]:
    """Return a child's work: make `units` empty tables, and one with a byte that must stay."""

    def work(pause: Pause) -> None:
        identity()
        with area(units + 1) as made:
            made.touch(5)
            made.release(*range(units))
            pause()
            assert made.values() == bytes(units) + b"\x05"

    return work


@pytest.fixture
def children() -> Iterator[list[Child]]:
    """Make three processes with UNITS empty tables each, in ascending order of pid."""
    with ExitStack() as stack:
        yield [stack.enter_context(child(emptied())) for _ in range(3)]


@pytest.fixture
def group() -> Iterator[Path]:
    """Make a cgroup with the memory controller, and one below it without."""
    top = Path("/sys/fs/cgroup")
    (top / "cgroup.subtree_control").write_text("+memory")
    made = top / "tests"
    below = made / "below"
    below.mkdir(parents=True)
    yield made
    below.rmdir()
    made.rmdir()


def enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


def test_a_cgroups_tables_are_freed_and_its_memory_stat_falls(group: Path) -> None:
    units = 1024
    with ExitStack() as stack:
        for where in (group, group, group / "below"):
            stack.enter_context(child(emptied(units, partial(enter, where))))
        outside = stack.enter_context(child(emptied(units)))
        before = vmpte(outside.pid)
        found = document(command("reclaim", "--cgroup", "tests", "--json"))
        assert len(found["processes"]) == 3
        assert all(process["result"]["freed"]["pte"] >= units for process in found["processes"])
        for process in found["processes"]:
            fall = process["vmpte_bytes_before"] - process["vmpte_bytes_after"]
            assert fall == total(process["result"]["freed"]) * PAGE
        reading = found["pagetables"]["cgroup"]
        assert reading["source"] == str(group / "memory.stat")
        fall = reading["bytes_before"] - reading["bytes_after"]
        freed = total(found["total"]["freed"]) * PAGE
        # The kernel lags behind by up to 64 pages for each CPU, in either figure.
        assert abs(fall - freed) <= 256 * PAGE
        assert vmpte(outside.pid) == before


def test_a_cgroup_without_the_memory_controller(group: Path) -> None:
    with child(emptied(UNITS, partial(enter, group / "below"))) as target:
        found = document(command("reclaim", "--cgroup", group / "below", "--json"))
        assert of(found, target.pid)["result"]["freed"]["pte"] >= UNITS
        assert found["pagetables"]["cgroup"]["bytes_before"] is None
        assert found["pagetables"]["cgroup"]["bytes_after"] is None


def test_all_with_a_process_that_vanishes_midway(children: Sequence[Child]) -> None:
    doomed = Child(emptied())
    call = _uapi.call

    def kill_and_call(fd: int, **arguments: Any) -> _uapi.Counts:  # noqa: ANN401
        """At the first call kill the doomed process, which was found but not yet worked on."""
        _uapi.call = call
        doomed.kill()
        while "VmPTE" in Path(f"/proc/{doomed.pid}/status").read_text():
            pass
        return call(fd, **arguments)

    def prepare() -> None:
        _uapi.call = kill_and_call

    found = document(command("reclaim", "--all", "--json", prepare=prepare))
    doomed.reap()
    assert of(found, doomed.pid)["error"]["errno"] == "ESRCH"
    assert found["errors"] == {"ESRCH": 1}
    assert len(found["processes"]) > len(children) + 2  # also this process, the command and pid 1
    for each in children:
        process = of(found, each.pid)
        assert process["result"]["freed"]["pte"] >= UNITS
        assert process["vmpte_bytes_after"] == vmpte(each.pid)
    # The command works on its own process last.
    assert found["processes"][-1]["pid"] not in (os.getpid(), *(each.pid for each in children))


def test_all_lets_the_hosts_page_tables_fall() -> None:
    units = 2048
    with child(emptied(units)) as target:
        found = document(command("reclaim", "--all", "--json"))
        assert found["errors"] == {}
        assert of(found, target.pid)["result"]["freed"]["pte"] >= units
        reading = found["pagetables"]["host"]
        fall = reading["bytes_before"] - reading["bytes_after"]
        assert abs(fall - total(found["total"]["freed"]) * PAGE) <= 256 * PAGE
        assert document(command("scan", "--all", "--json"))["frees"] is False


def test_all_shows_what_is_charged_to_cgroups(group: Path) -> None:
    """The page tables charged to cgroups are shown, and left out if only the root has any."""
    units = 1024
    with child(emptied(units, partial(enter, group))):
        time.sleep(LAZY_SECONDS)
        found = document(command("scan", "--all", "--json"))
        reading = found["pagetables"]["cgroup"]
        assert reading["source"] == "/sys/fs/cgroup/memory.stat"
        assert (
            units * PAGE <= reading["bytes_before"] <= found["pagetables"]["host"]["bytes_before"]
        )
    time.sleep(LAZY_SECONDS)
    assert "cgroup" not in document(command("scan", "--all", "--json"))["pagetables"]


@pytest.mark.parametrize("verb", ["scan", "reclaim"])
def test_the_device_is_opened_once_a_command(children: Sequence[Child], verb: str) -> None:
    with mmap.mmap(-1, PAGE) as counter:

        def count(event: str, arguments: tuple[object, ...]) -> None:
            if event == "open" and arguments[0] == _uapi.DEVICE:
                counter[0] += 1

        done = command(
            verb, *(each.pid for each in children), prepare=partial(sys.addaudithook, count)
        )
        assert (done.returncode, counter[0]) == (0, 1), done.stderr


def test_all_as_an_unprivileged_user(children: Sequence[Child]) -> None:
    before = [vmpte(each.pid) for each in children]
    done = command("reclaim", "--all", "--json", prepare=become_nobody)
    found = document(done, 1)
    *others, own = found["processes"]
    assert found["errors"] == {"EPERM": len(others)}
    assert {each.pid for each in children} < {process["pid"] for process in others}
    assert own["error"] is None
    assert "no process could be cleaned but this command itself" in done.stderr
    assert "CAP_SYS_NICE" in done.stderr
    assert [vmpte(each.pid) for each in children] == before


def test_all_as_a_user_who_may_touch_some(children: Sequence[Child]) -> None:
    with child(emptied(UNITS, dumpable_nobody)) as ours:
        done = command("reclaim", "--all", "--json", prepare=partial(become_nobody, CAP_SYS_NICE))
        found = document(done)
        assert of(found, ours.pid)["result"]["freed"]["pte"] >= UNITS
        assert found["errors"] == {"EACCES": len(found["processes"]) - 2}
        assert "processes left out, EACCES: ptrace access denied" in done.stderr


def test_max_tables_bounds_the_whole_command(children: Sequence[Child]) -> None:
    pids = [each.pid for each in children]
    before = [vmpte(pid) for pid in pids]
    done = command("reclaim", "--max-tables", UNITS + 40, "--levels", "pte", "--json", *pids)
    found = document(done)
    freed = [process["result"]["freed"]["pte"] for process in found["processes"]]
    assert sum(freed) == UNITS + 40
    assert len(freed) == 2
    assert freed[0] >= UNITS
    fall = [was - vmpte(pid) for was, pid in zip(before, pids, strict=True)]
    assert fall == [freed[0] * PAGE, freed[1] * PAGE, 0]
    assert found["not_reached"] == pids[2:]


def test_ctrl_c_tells_what_was_done(children: Sequence[Child]) -> None:
    """All freed tables are in the counts, though the signal ends a call early."""
    units = 32768
    with child(emptied(units)) as large:
        before = vmpte(large.pid)
        # A hold of 1 ns frees one table, so that the command takes a while.
        with subprocess.Popen(
            [
                COMMAND,
                "reclaim",
                "--max-hold",
                "1ns",
                "--json",
                str(large.pid),
                str(children[0].pid),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while before - vmpte(large.pid) < 100 * PAGE:
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 1, stderr
        found = json.loads(stdout)
        assert found["interrupted"] is True
        assert found["not_reached"] == [children[0].pid]
        freed = total(of(found, large.pid)["result"]["freed"])
        assert 100 <= freed < units
        assert before - vmpte(large.pid) == freed * PAGE


def mapper(
    fd: int, flags: int = mmap.MAP_SHARED, identity: Callable[[], object] = lambda: None
) -> Callable[[Pause], None]:
    """Return a child's work: map and read a file; later, check that only its first unit is left."""

    def work(pause: Pause) -> None:
        identity()
        with area(UNITS, flags, fd) as made:
            assert made.values() == bytes([7] * UNITS)
            pause()
            assert made.values() == b"\x07" + bytes(UNITS - 1)

    return work


def fill(fd: int) -> None:
    """Write a seven to each unit of a file, as `mapper` expects it."""
    os.ftruncate(fd, UNITS * UNIT)
    for offset in range(0, UNITS * UNIT, UNIT):
        os.pwrite(fd, b"\x07", offset)


def puncher(fd: int) -> Callable[[Pause], None]:
    """Return the work of a `mapper` that punches all but the first unit once it is resumed."""

    def work(pause: Pause) -> None:
        with area(UNITS, mmap.MAP_SHARED, fd) as made:
            assert made.values() == bytes([7] * UNITS)
            pause()
            punch_hole(fd, UNIT, (UNITS - 1) * UNIT)
            pause()
            assert made.values() == b"\x07" + bytes(UNITS - 1)
            # A write through a new table reaches the file.
            made.touch(9, first=1)
            assert os.pread(fd, 1, UNIT) == b"\x09"
            made.touch(0, first=1)

    return work


def punch(stack: ExitStack, fd: int) -> Child:
    """Fork a further mapper, and have it punch the file."""
    made = stack.enter_context(child(puncher(fd)))
    made.resume()
    made.wait_ready()
    return made


def test_one_hole_and_one_command_for_all_that_map_a_memfd() -> None:
    with ExitStack() as stack:
        fd = stack.enter_context(memfd(UNITS * UNIT))
        fill(fd)
        mappers = [stack.enter_context(child(mapper(fd))) for _ in range(4)]
        apart = stack.enter_context(child(emptied()))
        mappers.append(punch(stack, fd))
        before = {each.pid: vmpte(each.pid) for each in (*mappers, apart)}
        content = os.pread(fd, UNITS * UNIT, 0)
        done = command("reclaim", "--mappers", f"/proc/{os.getpid()}/fd/{fd}", "--json")
        found = document(done)
        assert done.stderr == ""
        assert {process["pid"] for process in found["processes"]} == {each.pid for each in mappers}
        for each in mappers:
            result = of(found, each.pid)["result"]
            assert result["freed"]["pte"] == UNITS - 1
            assert result["skipped"]["mapped"] == 1
            assert before[each.pid] - vmpte(each.pid) == total(result["freed"]) * PAGE
        # The command leaves empty tables of other processes alone.
        assert vmpte(apart.pid) == before[apart.pid]
        assert os.pread(fd, UNITS * UNIT, 0) == content


def test_mappers_of_another_user_are_refused_and_counted() -> None:
    with ExitStack() as stack:
        fd = stack.enter_context(memfd(UNITS * UNIT))
        fill(fd)
        ours = [stack.enter_context(child(mapper(fd, identity=dumpable_nobody))) for _ in range(3)]
        roots = punch(stack, fd)
        before = vmpte(roots.pid)
        file = f"/proc/self/fd/{fd}"

        # Without the capability, all processes are refused.
        found = document(
            command("reclaim", "--mappers", file, "--json", prepare=dumpable_nobody), 1
        )
        assert found["errors"]["EPERM"] == len(ours)
        assert of(found, roots.pid)["error"]["errno"] == "EACCES"

        identity = partial(dumpable_nobody, CAP_SYS_NICE)
        done = command("reclaim", "--mappers", file, "--json", prepare=identity)
        found = document(done)
        for each in ours:
            assert of(found, each.pid)["result"]["freed"]["pte"] == UNITS - 1
        assert of(found, roots.pid)["error"]["errno"] == "EACCES"
        assert set(found["errors"]) == {"EACCES"}
        assert "EACCES: its mappings may not be read" in done.stderr
        assert vmpte(roots.pid) == before

        found = document(command("reclaim", "--mappers", f"/proc/{roots.pid}/fd/{fd}", "--json"))
        assert of(found, roots.pid)["result"]["freed"]["pte"] == UNITS - 1
        assert len(found["processes"]) == len(ours) + 1
        assert found["total"]["freed"]["pte"] == UNITS - 1


@pytest.mark.parametrize("deleted", [False, True], ids=["by name", "deleted"])
def test_mappers_of_a_file_on_a_disk(scratch: Path, deleted: bool) -> None:
    path = scratch / "mapped"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fill(fd)
        with ExitStack() as stack:
            mappers = [
                stack.enter_context(child(mapper(fd, flags)))
                for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE)
            ]
            mappers.append(punch(stack, fd))
            before = {each.pid: vmpte(each.pid) for each in mappers}
            name: object = path
            if deleted:
                path.unlink()
                name = f"/proc/{mappers[0].pid}/fd/{fd}"
            scanned = document(command("scan", "--mappers", name, "--json"))
            assert scanned["total"]["empty"]["pte"] == len(mappers) * (UNITS - 1)
            found = document(command("reclaim", "--mappers", name, "--json"))
            for each in mappers:
                result = of(found, each.pid)["result"]
                assert result["freed"]["pte"] == UNITS - 1
                assert before[each.pid] - vmpte(each.pid) == total(result["freed"]) * PAGE
    finally:
        os.close(fd)
        path.unlink(missing_ok=True)


def test_mappers_of_a_file_on_an_overlay() -> None:
    """Mappers are found, though /proc/PID/maps shows another device than stat() on an overlay.

    The guest's root is an overlay, and this process maps the C library from it.
    """
    lines = Path("/proc/self/maps").read_text().splitlines()
    line = next(line for line in lines if "/libc.so" in line)
    path = Path(line.split()[5])
    start = int(line.split("-")[0], 16)

    major, minor = (int(part, 16) for part in line.split()[3].split(":"))
    assert os.makedev(major, minor) != path.stat().st_dev

    def found(path: Path) -> bool:
        """Return whether mappers() lists this process, at the address of its C library."""
        return any(
            address <= start < address + length
            for pid, ranges in cleanup.mappers(path)
            if pid == os.getpid()
            for address, length in ranges
        )

    def found_by_nobody() -> int:
        become_nobody()
        return found(path)

    assert found(path)
    assert not found(path.parent / "libm.so.6")
    assert in_fork(found_by_nobody) == 1
