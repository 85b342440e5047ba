# SPDX-License-Identifier: MIT
"""Tests of allocator_shim.jemalloc in processes with Debian's jemalloc, and in others."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from allocator_shim import jemalloc
from allocator_shim.errors import JemallocError, NotLoaded
from allocator_shim.preloading import jemalloc_path

PRELUDE = """
import errno
from allocator_shim import jemalloc
from allocator_shim.errors import JemallocError, NotLoaded
def refused(call, *arguments):
    try:
        call(*arguments)
    except JemallocError as error:
        return error.errno, error.strerror
    raise AssertionError("not refused")
"""


def run(program: str, *preload: object, conf: str = "") -> str:
    """Return the output of a Python program whose objects come from malloc()."""
    ended = subprocess.run(
        [sys.executable, "-P", "-c", PRELUDE + textwrap.dedent(program)],
        env={
            "LD_PRELOAD": " ".join(map(str, preload)),
            "PYTHONMALLOC": "malloc",
            "MALLOC_CONF": conf,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def in_jemalloc(program: str, conf: str = "") -> str:
    return run(program, jemalloc_path(), conf=conf)


def library(directory: Path, text: str) -> Path:
    """Compile a C source to a shared library."""
    source, made = directory / "made.c", directory / "libmade.so"
    source.write_text(text)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", made, source], check=True)
    return made


def test_another_allocator_is_told_what_to_do() -> None:
    assert not jemalloc.available()
    for call in (jemalloc.version, jemalloc.stats, jemalloc.purge, jemalloc.prefix):
        with pytest.raises(NotLoaded, match="exec --jemalloc"):
            call()


def test_importing_it_loads_no_second_allocator() -> None:
    text = "import allocator_shim.jemalloc; print('jemalloc.so.' in open('/proc/self/maps').read())"
    assert run(text) == "False\n"


def test_it_is_found() -> None:
    said = in_jemalloc("print(jemalloc.available(), repr(jemalloc.prefix()), jemalloc.version())")
    available, prefix, version = said.split()
    assert (available, prefix) == ("True", "''")
    assert version.startswith("5.")


def test_values_have_types() -> None:
    said = in_jemalloc(
        """
        print(jemalloc.read_bool("opt.retain"), jemalloc.read_unsigned("opt.narenas") > 0,
              jemalloc.read_size("arenas.page"), jemalloc.read_ssize("opt.dirty_decay_ms"),
              jemalloc.read_str("opt.thp"), jemalloc.read_uint64("stats.arenas.0.muzzy_npurge"))
        """,
        "dirty_decay_ms:777,muzzy_decay_ms:-1",
    )
    assert said.split() == ["True", "True", "4096", "777", "default", "0"]


def test_what_it_refuses() -> None:
    said = in_jemalloc("""
        print(refused(jemalloc.read_size, "stats.nothing"))
        print(refused(jemalloc.read_bool, "stats.allocated"))
        print(refused(jemalloc.purge, 4000))
    """)
    lines = said.splitlines()
    assert "stats.nothing: this jemalloc knows no such name" in lines[0]
    assert "stats.allocated: the value has another size or type" in lines[1]
    assert all("mallctl" in line for line in lines)


def test_stats_follow_the_program_and_purge_gives_back() -> None:
    said = in_jemalloc(
        """
        import os
        def resident():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) << 12
        before = jemalloc.stats()
        kept = [os.urandom(3000) for _ in range(30_000)]
        grown = jemalloc.stats()
        assert grown.allocated - before.allocated >= 90_000_000, (before, grown)
        assert grown.active >= grown.allocated
        assert grown.mapped >= grown.resident - grown.metadata
        del kept
        held = resident()
        dirty = jemalloc.arena(jemalloc.ALL_ARENAS).dirty
        assert dirty >= 10_000, dirty
        jemalloc.purge()
        after = jemalloc.arena(jemalloc.ALL_ARENAS)
        assert after.dirty == 0, after
        assert after.purged >= dirty
        assert held - resident() >= 60_000_000
        assert 0 in jemalloc.arenas()
        """,
        "dirty_decay_ms:-1,narenas:2",
    )
    assert said == ""


def test_decay_of_all_arenas_and_of_one() -> None:
    said = in_jemalloc("""
        jemalloc.set_decay(jemalloc.Decay(1234, 0))
        print(jemalloc.decay(), jemalloc.decay(0))
        jemalloc.set_decay(jemalloc.Decay(-1, -1), 0)
        print(jemalloc.decay(), jemalloc.decay(0))
        print(refused(jemalloc.set_decay, jemalloc.Decay(-2, 0)))
    """)
    default, never = (f"Decay(dirty_ms={d}, muzzy_ms={m})" for d, m in ((1234, 0), (-1, -1)))
    first, second, third = said.splitlines()
    assert (first, second) == (f"{default} {default}", f"{default} {never}")
    assert "mallctl" in third


def test_a_jemalloc_that_is_not_the_allocator(tmp_path: Path) -> None:
    """A process that has mallctl(), but another allocator's malloc(), is refused with advice."""
    other = library(tmp_path, "int mallctl(void) { return 0; }\n")
    said = run("print(refused(jemalloc.version))", other)
    assert "malloc is another allocator's" in said
    assert "exec --jemalloc" in said


@pytest.mark.parametrize("prefix", ["je_", "_rjem_"])
def test_a_build_with_a_prefix(tmp_path: Path, prefix: str) -> None:
    made = library(
        tmp_path,
        f"""
        #include <stddef.h>
        #include <string.h>
        void *{prefix}malloc(size_t size) {{ (void)size; return NULL; }}
        void {prefix}free(void *at) {{ (void)at; }}
        int {prefix}mallctl(const char *name, void *old, size_t *length, void *new, size_t size)
        {{
            static const char *const version = "of " "{prefix}";
            (void)new; (void)size; (void)length;
            if (strcmp(name, "version"))
                return 2;
            memcpy(old, &version, sizeof(version));
            return 0;
        }}
        """,
    )
    said = run("print(jemalloc.prefix(), jemalloc.version(), refused(jemalloc.stats)[0])", made)
    assert said.split() == [prefix, "of", prefix, "2"]


def test_an_error_is_an_oserror() -> None:
    assert issubclass(NotLoaded, JemallocError)
    assert issubclass(JemallocError, OSError)
