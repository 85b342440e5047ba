# SPDX-License-Identifier: MIT
"""Tests of jemalloc's extent hooks in real processes: tables go, and no byte is lost."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import _libc
import pytest

import allocator_shim
from allocator_shim import jemalloc
from allocator_shim.preloading import jemalloc_path
from host import programs

WAYS = ["zap", "remap", "nothing"]
PRELUDE = f"""
import array, os, struct, sys, threading, time
sys.path.insert(0, {str(Path(_libc.__file__).parent)!r})
import _libc
from experiments.allocators._objects import Objects
from allocator_shim import jemalloc
from allocator_shim.errors import JemallocError
def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) << 10
def vmpte():
    return status("VmPTE")
"""


def run(program: str, conf: str = "", *arguments: str, shim_conf: str = "") -> str:
    """Return the output of a Python program that allocates by jemalloc."""
    ended = subprocess.run(
        [sys.executable, "-P", "-c", PRELUDE + textwrap.dedent(program), *arguments],
        env={
            "LD_PRELOAD": jemalloc_path(),
            "PYTHONMALLOC": "malloc",
            "MALLOC_CONF": conf,
            "PGTABLE_CLEANUP_CONF": shim_conf,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


CHURN = """
    way, threads = sys.argv[1], int(sys.argv[2])
    assert jemalloc.install_hooks(way) == way
    lost = []
    def work(seed):
        objects = Objects(40_000, 8000, seed)
        objects.fill()
        for _ in range(6):
            objects.release(1000)
            objects.churn(30_000)
            objects.fill()
        objects.check()
        objects.release(1000)
        lost.append(objects.lost)
    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        jemalloc.purge()
        time.sleep(0.01)
    for worker in workers:
        worker.join()
    jemalloc.purge()
    stats = jemalloc.hook_stats()
    print(len(lost), sum(lost), stats.units > 0, stats.foreign)
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("conf", ["dirty_decay_ms:0,muzzy_decay_ms:0", "dirty_decay_ms:20", ""])
def test_threads_lose_no_byte(way: str, conf: str) -> None:
    """No byte is lost if one thread purges, and so decommits, while others commit units."""
    assert run(CHURN, conf, way, "4").split() == ["4", "0", "True", "0"]


LOCKED = """
    way, kernel, first, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    SIZE = 7 << 20
    def knows_dontneed_locked():
        area = _libc.mmap(0, 4096, 3, 0x22)
        try:
            _libc.madvise(area, 4096, 24)
        except _libc.Failed:
            return False
        return True
    def forget_dontneed_locked():
        # A seccomp filter: madvise() by that advice is EINVAL, all else passes.
        code = array.array("B", b"".join(struct.pack("=HBBI", *one) for one in [
            (0x20, 0, 0, 0), (0x15, 0, 3, 28), (0x20, 0, 0, 32), (0x15, 0, 1, 24),
            (0x06, 0, 0, 0x50016), (0x06, 0, 0, 0x7FFF0000),
        ]))
        header = array.array("Q", [len(code) // 8, code.buffer_info()[0]])
        _libc.prctl(38, 1, 0)
        _libc.prctl(22, 2, header.buffer_info()[0])
    assert jemalloc.install_hooks(way) == way
    if kernel == "5.17":
        forget_dontneed_locked()
        assert not knows_dontneed_locked()
    old = _libc.malloc(SIZE)
    _libc.fill(old, SIZE, 0xAA)
    _libc.mlock(old + first, length)
    locked = status("VmLck")
    _libc.free(old)
    jemalloc.purge()
    new = [_libc.calloc(SIZE) for _ in range(4)]
    reused = any(abs(addr - old) < SIZE for addr in new)
    stale = sum(_libc.bytes_not(addr, SIZE, 0) for addr in new)
    print(reused, stale, locked >= length, status("VmLck") == locked)
    # Once it is not locked it goes as ever, with its tables.
    before = jemalloc.hook_stats().units
    _libc.munlock(old, SIZE)
    for addr in new:
        _libc.free(addr)
    jemalloc.purge()
    print(jemalloc.hook_stats().units - before)
"""


