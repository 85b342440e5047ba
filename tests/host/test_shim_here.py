# SPDX-License-Identifier: MIT
"""Tests of libpgtable_cleanup.so in real programs, without the module: its notes and messages."""

import errno
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import _libc
import pytest

from allocator_shim import preloaded
from allocator_shim.errors import NotPreloaded
from preloaded import PRELUDE, SHIM, run, start, stats

MIB = 1 << 20
ABSENT = (
    "pgtable-cleanup: /dev/pgtable_cleanup is not there: the kernel module is not loaded; "
    "empty page tables stay where they are"
)
# No drain falls due by time, however long a busy host keeps a program waiting.
UNTIMED = "backend:null,stats:exit,interval_ms:86400000"


def counted(program: str, conf: str = UNTIMED) -> dict[str, int]:
    """Return what the library counted in a program, less what Python does at its start and end."""
    (whole,) = stats(run(program, conf).stderr)
    other = stats(run("c.madvise(area(1), 4096, DONTNEED)", conf).stderr)
    for key in ("notes", "units"):
        whole[key] -= other[0][key] - 1
    return whole


def test_needs_libc_alone_and_defines_what_it_interposes() -> None:
    needed = subprocess.run(["readelf", "-d", SHIM], capture_output=True, text=True, check=True)
    assert re.findall(r"NEEDED.*\[(.*)\]", needed.stdout) == ["libc.so.6"]
    names = subprocess.run(
        ["nm", "-D", "--defined-only", SHIM], capture_output=True, text=True, check=True
    )
    assert {line.split()[-1] for line in names.stdout.splitlines()} == {
        *("madvise", "process_madvise", "munmap", "mremap", "mmap", "mmap64"),
        *("fallocate", "fallocate64", "ftruncate", "ftruncate64", "prctl", "syscall"),
        *("setuid", "setgid", "seteuid", "setegid", "setreuid", "setregid"),
        *("setresuid", "setresgid", "setgroups", "initgroups", "capset", "unshare", "setns"),
        "__asan_default_options",
        *("pgtable_cleanup_drain", "pgtable_cleanup_stats", "pgtable_cleanup_conf"),
        "pgtable_cleanup_version",
        *("mlock", "mlock2", "mlockall", "pthread_create", "pgtable_cleanup_hooks_install"),
        *("pgtable_cleanup_hooks_take_arenas", "pgtable_cleanup_hooks_1"),
    }


@pytest.mark.parametrize("advice", ["DONTNEED", "FREE", "PAGEOUT"])
def test_a_release_is_noted(advice: str) -> None:
    noted = counted(f"""
        base = area(4)
        for unit in range(4):
            c.fill(base + unit * UNIT, 4096, 1)
            c.madvise(base + unit * UNIT, 4096, {advice})
            c.madvise(base + unit * UNIT + 8192, 4096, {advice})
    """)
    assert (noted["notes"], noted["units"], noted["drains"]) == (8, 4, 0)


def test_remove_of_shared_memory_is_noted() -> None:
    noted = counted("""
        base = area(2, SHARED | m.MAP_ANONYMOUS)
        c.madvise(base, UNIT + 4096, REMOVE)
    """)
    assert (noted["notes"], noted["units"]) == (1, 2)


def test_advice_that_releases_nothing_is_not() -> None:
    assert counted("c.madvise(area(1), 4096, 0); c.madvise(area(1), 4096, 14)")["notes"] == 0


def test_drains_at_the_threshold() -> None:
    noted = counted(
        """
        base = area(64)
        for unit in range(64):
            c.madvise(base + unit * UNIT, 4096, DONTNEED)
        """,
        f"{UNTIMED},threshold:16",
    )
    assert noted["drains"] in (4, 5), "Python's own releases count, too"
    assert noted["tried"] >= 4 * 16


def test_drains_by_time_at_the_next_call() -> None:
    program = """
        base = area(3)
        c.madvise(base, 4096, DONTNEED)
        time.sleep(0.2)
        c.madvise(base + UNIT, 4096, DONTNEED)
    """
    assert counted(program, "backend:null,stats:exit,interval_ms:100")["drains"] >= 1
    assert counted(program)["drains"] == 0


