# SPDX-License-Identifier: MIT
"""Tests of who installs the extent hooks: the library, Python, or a program with jemalloc in it."""

import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

import allocator_shim
from allocator_shim import jemalloc
from allocator_shim.preloading import jemalloc_path
from host import jemallocs, programs

ROOT = Path(__file__).parents[2]
HOOKS_ARCHIVE = ROOT / "build/editable/allocator_shim/libpgtable_cleanup_hooks.a"


@pytest.mark.parametrize(
    ("call", "conf", "says"),
    [
        ("jemalloc.install_hooks()", "retain:false", "retain:false"),
        (
            "jemalloc.install_hooks('nothing'); jemalloc.install_hooks('remap')",
            "",
            "installed already, with another way",
        ),
        (
            "jemalloc.install_hooks('fast')",
            "",
            "'fast' is none of auto, zap, remap, module, nothing",
        ),
        ("jemalloc.install_hooks('module')", "", "pgtable-cleanup features"),
        ("jemalloc.install_hooks()", "hpa:true", "hpa:true"),
    ],
)
def test_refusals_say_why(call: str, conf: str, says: str) -> None:
    said = jemallocs.installed().run(
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
    """Return the message that refuses extent hooks because those of `file` are in all arenas."""
    return (
        "pgtable-cleanup: hooks:jemalloc: all of jemalloc's arenas have extent hooks already, of "
        f"{file}: leave out hooks:jemalloc, install_hooks() or the program's own"
    )


def test_whoever_asks_second_has_the_same_hooks() -> None:
    said = jemallocs.installed().run("""
        print(jemalloc.install_hooks("nothing"), jemalloc.install_hooks())
        print(jemalloc.install_hooks("nothing"))
    """)
    assert said.split() == ["nothing"] * 3


def test_python_uses_the_hooks_of_the_library() -> None:
    ended = preloaded(
        USE
        + """
    from allocator_shim import preloaded
    print(jemalloc.install_hooks())
    print(use(), jemalloc.hook_stats().units == preloaded.stats().hook_units > 0)
    """,
        "hooks:jemalloc,backend:null",
    )
    way, retained, is_same = ended.stdout.split()
    assert way == "zap" if jemallocs.installed().frees_units() else "remap"
    assert int(retained) < 1024
    assert is_same == "True"


def test_python_installs_the_hooks_of_the_library() -> None:
    """Where the library is loaded without hooks, Python has the library install its hooks."""
    ended = preloaded(
        USE
        + """
    from allocator_shim import preloaded
    jemalloc.install_hooks("remap")
    # More than what was allocated and freed before, which the hooks leave alone.
    blocks = [bytearray(5 << 20) for _ in range(100)]
    del blocks
    jemalloc.purge()
    print(jemalloc.hook_stats().units == preloaded.stats().hook_units > 0)
    """,
        "backend:null",
    )
    assert ended.stdout == "True\n"


ARENAS = textwrap.dedent("""
    def hooks():
        jemalloc.stats()
        return [jemalloc.read_size(f"arena.{number}.extent_hooks") for number in jemalloc.arenas()]
    def work():
        kept.append(_libc.malloc(10_000))
        ready.wait()
    kept, ready = [], threading.Barrier(13)
    before = len(hooks())
    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    ready.wait()
""")


def test_arenas_of_new_threads_get_the_hooks_of_the_library() -> None:
    said = preloaded(
        ARENAS + "print(before, len(hooks()), len(set(hooks())))",
        "hooks:jemalloc,backend:null",
        "narenas:16,tcache:false",
    ).stdout
    before, after, kinds = map(int, said.split())
    assert after >= before + 8
    assert kinds == 1


def test_arenas_of_new_threads_get_pythons_hooks_at_a_purge() -> None:
    count = "print(len(hooks()), len(set(hooks())))\n"
    said = jemallocs.installed().run(
        "jemalloc.install_hooks()" + ARENAS + count + "jemalloc.purge()\n" + count,
        "narenas:16,tcache:false",
    )
    assert [line.split()[1] for line in said.splitlines()] == ["2", "1"]


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
    said = jemallocs.installed().run(
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


# A program with an arena that has hooks of its own; it loads the library.
PROGRAM = """
#include <dlfcn.h>
#include <string.h>

extern int mallctl(const char *, void *, size_t *, void *, size_t);
static void *hooks[9];
static void *hooks_before, *hooks_after;

int main(int nr, char **arguments)
{
    size_t length = sizeof(hooks_before);
    unsigned int arena;
    void *own = hooks;
    char name[] = "arena.?.extent_hooks";

    if (mallctl("arena.0.extent_hooks", &hooks_before, &length, NULL, 0))
        return 1;
    memcpy(hooks, hooks_before, sizeof(hooks));
    length = sizeof(arena);
    if (mallctl("arenas.create", &arena, &length, &own, sizeof(own)) || arena > 9)
        return 2;
    if (!dlopen(arguments[1], RTLD_NOW))
        return 3;
    length = sizeof(hooks_after);
    if (mallctl("arena.0.extent_hooks", &hooks_after, &length, NULL, 0) ||
        hooks_after == hooks_before)
        return 4;
    name[6] = '0' + arena;
    if (mallctl(name, &hooks_after, &length, NULL, 0) || hooks_after != own)
        return 5;
    return 0;
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
    """Arenas that have hooks of the program's keep them, and the others get the library's."""
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM)
    library = jemalloc_path() if linked == "shared" else str(static_jemalloc)
    needed = ["-lm", "-lpthread", "-ldl"]
    subprocess.run(["cc", "-rdynamic", "-o", program, source, library, *needed], check=True)
    said = subprocess.run(
        [program, allocator_shim.shim_path()],
        env={
            "PGTABLE_CLEANUP_CONF": "hooks:jemalloc,backend:null,verbose:2",
            "MALLOC_CONF": "narenas:1",
        },
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert "pgtable-cleanup: hooks:jemalloc: tables go by " in said


# What a program that is linked with jemalloc calls, by its names in Debian's archive.
JEMALLOC_NAMES = [
    "mallctl",
    "malloc",
    "free",
    "calloc",
    "realloc",
    "aligned_alloc",
    "memalign",
    "posix_memalign",
    "valloc",
    "malloc_usable_size",
    "mallctlnametomib",
    "mallctlbymib",
    "malloc_stats_print",
    "mallocx",
    "rallocx",
    "xallocx",
    "sallocx",
    "dallocx",
    "sdallocx",
    "nallocx",
    "malloc_conf",
    "malloc_message",
]


WITH_ANOTHERS_MALLOC = """
#include <stdio.h>
#include <stdlib.h>
#include <pgtable_cleanup_hooks.h>

int _rjem_mallctl(const char *, void *, size_t *, void *, size_t);

int main(void)
{
    const char *why = pgtable_cleanup_hooks_install(_rjem_mallctl, malloc, free);

    return why ? puts(why) < 0 : 1;
}
"""


def built(source: Path, program: Path, *more: str | Path) -> str:
    """Build a program with the hooks in it, and return what it prints."""
    include = ROOT / "allocator_shim/include"
    libraries = [HOOKS_ARCHIVE, *more, "-lm", "-lpthread", "-ldl"]
    subprocess.run(["cc", "-I", include, "-o", program, source, *libraries], check=True)
    return subprocess.run([program], env={}, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("prefix", ["", "_rjem_"])
def test_a_program_with_jemalloc_in_it(prefix: str, static_jemalloc: Path, tmp_path: Path) -> None:
    """The example frees its tables, whatever jemalloc's names are in it."""
    program, archive = tmp_path / "program", static_jemalloc
    if prefix:
        archive = tmp_path / "libjemalloc.a"
        renamed = [f"--redefine-sym={name}={prefix}{name}" for name in JEMALLOC_NAMES]
        subprocess.run(["objcopy", *renamed, static_jemalloc, archive], check=True)
    # What the archive defines must not clash with names of the program.
    own = subprocess.run(
        ["nm", "--defined-only", "--extern-only", "--format=posix", HOOKS_ARCHIVE],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    names = {line.split()[0] for line in own if len(line.split()) > 2}
    assert names == {"pgtable_cleanup_hooks_install", "pgtable_cleanup_hooks_take_arenas"}
    said = built(ROOT / "docs/examples/static_jemalloc.c", program, archive, f"-DPREFIX={prefix}")
    full, after, kept, of = map(int, re.findall(r"[0-9]+", said))
    assert full >= 95 * 4
    assert after <= 30 * 4
    assert kept == of
    if prefix:
        (tmp_path / "mixed.c").write_text(WITH_ANOTHERS_MALLOC)
        said = built(tmp_path / "mixed.c", program, archive)
        assert "malloc() is not of the jemalloc" in said


# A handler locks memory, whatever it interrupted: here mostly free().
LOCKING = """
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

static char page[4096] __attribute__((aligned(4096)));
static volatile int signals;

static void handle(int number)
{
    mlock(page, sizeof(page));
    signals++;
}

int main(void)
{
    struct itimerval often = { { 0, 1000 }, { 0, 1000 } };

    signal(SIGALRM, handle);
    setitimer(ITIMER_REAL, &often, NULL);
    while (signals < 1000) {
        char *at = malloc(4 << 20);

        memset(at, 1, 4 << 20);
        free(at);
    }
    return 0;
}
"""
# jemalloc starts and ends threads of its own, and holds a lock meanwhile.
SWITCHING = """
#include <stdbool.h>
#include <stddef.h>

extern int mallctl(const char *, void *, size_t *, void *, size_t);

int main(void)
{
    int turn;

    for (turn = 0; turn < 200; turn++) {
        bool on = turn % 2;

        if (mallctl("background_thread", NULL, NULL, &on, sizeof(on)))
            return 1;
    }
    return 0;
}
"""


@pytest.mark.parametrize("first", ["library", "jemalloc"])
@pytest.mark.parametrize("source", [LOCKING, SWITCHING], ids=["handler", "background threads"])
def test_no_program_hangs(source: str, first: str, tmp_path: Path) -> None:
    """The hooks wait for no thread that waits for them, in whatever order libraries are loaded."""
    program = tmp_path / "program"
    (tmp_path / "program.c").write_text(source)
    subprocess.run(
        ["cc", "-O1", "-o", program, tmp_path / "program.c", jemalloc_path()], check=True
    )
    libraries = [str(allocator_shim.shim_path()), jemalloc_path()]
    ended = subprocess.run(
        [program],
        env={
            "LD_PRELOAD": " ".join(libraries if first == "library" else reversed(libraries)),
            "PGTABLE_CLEANUP_CONF": "hooks:jemalloc,backend:null,verbose:2",
            "MALLOC_CONF": "narenas:2,dirty_decay_ms:0,muzzy_decay_ms:0",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "hooks:jemalloc: tables go by" in ended.stderr


def test_without_jemalloc_it_says_how() -> None:
    with pytest.raises(OSError, match="exec --jemalloc"):
        jemalloc.install_hooks()
    assert jemalloc.hook_stats().units == 0
    assert os.environ.get("LD_PRELOAD") is None


def preloaded(
    program: str, conf: str, malloc_conf: str = "thp:never", *arguments: str, shim: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run a Python program under jemalloc, and preload libpgtable_cleanup.so too if `shim`."""
    before = allocator_shim.shim_path() if shim else ""
    return jemallocs.installed().ended(
        program, malloc_conf, *arguments, shim_conf=conf, before=before
    )


def test_by_preload_the_program_does_nothing_for_it() -> None:
    objects = 400_000
    conf = "hooks:jemalloc,backend:null,verbose:2,stats:exit"
    ended = preloaded(jemallocs.RELEASED_IN_STEPS, conf, "thp:never", str(objects))
    jemallocs.check_tables_went(ended.stdout, objects)
    first, second, counts = ended.stderr.splitlines()
    way = "zap" if jemallocs.installed().frees_units() else "remap"
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