@pytest.mark.parametrize("kernel", ["5.17", "this"])
@pytest.mark.parametrize("way", [*WAYS, "module"])
@pytest.mark.parametrize(
    ("first", "length"),
    [(0, 7 << 20), (3 << 20, 4096), (5 << 20, 2 << 20)],
    ids=["all", "a page", "the end"],
)
def test_calloc_of_what_was_locked_is_zero(way: str, kernel: str, first: int, length: int) -> None:
    """Reused memory is zero and still locked, also on kernels without MADV_DONTNEED_LOCKED."""
    said = run(
        LOCKED, "narenas:1", way, kernel, str(first), str(length), shim_conf="backend:null"
    ).split()
    assert said[:4] == ["True", "0", "True", "True"]
    assert int(said[4]) >= 3 * 4


def test_memory_of_before_is_left_as_it_was() -> None:
    said = run("""
        old = Objects(20_000, 4000, 1)
        old.fill()
        print(jemalloc.install_hooks("remap"))
        new = Objects(20_000, 4000, 2)
        new.fill()
        old.release(100)
        new.release(100)
        jemalloc.purge()
        print(old.check(), new.check(), old.lost, new.lost)
    """)
    assert said.split() == ["remap", "200", "200", "0", "0"]


@pytest.mark.parametrize("way", ["zap", "remap"])
def test_tables_go_with_their_pages(way: str) -> None:
    if way == "zap" and not kernel_frees_units():
        pytest.skip("this kernel frees no table at MADV_DONTNEED")
    program = """
        if sys.argv[1] != "off":
            jemalloc.install_hooks(sys.argv[1])
        before = vmpte()
        objects = Objects(1_000_000, 1000, 5)
        objects.fill()
        full = vmpte()
        # Small releases, none of them of a whole unit, as a program at work makes them.
        for keep in (3, 7, 50, 1000, 100_000):
            objects.release(keep)
            jemalloc.purge()
        print(before, full, vmpte(), objects.check(), objects.lost)
    """
    conf = "thp:never"
    before, full, after, kept, lost = map(int, run(program, conf, way).split())
    assert (kept > 0, lost) == (True, 0)
    assert full - before >= 200 * 4096
    assert after - before <= (kept + 30) * 4096


def kernel_frees_units() -> bool:
    return run("print(jemalloc.install_hooks())") == "zap\n"


def test_a_full_reservation_goes_on_as_without_hooks() -> None:
    said = run("""
        jemalloc.install_hooks("remap", jemalloc.MIN_RESERVE)
        objects = Objects(100_000, 4000, 3)
        objects.fill()
        objects.release(1000)
        jemalloc.purge()
        print(objects.check(), objects.lost, jemalloc.hook_stats().foreign > 0)
    """)
    assert said.split() == ["100", "0", "True"]


@pytest.mark.parametrize("way", ["zap", "remap"])
def test_fork_in_the_middle_of_it(way: str) -> None:
    said = run(
        """
        jemalloc.install_hooks(sys.argv[1])
        def work(seed):
            objects = Objects(20_000, 8000, seed)
            while going:
                objects.churn(20_000)
                jemalloc.purge()
        going = True
        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for worker in workers:
            worker.start()
        mine = Objects(5000, 8000, 9)
        for turn in range(25):
            mine.churn(5000)
            child = os.fork()
            if child == 0:
                mine.churn(20_000)
                jemalloc.purge()
                mine.fill()
                mine.check()
                os._exit(mine.lost != 0)
            assert os.waitpid(child, 0)[1] == 0
        going = False
        for worker in workers:
            worker.join()
        print(mine.lost)
        """,
        "dirty_decay_ms:0",
        way,
    )
    assert said == "0\n"