def test_a_thread_sees_to_an_idle_process() -> None:
    program = """
        c.madvise(area(1), 4096, DONTNEED)
        end = time.monotonic() + {}
        while time.monotonic() < end and not c.stats()[1]:
            time.sleep(0.05)
        print(c.stats()[1])
    """
    assert run(program.format(0.5), "backend:null,interval_ms:50").stdout == "0\n"
    assert int(run(program.format(60), "backend:null,interval_ms:50,thread:true").stdout) > 0


def test_a_program_may_drain_itself() -> None:
    program = "c.madvise(area(1), 4096, DONTNEED); c.drain(); print(c.stats()[1])"
    assert run(program, UNTIMED).stdout == "1\n"
    assert _libc.stats() is None, "this process has no such library"
    _libc.drain()


def test_fork_drains_first_and_the_child_begins_anew() -> None:
    ended = run(
        """
        base = area(8)
        for unit in range(8):
            c.madvise(base + unit * UNIT, 4096, DONTNEED)
        if os.fork() == 0:
            c.madvise(base, 4096, DONTNEED)
            sys.exit()
        os.wait()
        """,
        UNTIMED,
    )
    child, parent = stats(ended.stderr)
    assert (child["drains"], child["notes"] <= 3) == (0, True)
    assert parent["drains"] == 1
    assert parent["tried"] >= 8


def test_a_drain_under_way_in_another_thread_does_not_keep_the_child_from_its_own() -> None:
    """Children that are forked while another thread drains can drain themselves and exit."""
    ended = run(
        """
        import threading
        base = area(8)
        def churn():
            while True:
                for unit in range(8):
                    c.madvise(base + unit * UNIT, 4096, DONTNEED)
        threading.Thread(target=churn, daemon=True).start()
        for _ in range(50):
            if os.fork() == 0:
                for unit in range(8):
                    c.madvise(base + unit * UNIT, 4096, DONTNEED)
                os._exit(0 if c.byte(base) == 0 else 1)
            assert os.wait()[1] == 0
        os._exit(0)
        """,
        "backend:null,threshold:2",
    )
    assert ended.stderr == ""


def test_unmapping_concerns_the_edges_alone() -> None:
    noted = counted("c.munmap(area(8) + 4096, 6 * UNIT)")
    assert (noted["notes"], noted["units"]) == (1, 2)
    assert counted("c.munmap(area(8), 6 * UNIT)")["units"] == 0


def test_mapping_over_something_is_unmapping_it() -> None:
    noted = counted("c.mmap(area(8) + 4096, 2 * UNIT, RW, ANON | FIXED)")
    assert (noted["notes"], noted["units"]) == (1, 2)
    assert counted("c.mmap(area(8) + 4096, 4096, RW, ANON)")["notes"] == 0


def test_mremap() -> None:
    moved = counted("""
        base = area(8)
        target = area(8)
        c.fill(base, 4096, 9)
        assert c.mremap(base, 4096, 4096, 3, target) == target
        assert c.byte(target) == 9
    """)
    assert (moved["notes"], moved["units"]) == (1, 1)
    shrunk = counted("base = area(8); assert c.mremap(base, 5 * UNIT, UNIT, 0) == base")
    assert (shrunk["notes"], shrunk["units"]) == (1, 0), "whole units are the kernel's"
    shrunk = counted("base = area(8); assert c.mremap(base, 5 * UNIT, UNIT + 4096, 0) == base")
    assert (shrunk["notes"], shrunk["units"]) == (1, 1)
    left = counted("""
        base = area(8)
        assert c.mremap(base, 4 * UNIT, 4 * UNIT, 1 | 4) != base
    """)
    assert left["units"] == 4, "MREMAP_DONTUNMAP leaves the mapping, and empty tables"


