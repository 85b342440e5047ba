# SPDX-License-Identifier: MIT
"""Tests of libpgtable_cleanup.so with the module: only the device ever sees its ioctl."""

import array
import errno
import re
import struct
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _raw import syscall

from allocator_shim.preloading import jemalloc_path
from cleanup import features
from guest.settings import one_cpu, setting
from preloaded import SHIM, run, stats

DEVICE = Path("/dev/pgtable_cleanup")
TRACING = Path("/sys/kernel/tracing/instances/pgtable-cleanup-shim")
MAGIC = 0xB7
CONF = "stats:exit"
SYS_PRCTL, SYS_SECCOMP, PR_SET_NO_NEW_PRIVS = 157, 317, 38
# Python functions for the programs that run under the library.
HELPERS = """\
def vmpte():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmPTE")) << 10
def devices():
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{fd}") == "/dev/pgtable_cleanup":
                found.append(int(fd))
        except OSError:
            pass
    return found
def small(base, units):
    c.madvise(base, units * UNIT, m.MADV_NOHUGEPAGE)
    return base
def churn(base, units):
    for unit in range(units):
        c.fill(base + unit * UNIT, 8192, unit % 255 + 1)
    for unit in range(units):
        c.madvise(base + unit * UNIT, 4096, DONTNEED)
        if unit % 10:
            c.madvise(base + unit * UNIT + 4096, 4096, DONTNEED)
"""


def stopped(why: str) -> str:
    """Return what the library prints when it stops for this reason."""
    return f"pgtable-cleanup: {why}; empty page tables stay where they are\n"


def program(text: str) -> str:
    return HELPERS + textwrap.dedent(text)


def test_empty_tables_go_and_live_ones_stay() -> None:
    ended = run(
        program("""
            base = small(area(640), 640)
            before = vmpte()
            churn(base, 640)
            peak = vmpte()
            c.drain()
            assert all(c.byte(base + unit * UNIT + 4096) == unit % 255 + 1
                       for unit in range(0, 640, 10))
            print(before, peak, vmpte())
        """),
        CONF,
    )
    before, _peak, after = map(int, ended.stdout.split())
    (counts,) = stats(ended.stderr)
    assert counts["freed_pte"] >= 576
    assert counts["drains"] >= 640 // 64
    assert after - before <= (64 + 4) * 4096, "one in ten has a page left"


def test_a_table_that_the_kernel_frees_is_not_looked_for(series: str) -> None:
    """The library tries no unit whose table the kernel itself has freed (PT_RECLAIM, on 7.3)."""
    ended = run(
        program("""
            base = small(area(512), 512)
            c.madvise(base, 4096, DONTNEED)
            c.drain()
            for unit in range(512):
                c.fill(base + unit * UNIT, 4096, 1)
                c.madvise(base + unit * UNIT, UNIT, DONTNEED)
            c.drain()
            print(vmpte())
        """),
        CONF,
    )
    (counts,) = stats(ended.stderr)
    assert (counts["tried"] < 64) == (series == "7.3")
    assert int(ended.stdout) < 512 * 4096


def test_fork_copies_no_empty_tables() -> None:
    text = program("""
        base = small(area(2048), 2048)
        for unit in range(2048):
            c.fill(base + unit * UNIT, 4096, 1)
        for unit in range(2048):
            c.madvise(base + unit * UNIT, 4096, DONTNEED)
        if os.fork() == 0:
            print(vmpte())
            sys.exit()
        os.wait()
    """)
    with_module, without = (int(run(text, conf).stdout) for conf in ("", "backend:null"))
    assert without >= 2048 * 4096
    assert with_module < 256 * 4096


