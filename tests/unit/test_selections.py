# SPDX-License-Identifier: MIT
"""Tests of `scan` and `reclaim` of all processes, of a cgroup, and of a file's mappers."""

import errno
import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from click.testing import Result

from cleanup import _uapi, cgroup, proc, rmap
from cleanup.commands import _report, _selection
from cleanup.ranges import Range
from unit.test_commands import PROCESS, REPORT, keys, run

if TYPE_CHECKING:
    from unit.conftest import FakeModule

PAGE = mmap.PAGESIZE
READING = {"source": None, "bytes_before": None, "bytes_after": None}


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Start three processes, and yield their pids in ascending order."""
    with ExitStack() as stack:
        made = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
            ).pid
            for _ in range(3)
        ]
        yield sorted(made)


@pytest.fixture
def host(
    children: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: "FakeModule"
) -> list[int]:
    """Fake a host of the children and this process; its page tables shrink by what is freed."""

    def pagetables() -> int:
        return 1000 * PAGE - sum(4 * PAGE for call in module.calls if not scans(call))

    monkeypatch.setattr(psutil, "pids", lambda: [os.getpid(), *children])
    monkeypatch.setattr(proc, "pagetables_bytes", pagetables)
    monkeypatch.setattr(cgroup, "root", lambda: tmp_path)
    return [*children, os.getpid()]


@pytest.fixture
def group(tmp_path: Path, children: list[int], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fake a cgroup that has the first child, and one below it that has the second."""
    for path, pid in ((tmp_path / "a", children[0]), (tmp_path / "a/b", children[1])):
        path.mkdir()
        (path / "cgroup.procs").write_text(f"{pid}\n")
        (path / "cgroup.controllers").write_text("")
    (tmp_path / "a/memory.stat").write_text("pagetables 40960\n")
    monkeypatch.setattr(cgroup, "root", lambda: tmp_path)
    monkeypatch.setattr(cgroup, "LAZY_SECONDS", 4 * proc.SETTLE_SECONDS)
    return tmp_path / "a"


def scans(call: dict[str, Any]) -> bool:
    return bool(call["flags"] & _uapi.SCAN_ONLY)