@pytest.mark.parametrize(
    ("call", "conf", "says"),
    [
        ("jemalloc.install_hooks()", "retain:false", "retain:false"),
        ("jemalloc.install_hooks(); jemalloc.install_hooks()", "", "installed already"),
        ("jemalloc.install_hooks(reserve=1 << 62)", "", "no address space"),
        (
            "jemalloc.install_hooks('fast')",
            "",
            "'fast' is none of auto, zap, remap, module, nothing",
        ),
        ("jemalloc.install_hooks('module')", "", "pgtable-cleanup features"),
        ("jemalloc.install_hooks(reserve=4096)", "", "too small"),
    ],
)
def test_refusals_say_why(call: str, conf: str, says: str) -> None:
    said = run(
        f"""
        try:
            {call}
        except (JemallocError, ValueError) as error:
            print(error)
        kept = [os.urandom(500) for _ in range(1000)]
        """,
        conf,
    )
    assert says in said


USE = """
    def use():
        # Where one set loses count of another's memory, each round maps more.
        for _ in range(3):
            blocks = [bytearray(5 << 20) for _ in range(40)]
            del blocks
            jemalloc.purge()
        return jemalloc.stats().retained >> 20
    def extension(path):
        loader = importlib.machinery.ExtensionFileLoader("jemalloc", path)
        return importlib.util.module_from_spec(importlib.util.spec_from_loader("jemalloc", loader))
    import importlib.machinery, importlib.util
    use()
"""


def refusal(file: object) -> str:
    """Return the message that refuses extent hooks because `file` has installed its own before."""
    return (
        f"pgtable-cleanup: hooks:jemalloc: jemalloc has extent hooks already, of {file}, and takes "
        "one set: leave out hooks:jemalloc, install_hooks() or the program's own"
    )


def test_hooks_in_python_after_the_librarys_are_refused() -> None:
    ended = preloaded(
        USE
        + """
    try:
        jemalloc.install_hooks()
    except JemallocError as error:
        print(error.strerror)
    print(use())
    """,
        "hooks:jemalloc,backend:null",
    )
    said, retained = ended.stdout.splitlines()
    assert refusal(allocator_shim.shim_path()).endswith(said)
    assert int(retained) < 1024


def test_hooks_of_the_library_after_pythons_are_refused() -> None:
    """The library refuses to install its hooks where the Python package's are; these stay."""
    ended = preloaded(
        USE
        + f"""
    jemalloc.install_hooks()
    use()
    try:
        extension({str(allocator_shim.shim_path())!r})
    except ImportError:
        print(use(), jemalloc.__file__)
    """,
        "hooks:jemalloc,backend:null",
        shim=False,
    )
    retained, python = ended.stdout.split()
    assert ended.stderr.splitlines()[-1] == refusal(python)
    assert int(retained) < 1024


def test_hooks_of_a_second_copy_are_refused(tmp_path: Path) -> None:
    copy = shutil.copy(jemalloc.__file__, tmp_path)
    said = run(
        USE
        + """
    other = extension(sys.argv[1])
    other.__loader__.exec_module(other)
    assert other.__file__ != jemalloc.__file__
    other.install_hooks()
    use()
    try:
        jemalloc.install_hooks()
    except JemallocError as error:
        print(error.strerror)
    print(use())
    """,
        "",
        str(copy),
    )
    refused, retained = said.splitlines()
    assert refusal(copy).endswith(refused)
    assert int(retained) < 1024


# A program that loads the library; if told "own", it first installs its own hooks in an arena.
PROGRAM = """
#include <dlfcn.h>
#include <string.h>

extern int mallctl(const char *, void *, size_t *, void *, size_t);
static void *hooks[9];
static void *hooks_before;

int main(int nr, char **arguments)
{
    size_t length = sizeof(hooks_before);
    unsigned int arena;
    void *own = hooks;

    if (mallctl("arena.0.extent_hooks", &hooks_before, &length, NULL, 0))
        return 1;
    memcpy(hooks, hooks_before, sizeof(hooks));
    length = sizeof(arena);
    if (nr > 2 && mallctl("arenas.create", &arena, &length, &own, sizeof(own)))
        return 2;
    return dlopen(arguments[1], RTLD_NOW) ? 0 : 3;
}
"""