@pytest.mark.parametrize("preloaded", [True, False], ids=["preloaded", "header"])
def test_the_proposed_call(preloaded: bool) -> None:
    """The proposed advice works in the library's madvise(), and in the C header's function."""
    answered = run(
        f"call = c.{'' if preloaded else 'cleanup_'}madvise\n"
        + program("""
            def tried(addr, length):
                try:
                    call(addr, length, CLEANUP)
                    return 0
                except c.Failed as failure:
                    return failure.args[0]
            base = small(area(4), 4)
            for unit in range(4):
                c.fill(base + unit * UNIT, 4096, 1)
            for unit in range(3):
                c.madvise(base + unit * UNIT, 4096, DONTNEED)
            before = vmpte()
            print(tried(base, 2 * UNIT), before - vmpte())
            print(tried(base, 4 * UNIT), before - vmpte(), c.byte(base + 3 * UNIT))
            print(tried(base, 0), tried(base + 1, 4096), tried(-4096 % 2**64, 8192))
            print(tried(1 << 63, 4096), tried(base, 1))
            c.munmap(base + UNIT, UNIT)
            print(tried(base, 4 * UNIT))
        """),
        "threshold:1000,interval_ms:86400000",
        preload=preloaded,
    )
    lines = [[int(word) for word in line.split()] for line in answered.stdout.splitlines()]
    assert lines[0] == [0, 2 * 4096]
    assert lines[1] == [0, 3 * 4096, 1]
    assert lines[2] == [0, errno.EINVAL, errno.EINVAL]
    assert lines[3] == [errno.EINVAL, 0]
    assert lines[4] == [errno.ENOMEM]


def test_the_descriptor_is_high_and_ends_with_the_program() -> None:
    ended = run(
        program("""
            import subprocess
            (fd,) = devices()
            print(fd, os.get_inheritable(fd))
            sys.stdout.flush()
            subprocess.run([sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))"],
                           close_fds=False, env={}, check=True)
        """),
        "",
    )
    first, second = ended.stdout.splitlines()
    fd, inheritable = first.split()
    assert 100 <= int(fd) < 128
    assert inheritable == "False"
    assert repr(fd) not in second


@contextmanager
def ioctls_traced() -> Iterator[list[int]]:
    """Trace the module's ioctls; when the block ends, add their descriptors to the list yielded."""
    seen: list[int] = []
    TRACING.mkdir()
    enable = TRACING / "events/syscalls/sys_enter_ioctl/enable"
    try:
        with one_cpu():
            enable.write_text("1")
        yield seen
        said = (TRACING / "trace").read_text()
    finally:
        with one_cpu():
            enable.write_text("0")
        TRACING.rmdir()
    calls = re.findall(r"sys_ioctl\(fd: (\w+), cmd: (\w+)", said)
    seen += [int(fd, 16) for fd, command in calls if int(command, 16) >> 8 & 0xFF == MAGIC]


@pytest.mark.parametrize(
    "reuse",
    [
        "os.close(fd); assert os.open('/dev/zero', os.O_RDWR) >= 0",
        "os.closerange(3, 4096)",
        "os.closerange(3, 4096); os.dup2(os.open('/dev/zero', os.O_RDWR), fd)",
        "os.dup2(os.open('/dev/zero', os.O_RDWR), fd)",
        "os.dup2(os.open('/proc/self/status', os.O_RDONLY), fd)",
    ],
)
def test_a_number_that_is_reused_never_sees_the_ioctl(reuse: str) -> None:
    with ioctls_traced() as seen:
        ended = run(
            program(f"""
                base = small(area(128), 128)
                (fd,) = devices()
                churn(base, 64)
                {reuse}
                reused = fd not in devices()
                churn(base + 64 * UNIT, 64)
                c.drain()
                print(fd, *devices())
            """),
            CONF,
        )
    fd, *now = map(int, ended.stdout.split())
    (counts,) = stats(ended.stderr)
    assert counts["freed_pte"] >= 2 * 57
    assert len(now) == 1
    assert set(seen) <= {fd, *now}
    if now != [fd]:
        after = seen[seen.index(now[0]) :]
        assert fd not in after


def test_another_file_in_its_place_never_sees_the_ioctl() -> None:
    """In a chroot without the device, a file under its old descriptor number sees no ioctl."""
    before = """
        base = small(area(64), 64)
        (fd,) = devices()
        c.drain()
        os.makedirs("/tmp/empty", exist_ok=True)
        os.chroot("/tmp/empty")
        c.madvise(base, 4096, CLEANUP)
        print(fd)
        sys.stdout.flush()
"""
    after = """\
        os.dup2(os.memfd_create("other"), fd)
        churn(base, 64)
        c.drain()
        churn(base, 64)
        c.drain()
        os._exit(0)
    """
    with ioctls_traced() as usual:
        run(program(before + "        os._exit(0)\n"), "")
    with ioctls_traced() as seen:
        ended = run(program(before + after), "")
    (fd,) = map(int, ended.stdout.split())
    assert ended.stderr == stopped("/dev/pgtable_cleanup was closed, and can't be opened again")
    assert usual == seen == [fd] * len(seen)
    assert len(seen) >= 2, "at the start, and in the chroot"