def test_a_hole_in_a_file_is_one_in_its_mappings() -> None:
    program = """
        fd = os.memfd_create("test")
        os.ftruncate(fd, 16 * UNIT)
        first = c.mmap(0, 8 * UNIT, RW, SHARED, fd, 4 * UNIT)
        second = c.mmap(0, 4 * UNIT, RW, SHARED, fd)
        private = c.mmap(0, 4 * UNIT, RW, m.MAP_PRIVATE, fd)
        {}
        c.fallocate(fd, 3, 0, 6 * UNIT)
    """
    # The hole concerns 2 units of `first` and 4 of `second`, and one more of each if unaligned.
    assert counted(program.format(""))["units"] in (6, 7, 8)
    assert counted(program.format("c.munmap(first, 8 * UNIT)"))["units"] in (4, 5, 6, 7)
    another = "fd = os.memfd_create('t'); os.ftruncate(fd, UNIT)"
    assert counted(program.format(another))["units"] == 0
    assert counted("fd = os.memfd_create('t'); c.fallocate(fd, 0, 0, 9)")["notes"] == 0


def test_process_madvise_on_itself_alone() -> None:
    program = """
        base = area(4)
        fd = os.pidfd_open({})
        advised = [(base, 4096), (base + 2 * UNIT, 4096)]
        assert c.process_madvise(fd, advised, PAGEOUT) == 8192
    """
    assert counted(program.format("os.getpid()"))["units"] == 2
    ended = run("""
        base = area(4)
        child = os.fork()
        if child == 0:
            time.sleep(60)
        fd = os.pidfd_open(child)
        assert c.process_madvise(fd, [(base, 4096)], PAGEOUT) == 4096
        os.kill(child, 9)
        c.madvise(base, 4096, DONTNEED)
    """)
    (own,) = stats(ended.stderr)
    (usual,) = stats(run("c.madvise(area(4), 4096, DONTNEED)").stderr)
    assert own["notes"] <= usual["notes"]


def test_posix_madvise_is_left_alone_because_it_releases_nothing() -> None:
    program = """
        base = area(1)
        c.fill(base, 4096, 5)
        assert c.posix_madvise(base, 4096, 4) == 0
        assert c.byte(base) == 5
    """
    assert counted(program)["notes"] == 0