def target_of(call: dict[str, Any]) -> int:
    """Return the pid behind a call's pidfd."""
    if call["pidfd"] < 0:
        return os.getpid()
    lines = Path(f"/proc/self/fdinfo/{call['pidfd']}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))


def document(result: Result) -> Any:  # noqa: ANN401 -- JSON
    return json.loads(result.stdout)


def pids(found: Any) -> list[int]:  # noqa: ANN401 -- JSON
    return [process["pid"] for process in found["processes"]]


@pytest.mark.parametrize(("verb", "freed"), [("scan", 0), ("reclaim", 4)])
def test_all_this_process_last(
    module: "FakeModule", host: list[int], verb: str, freed: int
) -> None:
    result = run(verb, "--all", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = document(result)
    # The report leaves out the root cgroup, which has no page-table figure on this host.
    assert keys(found) == REPORT | {"pagetables": {"host": READING}}
    assert pids(found) == host
    assert all(keys(process) == PROCESS for process in found["processes"])
    assert found["total"]["freed"]["pte"] == 4 * freed
    assert found["total"]["complete"] is True
    assert found["pagetables"]["host"] == {
        "source": "/proc/meminfo",
        "bytes_before": 1000 * PAGE,
        "bytes_after": (1000 - 4 * freed) * PAGE,
    }


@pytest.mark.parametrize(("figure", "shown"), [(0, False), (40960, True)])
def test_all_shows_what_is_charged_to_cgroups_if_anything_is(
    module: "FakeModule", host: list[int], tmp_path: Path, figure: int, shown: bool
) -> None:
    (tmp_path / "memory.stat").write_text(f"pagetables {figure}\n")
    assert ("cgroup" in document(run("scan", "--all", "--json"))["pagetables"]) == shown
    assert ("memory.stat" in run("scan", "--all").stdout) == shown


def test_all_leaves_out_what_has_no_address_space(
    module: "FakeModule", host: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(psutil, "pids", lambda: [zombie.pid, *host])
    assert pids(document(run("scan", "--all", "--json"))) == host
    zombie.wait()


def test_refused_and_vanished_processes_are_counted_and_named(
    module: "FakeModule", host: list[int]
) -> None:
    numbers = {host[0]: errno.EPERM, host[1]: errno.ESRCH}
    module.fails = lambda call: numbers.get(target_of(call), 0)
    result = run("reclaim", "--all", "--json")
    assert result.exit_code == 0
    assert document(result)["errors"] == {"EPERM": 1, "ESRCH": 1}
    assert document(result)["processes"][0]["error"]["errno"] == "EPERM"
    assert document(result)["error"] is None
    refused, gone = result.stderr.splitlines()
    assert refused == (
        "pgtable-cleanup: 1 process left out, EPERM: another process needs CAP_SYS_NICE in its "
        f"user namespace: run as root: {host[0]} {psutil.Process(host[0]).name()}"
    )
    assert "1 process left out, ESRCH: no address space" in gone


def test_if_all_others_refuse_the_command_has_failed(module: "FakeModule", host: list[int]) -> None:
    module.fails = lambda call: errno.EACCES if call["pidfd"] >= 0 else 0
    result = run("reclaim", "--all", "--json")
    assert result.exit_code == 1
    assert document(result)["errors"] == {"EACCES": 3}
    error = document(result)["error"]
    assert (error["errno"], error["hint"]) == ("EACCES", "run as its user or as root")
    assert error["message"].endswith("no process could be cleaned but this command itself")
    assert document(result)["processes"][-1]["result"]["freed"]["pte"] == 4
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert lines[1] == "pgtable-cleanup: no process could be cleaned but this command itself"


def test_a_thread_hinders_no_process(module: "FakeModule", host: list[int], thread: int) -> None:
    result = run("scan", str(thread), str(host[0]), "--json")
    assert [one["pid"] for one in document(result)["processes"] if one["result"]] == [host[0]]
    assert document(result)["errors"] == {"ESRCH": 1}
    assert len(module.calls) == 1
    assert "not reached" not in result.stderr


def test_a_request_that_all_would_refuse_is_made_once(
    module: "FakeModule", host: list[int]
) -> None:
    module.fails = lambda _call: errno.EINVAL
    result = run("reclaim", "--all", "--zero-pages")
    assert result.exit_code == 1
    assert len(module.calls) == 1
    assert module.calls[0]["flags"] & _uapi.ZERO_PAGES
    assert "invalid argument" in result.stderr
    assert "3 processes not reached" in result.stderr


def test_zero_pages_of_a_scan(module: "FakeModule", host: list[int]) -> None:
    assert run("scan", "--zero-pages", host[0]).exit_code == 0
    assert module.calls[0]["flags"] == _uapi.WHOLE_MM | _uapi.SCAN_ONLY | _uapi.ZERO_PAGES


@pytest.mark.parametrize(("verb", "limit", "left"), [("reclaim", 6, 2), ("scan", 15, 5)])
def test_max_tables_bounds_the_whole_command(
    module: "FakeModule", host: list[int], verb: str, limit: int, left: int
) -> None:
    result = run(verb, "--all", "--max-tables", limit, "--json")
    assert result.exit_code == 0
    assert [call["max_tables"] for call in module.calls] == [limit, left]
    found = document(result)
    assert pids(found) == host[:2]
    assert found["not_reached"] == host[2:]
    assert found["total"]["complete"] is False
    assert result.stderr == "pgtable-cleanup: 2 processes not reached\n"


def test_ctrl_c_ends_it_with_what_was_done(module: "FakeModule", host: list[int]) -> None:
    def interrupting(call: dict[str, Any]) -> int:
        if target_of(call) == host[1]:
            signal.raise_signal(signal.SIGINT)
        return 0

    module.fails = interrupting
    handler = signal.getsignal(signal.SIGINT)
    result = run("reclaim", "--all", "--json")
    assert signal.getsignal(signal.SIGINT) is handler
    assert result.exit_code == 1
    found = document(result)
    assert found["interrupted"] is True
    assert pids(found) == host[:2]
    # The tables that the interrupted call had freed are counted, too.
    assert found["total"]["freed"]["pte"] == 8
    assert found["not_reached"] == host[2:]
    assert "interrupted: the report shows what was done until then" in result.stderr


def test_a_second_ctrl_c_does_not_wait_for_the_call(module: "FakeModule", host: list[int]) -> None:
    def interrupting(_call: dict[str, Any]) -> int:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second Ctrl-C was not heeded")

    module.fails = interrupting
    result = run("reclaim", "--all", "--json")
    assert result.exit_code == 1
    assert document(result)["interrupted"] is True
    assert document(result)["processes"][0]["result"] is None


def test_ctrl_c_while_the_figures_settle(
    module: "FakeModule", group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    result = run("reclaim", "--cgroup", "a", "--json")
    assert result.exit_code == 1
    assert document(result)["interrupted"] is True
    assert document(result)["total"]["freed"]["pte"] == 8
    assert document(result)["pagetables"]["cgroup"]["bytes_after"] == 40960


def test_a_process_that_exits_after_the_call_was_cleaned(
    module: "FakeModule", children: list[int]
) -> None:
    def fatal(call: dict[str, Any]) -> int:
        process = psutil.Process(target_of(call))
        process.kill()
        process.wait()
        return 0

    module.fails = fatal
    result = run("reclaim", children[0], "--json")
    assert result.exit_code == 0
    (process,) = document(result)["processes"]
    assert process["result"]["freed"]["pte"] == 4
    assert process["vmpte_bytes_before"] > 0
    assert not process["vmpte_bytes_after"]


def test_a_table_of_many_processes_shows_those_with_something_to_tell(
    module: "FakeModule", host: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {host[0]: "[/small]", host[1]: "large", host[2]: "medium"}
    empty = {host[0]: 1, host[1]: 7, host[2]: 5, host[3]: 0}
    monkeypatch.setattr(_report, "MOST_ROWS", 2)
    monkeypatch.setattr("cleanup.commands._targets.name_of", lambda pid: names.get(pid, "this"))

    # The fake module counts before it calls `fails`, which thus sets the next call's count.
    coming = iter([*host[1:], host[0]])

    def next_one(_call: dict[str, Any]) -> int:
        module.empty = empty[next(coming)]
        return 0

    module.fails = next_one
    module.empty = empty[host[0]]
    lines = run("reclaim", "--all").stdout.splitlines()
    assert lines[1].split()[:2] == [str(host[1]), "large"]
    assert lines[1].split()[-3:-2] == ["7"]
    assert lines[2].split()[:2] == [str(host[2]), "medium"]
    assert lines[3].split()[:2] == ["2", "more"]
    assert lines[3].split()[-5:] == ["20", "1", "1", "19", "mapped"]
    assert lines[4].split()[0] == "total"
    assert lines[4].split()[-5:] == ["40", "13", "13", "27", "mapped"]
    assert lines[5].startswith("page tables by /proc/meminfo: 4000 kB, then ")
    assert len(lines) == 6


def test_a_cgroup_and_those_below_it(
    module: "FakeModule", group: Path, children: list[int]
) -> None:
    for name in ("a", str(group)):
        result = run("reclaim", "--cgroup", name, "--json")
        assert (result.exit_code, result.stderr) == (0, "")
        found = document(result)
        assert keys(found) == REPORT | {"pagetables": {"cgroup": READING}}
        assert found["selection"] == {"by": "cgroup", "what": str(group)}
        assert pids(found) == children[:2]
        assert found["pagetables"]["cgroup"]["source"] == str(group / "memory.stat")
        assert found["pagetables"]["cgroup"]["bytes_before"] == 40960
    assert run("reclaim", "--cgroup", "a/c").exit_code == 1


def test_a_cgroup_without_the_memory_controller(module: "FakeModule", group: Path) -> None:
    found = document(run("reclaim", "--cgroup", "a/b", "--json"))
    assert found["pagetables"]["cgroup"]["bytes_before"] is None
    assert found["pagetables"]["cgroup"]["bytes_after"] is None
    text = run("scan", "--cgroup", "a/b").stdout
    assert "b/memory.stat: unknown, as the memory controller is not enabled there" in text


def test_a_cgroup_whose_figure_lags_behind(
    module: "FakeModule", group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's figure is read until it has fallen by what was freed."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            (group / "memory.stat").write_text(f"pagetables {40960 - 8 * PAGE}\n")

    monkeypatch.setattr("time.sleep", sleep)
    found = document(run("reclaim", "--cgroup", "a", "--json"))
    assert found["pagetables"]["cgroup"]["bytes_after"] == 40960 - 8 * PAGE
    assert len(waits) == 3
    # A figure that never falls is awaited for as long as the kernel may take, and no longer.
    waits.clear()
    monkeypatch.setattr("time.sleep", waits.append)
    run("reclaim", "--cgroup", "a")
    assert cgroup.LAZY_SECONDS <= sum(waits) <= cgroup.LAZY_SECONDS + 2 * proc.SETTLE_SECONDS


def test_processes_that_start_in_the_cgroup_meanwhile(
    module: "FakeModule", group: Path, children: list[int]
) -> None:
    def starting(_call: dict[str, Any]) -> int:
        (group / "b/cgroup.procs").write_text(f"{children[2]}\n{children[1]}\n")
        return 0

    module.fails = starting
    assert pids(document(run("reclaim", "--cgroup", "a", "--json"))) == children


def test_a_cgroup_that_never_stops_starting_processes(
    module: "FakeModule", group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []

    def more(_directory: Path) -> set[int]:
        rounds.append(len(rounds))
        return set(range(10**9, 10**9 + len(rounds)))

    monkeypatch.setattr(cgroup, "processes", more)
    result = run("reclaim", "--cgroup", "a", "--json")
    assert len(rounds) == _selection.CGROUP_ROUNDS
    # All processes vanished and none refused, so the command succeeds.
    assert document(result)["errors"] == {"ESRCH": len(rounds)}
    assert result.exit_code == 0


def test_an_empty_cgroup(module: "FakeModule", group: Path) -> None:
    (group / "b/cgroup.procs").write_text("")
    result = run("reclaim", "--cgroup", "a/b", "--json")
    assert result.exit_code == 0
    assert document(result)["processes"] == []
    assert result.stderr == f"pgtable-cleanup: no process in {group / 'b'}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * PAGE))
    return path


def test_mappers_only_where_they_map_the_file(
    module: "FakeModule", file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "pids", lambda: [os.getpid()])
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 4 * PAGE) as memory:
        spans = ((_uapi.address_of(memory), 4 * PAGE),)
        for name in (file, f"/proc/self/fd/{opened.fileno()}"):
            result = run("reclaim", "--mappers", name, "--json")
            assert (result.exit_code, result.stderr) == (0, "")
            found = document(result)
            assert keys(found) == REPORT
            assert found["selection"] == {"by": "mappers", "what": str(name)}
            assert pids(found) == [os.getpid()]
    assert [call["ranges"] for call in module.calls] == [spans, spans]
    assert not any(call["flags"] & _uapi.WHOLE_MM for call in module.calls)


def test_mappings_that_go_meanwhile_are_no_error(
    module: "FakeModule", children: list[int], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapper = rmap.Mapper(children[0], (Range(PAGE, PAGE),))
    monkeypatch.setattr(_selection, "mappers", lambda _path, **_refused: [mapper])
    module.holes = 1
    module.fails = lambda _call: errno.ENOMEM
    result = run("reclaim", "--mappers", file, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    (process,) = document(result)["processes"]
    assert process["error"] is None
    assert (process["result"]["freed"]["pte"], process["result"]["holes"]) == (4, 1)


def test_mappers_that_may_not_be_seen(
    module: "FakeModule", children: list[int], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(_path: str, refused: rmap.Refused) -> list[rmap.Mapper]:
        refused(children[1], PermissionError(errno.EACCES, "Permission denied"))
        return [rmap.Mapper(children[0], (Range(PAGE, PAGE),))]

    monkeypatch.setattr(_selection, "mappers", found)
    result = run("reclaim", "--mappers", file, "--json")
    assert result.exit_code == 0
    assert document(result)["errors"] == {"EACCES": 1}
    assert len(module.calls) == 1
    assert f"EACCES: its mappings may not be read: run as its user or as root: {children[1]}" in (
        result.stderr
    )


def test_a_file_that_nobody_maps(module: "FakeModule", host: list[int], file: Path) -> None:
    result = run("reclaim", "--mappers", file, "--json")
    assert result.exit_code == 0
    assert document(result)["processes"] == []
    assert document(result)["total"]["complete"] is True
    assert result.stderr == f"pgtable-cleanup: no process maps {file}\n"
    assert not module.calls


def test_no_file_to_be_mapped(module: "FakeModule", tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    result = run("reclaim", "--mappers", missing)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"pgtable-cleanup: {missing}: no such file or directory: name a file, or /proc/PID/fd/N\n"
    )
    result = run("scan", "--mappers", tmp_path)
    assert result.exit_code == 1
    assert "is not a regular file: only files and memfds have mappers" in result.stderr