def test_a_device_without_permission() -> None:
    DEVICE.chmod(0o600)
    try:
        told = subprocess.run(
            ["/bin/true"],
            env={"LD_PRELOAD": SHIM},
            user=65534,
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        opened_before = run(program("os.setuid(65534); churn(small(area(64), 64), 64)"), CONF)
    finally:
        DEVICE.chmod(0o666)
    why = "permission denied (the module's parameter mode= lets users in)"
    assert told == stopped(f"/dev/pgtable_cleanup: {why}")
    assert stats(opened_before.stderr)[0]["freed_pte"] > 0


def test_what_is_no_module_of_this_version() -> None:
    subprocess.run(["mount", "--bind", "/dev/zero", DEVICE], check=True)
    try:
        told = run(program("c.madvise(area(1), 4096, DONTNEED)"), "").stderr
    finally:
        subprocess.run(["umount", DEVICE], check=True)
    assert told == stopped("the loaded module is of another version")


def filter_of(action: int) -> bytes:
    """Return a seccomp filter that takes an action on the module's ioctls and allows all else."""
    load_number, load_request = (0x20, 0, 0, 0), (0x20, 0, 0, 24)
    instructions = [
        load_number,
        (0x15, 0, 4, 16),  # system call 16 is ioctl(); others are allowed
        load_request,
        (0x54, 0, 0, 0xFF00),
        (0x15, 0, 1, 0xB700),
        (0x06, 0, 0, action),
        (0x06, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *one) for one in instructions)


ALLOW, KILL, DENY = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (KILL, "a seccomp filter kills who makes the ioctl"),
        (DENY, "the ioctl is not permitted"),
        (ALLOW, None),
    ],
    ids=["kill", "deny", "allow"],
)
def test_under_a_seccomp_filter_from_the_start(action: int, says: str | None) -> None:
    ended = run(
        program("churn(small(area(64), 64), 64)"), CONF, before_exec=lambda: filtered(action)
    )
    if says:
        assert ended.stderr == stopped(says)
    else:
        assert stats(ended.stderr)[0]["freed_pte"] > 0