@pytest.fixture(scope="module")
def static_jemalloc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a static jemalloc to link a program with."""
    tree = programs.unpacked("libjemalloc-dev", tmp_path_factory.mktemp("jemalloc"))
    return next(tree.rglob("libjemalloc_pic.a"))


@pytest.mark.parametrize("linked", ["shared", "static"])
def test_a_programs_own_hooks_are_left_to_it(
    linked: str, static_jemalloc: Path, tmp_path: Path
) -> None:
    """The library tells a program's hooks from jemalloc's own, even where jemalloc is linked in."""
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM)
    library = jemalloc_path() if linked == "shared" else str(static_jemalloc)
    needed = ["-lm", "-lpthread", "-ldl"]
    subprocess.run(["cc", "-rdynamic", "-o", program, source, library, *needed], check=True)
    said = [
        subprocess.run(
            [program, allocator_shim.shim_path(), *more],
            env={"PGTABLE_CLEANUP_CONF": "hooks:jemalloc,backend:null,verbose:2"},
            capture_output=True,
            text=True,
            check=True,
        ).stderr.splitlines()[-1]
        for more in ([], ["own"])
    ]
    assert said[0].startswith("pgtable-cleanup: hooks:jemalloc: tables go by ")
    assert said[1] == refusal(program)


def test_without_jemalloc_it_says_how() -> None:
    with pytest.raises(OSError, match="exec --jemalloc"):
        jemalloc.install_hooks()
    assert jemalloc.hook_stats().units == 0
    assert os.environ.get("LD_PRELOAD") is None


def preloaded(
    program: str, conf: str, malloc_conf: str = "thp:never", *, shim: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run a Python program under jemalloc, and preload libpgtable_cleanup.so too if `shim`."""
    return subprocess.run(
        [sys.executable, "-P", "-c", PRELUDE + textwrap.dedent(program)],
        env={
            "LD_PRELOAD": f"{allocator_shim.shim_path() if shim else ''} {jemalloc_path()}",
            "PYTHONMALLOC": "malloc",
            "MALLOC_CONF": malloc_conf,
            "PGTABLE_CLEANUP_CONF": conf,
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )


def test_by_preload_the_program_does_nothing_for_it() -> None:
    ended = preloaded(
        """
        before = vmpte()
        objects = Objects(400_000, 1000, 5)
        objects.fill()
        full = vmpte()
        for keep in (3, 7, 50, 1000, 100_000):
            objects.release(keep)
            jemalloc.purge()
        print(before, full, vmpte(), objects.check(), objects.lost)
        """,
        "hooks:jemalloc,backend:null,verbose:2,stats:exit",
    )
    before, full, after, kept, lost = map(int, ended.stdout.split())
    assert (kept > 0, lost) == (True, 0)
    assert full - before >= 80 * 4096
    assert after - before <= (kept + 30) * 4096
    first, second, counts = ended.stderr.splitlines()
    way = "zap" if kernel_frees_units() else "remap"
    assert first == "pgtable-cleanup: backend null: nothing is freed"
    assert second == f"pgtable-cleanup: hooks:jemalloc: tables go by {way}"
    assert int(counts.split("hook_units=")[1]) >= 80


@pytest.mark.parametrize(
    ("malloc_conf", "says"),
    [
        ("thp:never", ""),
        ("retain:false", "pgtable-cleanup: hooks:jemalloc: it runs with retain:false"),
    ],
)
def test_by_preload_a_refusal_is_said_once(malloc_conf: str, says: str) -> None:
    program = "import subprocess; subprocess.run([sys.executable, '-c', ''], check=True)"
    said = preloaded(program, "hooks:jemalloc,backend:null", malloc_conf).stderr
    assert said.startswith(says)
    assert said.count("\n") == bool(says)


def test_by_preload_another_allocator_is_told() -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", "true"],
        env={
            "LD_PRELOAD": str(allocator_shim.shim_path()),
            "PGTABLE_CLEANUP_CONF": "hooks:jemalloc,backend:null",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hooks:jemalloc: this program does not allocate by jemalloc" in ended.stderr