def test_errors_are_libcs() -> None:
    program = """
        def tried(function, *arguments):
            try:
                return function(*arguments)
            except c.Failed as failure:
                return f"errno {failure.args[0]}"
        base = area(4)
        answers = [
            tried(c.madvise, base + 1, 4096, DONTNEED),
            tried(c.madvise, base, 4096, 12345),
            tried(c.munmap, base + 1, 4096),
            tried(c.munmap, base, 0),
            tried(c.mremap, 4096, 4096, 8192, 1),
            tried(c.mremap, base, 4096, 4096, 3, 1),
            tried(c.mmap, 0, 0, RW, ANON),
            tried(c.mmap, 0, 4096, RW, SHARED, 12345),
            tried(c.mmap, base, 4096, RW, ANON | 0x100000),
            tried(c.fallocate, 12345, 3, 0, 4096),
            tried(c.process_madvise, 12345, [(base, 4096)], PAGEOUT),
            tried(c.madvise, base, 4096, CLEANUP),
            tried(c.cleanup_madvise, base, 4096, CLEANUP),
            tried(c.cleanup_madvise, base, 4096, 12345),
            tried(c.cleanup_madvise, base, 4096, DONTNEED),
        ]
        print(answers)
    """
    with_shim = run(program, "backend:module,verbose:0")
    without = subprocess.run(
        [sys.executable, "-I", "-c", start() + PRELUDE + textwrap.dedent(program)],
        env={},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert with_shim.stdout == without.stdout
    assert with_shim.stdout.count("errno") == 14


def test_the_proposed_call() -> None:
    """The library answers MADV_CLEANUP_PGTABLE with 0, or with EINVAL for a bad range."""
    answered = run(
        """
        base = area(1)
        for addr, length in ((base, 4096), (base, 0), (base + 1, 4096), (base, -4095 % 2**64),
                             (-4096 % 2**64, 8192)):
            try:
                c.madvise(addr, length, CLEANUP)
                print(0)
            except c.Failed as failure:
                print(failure.args[0])
        """
    )
    invalid = str(errno.EINVAL)
    assert answered.stdout.split() == ["0", "0", invalid, invalid, invalid]


@pytest.mark.skipif(Path("/dev/pgtable_cleanup").exists(), reason="there is a device here")
def test_no_device_is_said_once() -> None:
    """The first process reports the missing device; the processes that it starts don't."""
    program = "import subprocess; subprocess.run(['/bin/true'], check=True)"
    assert run(program, "").stderr.splitlines() == [ABSENT]
    assert run(program, "verbose:0").stderr == ""


def test_bad_conf_is_said_once() -> None:
    program = "import subprocess; subprocess.run(['/bin/true'], check=True)"
    told = run(program, "backend:null,fast:true").stderr.splitlines()
    assert len(told) == 1
    assert "fast:true" in told[0]


@pytest.mark.skipif(os.getuid() != 0, reason="making a program setuid takes root")
def test_the_loader_drops_it_from_a_setuid_program(tmp_path: Path) -> None:
    program = tmp_path / "setuid"
    shutil.copy("/bin/cat", program)
    os.chown(program, 65534, 65534)
    program.chmod(0o4755)
    tmp_path.chmod(0o755)
    mapped = [
        subprocess.run(
            [path, "/proc/self/maps"],
            env={"LD_PRELOAD": SHIM, "PGTABLE_CLEANUP_CONF": "backend:null"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for path in ("/bin/cat", program)
    ]
    assert ["libpgtable_cleanup" in maps for maps in mapped] == [True, False]


@pytest.mark.parametrize("command", [["ls", "-l", "/usr"], ["bash", "-c", "echo $((6*7)) | cat"]])
def test_programs_run_as_ever(command: list[str]) -> None:
    env = {"PATH": os.environ["PATH"], "PGTABLE_CLEANUP_CONF": "backend:null,threshold:1"}
    plain, shimmed = (
        subprocess.run(command, env=env | more, capture_output=True, check=True)
        for more in ({}, {"LD_PRELOAD": SHIM})
    )
    assert (shimmed.stdout, shimmed.stderr) == (plain.stdout, plain.stderr)


def test_python_sees_what_the_library_noted() -> None:
    ended = run(
        """
        from allocator_shim import preloaded
        assert preloaded.available()
        before = preloaded.stats()
        base = area(8)
        for unit in range(8):
            c.madvise(base + unit * UNIT, 4096, DONTNEED)
        assert preloaded.drain()
        after = preloaded.stats()
        print(after.notes - before.notes, after.units - before.units, after.tried - before.tried)
        print(preloaded.conf())
        """,
        "backend:null,threshold:1000,zero_pages:true",
    )
    counts, conf = ended.stdout.splitlines()
    assert counts.split() == ["8", "8", "8"]
    assert conf == (
        "Conf(threshold=1000, interval_ms=1000, zero_pages=True, thread=False, hooks='none', "
        "backend='null', verbose=1, stats='none')"
    )


def test_python_is_told_what_to_do_without_it() -> None:
    assert not preloaded.available()
    for call in (preloaded.drain, preloaded.stats, preloaded.conf):
        with pytest.raises(NotPreloaded, match="pgtable-cleanup exec"):
            call()


BY_SYSCALL = """\
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	char *at = (char *)syscall(SYS_mmap, 0, 8 << 20, 3, 0x22, -1, 0);

	at[4096] = 1;
	if (syscall(SYS_madvise, at + 4096, 4096, MADV_DONTNEED) || at[4096])
		return 1;
	errno = 0;
	if (syscall(SYS_madvise, at + 1, 4096, MADV_DONTNEED) != -1 || errno != EINVAL)
		return 2;
	errno = 0;
	if (syscall(100000, 1, 2, 3) != -1 || errno != ENOSYS)
		return 3;
	if (syscall(SYS_getpid) != getpid() || syscall(SYS_munmap, at, 8 << 20))
		return 4;
	return 0;
}
"""


def test_releases_by_syscall_are_noted(tmp_path: Path) -> None:
    source, made = tmp_path / "program.c", tmp_path / "program"
    source.write_text(BY_SYSCALL)
    subprocess.run(["cc", "-o", made, source], check=True)
    ended = subprocess.run(
        [made],
        env={
            "LD_PRELOAD": SHIM,
            "PGTABLE_CLEANUP_CONF": "backend:null,stats:exit",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    found = stats(ended.stderr)
    assert [counts["notes"] for counts in found] == [2]