def filtered(action: int) -> None:
    """Install the filter by system calls, as a sandbox library does."""
    code = array.array("B", filter_of(action))
    header = array.array("Q", [code.itemsize * len(code) // 8, code.buffer_info()[0]])
    syscall(SYS_PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    syscall(SYS_SECCOMP, 1, 0, header.buffer_info()[0])


def test_a_filter_by_prctl_ends_it_after_a_last_drain() -> None:
    ended = run(
        program(f"""
            import array
            base = small(area(128), 128)
            churn(base, 60)
            code = array.array("B", {filter_of(KILL)!r})
            header = array.array("Q", [len(code) // 8, code.buffer_info()[0]])
            c.prctl({PR_SET_NO_NEW_PRIVS}, 1, 0)
            c.prctl(22, 2, header.buffer_info()[0])
            print(c.stats()[2])
            churn(base + 64 * UNIT, 64)
            c.drain()
        """),
        CONF,
    )
    freed = int(ended.stdout)
    assert freed >= 54
    assert stats(ended.stderr)[0]["freed_pte"] == freed


def test_hooks_leave_the_tables_to_the_module_where_the_kernel_keeps_them() -> None:
    """When the library's own madvise() frees tables, the kernel isn't taken to have freed them."""
    ended = run(
        program("""
            from allocator_shim import jemalloc
            from experiments.allocators._objects import Objects
            before = vmpte()
            objects = Objects(400_000, 1000, 5)
            objects.fill()
            peak = vmpte()
            for keep in (5, 50, 1000, 100_000):
                objects.release(keep)
                jemalloc.purge()
            c.drain()
            print(before, peak, vmpte(), objects.check(), objects.lost)
        """),
        "hooks:jemalloc,verbose:2,stats:exit",
        allocator=jemalloc_path(),
    )
    before, peak, after, kept, lost = map(int, ended.stdout.split())
    way = "zap" if features().pt_reclaim else "module"
    assert f"pgtable-cleanup: hooks:jemalloc: tables go by {way}\n" in ended.stderr
    assert (kept, lost) == (4, 0)
    assert peak - before >= 90 * 4096
    assert after - before <= 20 * 4096
    (counts,) = stats(ended.stderr)
    assert counts["hook_units"] >= 90
    assert (counts["freed_pte"] >= 90) == (way == "module")


def test_hooks_hand_out_zeros_where_memory_was_locked() -> None:
    ended = run(
        program("""
            from allocator_shim import jemalloc
            for first, length in ((0, 4 * UNIT), (UNIT, 4096), (2 * UNIT, 2 * UNIT)):
                old = c.malloc(4 * UNIT)
                c.fill(old, 4 * UNIT, 0xAA)
                c.mlock(old + first, length)
                c.free(old)
                jemalloc.purge()
                new = [c.calloc(4 * UNIT) for _ in range(4)]
                print(any(abs(addr - old) < 4 * UNIT for addr in new),
                      sum(c.bytes_not(addr, 4 * UNIT, 0) for addr in new))
        """),
        "hooks:jemalloc,stats:exit",
        allocator=jemalloc_path(),
    )
    assert ended.stdout == "True 0\n" * 3
    assert stats(ended.stderr)[0]["hook_units"] > 0


def test_hooks_are_refused_where_memory_is_not_overcommitted() -> None:
    """There jemalloc gives memory back by mappings anew, and the program goes on as it did."""
    sysctl = Path("/proc/sys/vm")
    with setting(sysctl / "overcommit_ratio", "100"), setting(sysctl / "overcommit_memory", "2"):
        ended = run(
            program("""
                from allocator_shim import jemalloc
                from experiments.allocators._objects import Objects
                before = vmpte()
                objects = Objects(20_000, 1000, 5)
                objects.fill()
                for keep in (5, 100):
                    objects.release(keep)
                    jemalloc.purge()
                print(objects.check(), objects.lost, jemalloc.hook_stats().mapped)
            """),
            "hooks:jemalloc,verbose:2",
            allocator=jemalloc_path(),
        )
    assert ended.stdout == "200 0 0\n"
    assert "pgtable-cleanup: hooks:jemalloc: under vm.overcommit_memory=2" in ended.stderr


def test_a_core_dump_is_as_large_as_without_hooks(tmp_path: Path) -> None:
    core = tmp_path / "core"
    found = []
    with setting(Path("/proc/sys/kernel/core_pattern"), str(core)):
        for conf in ("backend:null", "backend:null,hooks:jemalloc"):
            ended = run(
                program("""
                    import resource, signal
                    from allocator_shim import jemalloc
                    from experiments.allocators._objects import Objects
                    resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))
                    objects = Objects(40_000, 1000, 5)
                    objects.fill()
                    objects.release(10)
                    jemalloc.purge()
                    print(jemalloc.hook_stats().mapped > 0, flush=True)
                    child = os.fork()
                    if not child:
                        os.kill(os.getpid(), signal.SIGSEGV)
                    assert os.WCOREDUMP(os.waitpid(child, 0)[1])
                """),
                conf,
                allocator=jemalloc_path(),
                malloc_conf="thp:never,narenas:512",
            )
            assert ended.stdout == f"{'hooks' in conf}\n"
            found.append((core.stat().st_size, core.stat().st_blocks * 512))
            core.unlink()
    without, with_hooks = found
    for size, usual in zip(with_hooks, without, strict=True):
        assert 0 < size <= usual * 1.2


def test_what_low_yields_left_goes_by_time() -> None:
    """Drains that the interval causes free all tables, however rare the threshold's have become."""
    ended = run(
        program("""
            from allocator_shim import preloaded
            base = small(area(640), 640)
            for unit in range(640):
                c.fill(base + unit * UNIT, 8192, 1)
            # Both pages of each unit are to go; one of them frees nothing.
            for unit in range(640):
                c.madvise(base + unit * UNIT, 4096, DONTNEED)
            made_rarer = preloaded.stats().backoff
            for unit in range(640):
                c.madvise(base + unit * UNIT + 4096, 4096, DONTNEED)
            end = time.monotonic() + 60
            while preloaded.stats().freed_pte < 640 and time.monotonic() < end:
                time.sleep(0.1)
            print(made_rarer, preloaded.stats().freed_pte)
        """),
        "thread:true,threshold:16",
    )
    made_rarer, freed = map(int, ended.stdout.split())
    assert made_rarer >= 16
    assert freed >= 640
