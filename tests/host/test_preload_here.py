# SPDX-License-Identifier: MIT
"""Tests that a C program under libpgtable_cleanup.so finds all as it would without it."""

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from allocator_shim.errors import LibraryMissing
from allocator_shim.preloading import jemalloc_path, library_path
from host import programs
from preloaded import SHIM, stats

SOURCES = Path(__file__).parent / "preload"
SHIM_SOURCES = Path(__file__).parents[2] / "allocator_shim"
INCLUDE = [
    *(f"-I{SHIM_SOURCES / directory}" for directory in ("include", "core", "jemalloc")),
    f"-I{SHIM_SOURCES.parent / 'kmod/include/uapi'}",
]
# With this conf the library drains at each release.
CONF = "backend:null,threshold:1"
# With this conf it drains at no release.
UNTIMED = "backend:null,interval_ms:86400000"
THREAD = "backend:null,thread:true,interval_ms:20"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that compiles a program of preload/ and runs it under the library."""
    directory = tmp_path_factory.mktemp("programs")

    def run(
        name: str,
        *arguments: str,
        conf: str = CONF,
        code: int | None = 0,
        preload: str = SHIM,
        malloc_conf: str = "",
        stderr: int | None = subprocess.PIPE,
    ) -> "subprocess.CompletedProcess[str]":
        program = directory / name
        if not program.exists():
            compile_program(SOURCES / f"{name}.c", program)
        # Without any stderr the program starts with descriptor 2 closed.
        start = 'exec "$@"' if stderr is not None else 'exec "$@" 2>&-'
        ended = subprocess.run(
            ["sh", "-c", start, "sh", program, *arguments],
            env={
                "LD_PRELOAD": preload,
                "PGTABLE_CLEANUP_CONF": conf,
                "MALLOC_CONF": malloc_conf,
                "PATH": os.environ["PATH"],
            },
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            check=False,
            timeout=120,
        )
        assert code in (None, ended.returncode), f"{ended.returncode}: {ended.stdout}{ended.stderr}"
        return ended

    return run


def compile_program(source: Path, program: Path, *flags: str) -> None:
    """Compile a C program of the tests."""
    command = ["cc", "-O1", "-Wall", "-Werror", "-pthread", *INCLUDE, *flags]
    subprocess.run([*command, "-o", program, source], check=True)


@pytest.mark.parametrize("function", ["mlock", "mlock2", "mlockall"])
@pytest.mark.parametrize("by", ["", "syscall "])
def test_memory_stays_locked_while_the_hooks_move_other_memory(
    run: Run, by: str, function: str
) -> None:
    lost, moved = locked_beside_moves(run, by + function)
    assert lost == 0
    assert moved > 100


def test_a_lock_that_the_library_does_not_see_can_be_lost(run: Run) -> None:
    """That shows that the test above can fail."""
    lost, _ = locked_beside_moves(run, "unseen")
    assert lost > 0


def locked_beside_moves(run: Run, how: str) -> tuple[int, int]:
    """Return in how many turns memory lost its lock, and how many units were moved."""
    said = run(
        "locks",
        how,
        conf="backend:null",
        preload=f"{SHIM} {jemalloc_path()}",
        malloc_conf="narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0,thp:never",
    ).stdout
    lost, moved = map(int, said.split())
    return lost, moved


@pytest.mark.parametrize(
    "way", ["syscall", "all threads", "listener", "prctl", "prctl by syscall", "strict"]
)
@pytest.mark.parametrize("thread", ["false", "true"])
def test_a_filter_ends_it_after_a_last_drain(run: Run, way: str, thread: str) -> None:
    """The filter kills for any system call of the library, so its counts are printed before."""
    ended = run("filter", way, conf=f"{CONF},stats:exit,thread:{thread},interval_ms:1")
    assert ended.stdout == "alive\n"
    assert [counts["drains"] for counts in stats(ended.stderr)] == [1]


@pytest.mark.parametrize("way", ["libseccomp", "libseccomp, all threads"])
def test_libseccomps_filter_ends_it_after_a_last_drain(run: Run, tmp_path: Path, way: str) -> None:
    """libseccomp asks the kernel what it knows, and then loads the filter."""
    try:
        library = library_path("libseccomp.so.2", "libseccomp2")
    except LibraryMissing:
        library = str(next(programs.unpacked("libseccomp2", tmp_path).rglob("libseccomp.so.2")))
    ended = run("filter", way, library, conf=f"{CONF},stats:exit,thread:true,interval_ms:1")
    assert ended.stdout == "alive\n"
    assert [counts["drains"] for counts in stats(ended.stderr)] == [1]


@pytest.mark.parametrize("way", ["ask", "fail"])
def test_questions_about_filters_and_failures_end_nothing(run: Run, way: str) -> None:
    assert run("filter", way).stdout == ""


PRINTS = f"{CONF},stats:exit"


def test_messages_do_not_go_into_a_file_that_took_descriptor_2(run: Run, tmp_path: Path) -> None:
    database = tmp_path / "database"
    assert run("messages", "file", str(database), conf=PRINTS).stderr == ""
    assert database.read_text() == "DATABASE\n"


def test_messages_go_to_the_stderr_of_the_start_when_it_is_back(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert stats(run("messages", "back", str(other), conf=PRINTS).stderr)
    assert other.read_text() == ""


def test_without_a_stderr_at_the_start_there_are_no_messages(run: Run, tmp_path: Path) -> None:
    """The first file that such a program opens gets descriptor 2."""
    database = tmp_path / "database"
    run("messages", "file", str(database), conf=PRINTS, stderr=None)
    assert database.read_text() == "DATABASE\n"


def test_a_stderr_that_takes_no_text_does_no_harm(run: Run, tmp_path: Path) -> None:
    """A pipe without a reader, a full pipe, and a file that can't grow: the program goes on."""
    reader, writer = os.pipe()
    os.write(writer, bytes(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)))
    run("messages", "none", "-", conf=PRINTS, stderr=writer)
    os.close(reader)
    run("messages", "none", "-", conf=PRINTS, stderr=writer)
    os.close(writer)
    with (tmp_path / "file").open("w") as file:
        run("messages", "limit", "-", conf=PRINTS, stderr=file.fileno())


@pytest.mark.parametrize("way", ["jump", "cancel", "vfork"])
def test_a_drain_that_never_returns_does_not_end_all_drains(run: Run, way: str) -> None:
    run("left", way)


@pytest.mark.parametrize(
    "way", ["fork", "fork by syscall", "daemon", "vfork", "threads", "signals", "namespace"]
)
def test_the_thread_sees_to_each_process_and_is_in_nobodys_way(run: Run, way: str) -> None:
    """The library's thread starts anew where needed, never allocates, and never takes a signal."""
    assert run("thread", way, conf=THREAD).stdout == f"{way}\n"


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")
def test_the_thread_becomes_another_user_with_the_program(run: Run) -> None:
    assert run("thread", "user", conf=THREAD).stdout == "user\n"


@pytest.mark.parametrize("way", ["last thread", "exit"])
def test_the_thread_does_not_outlive_the_program(run: Run, way: str) -> None:
    run("thread", way, conf=THREAD)


def test_mappings_that_move_and_files_that_lose_pages_are_seen(run: Run) -> None:
    run("files", conf=UNTIMED)


def test_unmapping_looks_for_no_file_where_none_was_mapped(run: Run) -> None:
    instructions = int(run("steps", conf=UNTIMED).stdout)
    assert 0 < instructions < 600


@pytest.mark.parametrize("way", ["hint", "cancel"])
def test_functions_are_libcs(run: Run, way: str) -> None:
    """mremap() keeps to its hint with MREMAP_DONTUNMAP; fallocate() is a cancellation point."""
    run("interposed", way, conf=UNTIMED)


def test_other_libraries_in_front_of_libc_are_not_skipped(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "libbehind.so"
    compile_program(SOURCES / "behind.c", other, "-shared", "-fPIC")
    run("interposed", "behind", conf=UNTIMED, preload=f"{SHIM} {other}")


@pytest.mark.parametrize("sanitizer", ["address", "undefined", "thread"])
def test_sanitized_programs_run(tmp_path: Path, sanitizer: str) -> None:
    program = tmp_path / "program"
    compile_program(SOURCES / "interposed.c", program, f"-fsanitize={sanitizer}")
    ended = subprocess.run(
        [program, "release"],
        env={"LD_PRELOAD": SHIM, "PGTABLE_CLEANUP_CONF": f"{PRINTS},thread:true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [counts["drains"] for counts in stats(ended.stderr)] == [1]


@pytest.mark.parametrize(
    "way", ["descriptor", "taken away", "refused", "contended", "disturbed probe", "kept"]
)
def test_the_core_with_a_device_that_the_test_plays(run: Run, way: str) -> None:
    """The core copes with a lost descriptor, a module that refuses, and other threads' mappings."""
    run("core", way, preload="")


def test_a_unit_that_two_mappings_share_is_noted(run: Run) -> None:
    """The kernel frees the table of a unit that is all one mapping's, and no other."""
    ended = run("core", "shared unit", preload="", code=None)
    if ended.returncode == 77:
        pytest.skip("this kernel answers no questions about mappings: it is older than 6.11")
    assert ended.returncode == 0, ended.stdout


def test_a_kernel_that_does_not_clear_memory_at_a_fork_is_told(run: Run) -> None:
    assert "(MADV_WIPEONFORK)" in run("core", "no wiping", preload="").stderr


def test_no_function_takes_much_of_a_handlers_stack(tmp_path: Path) -> None:
    sizes = {}
    for source in sorted(SHIM_SOURCES.glob("core/*.c")) + sorted(SHIM_SOURCES.glob("preload/*.c")):
        made = tmp_path / f"{source.stem}.o"
        command = ["cc", "-O2", "-std=gnu11", "-D_GNU_SOURCE", "-fstack-usage", *INCLUDE, "-c"]
        subprocess.run([*command, "-o", made, source], check=True)
        for line in made.with_suffix(".su").read_text().splitlines():
            where, size, _kind = line.split("\t")
            sizes[where] = int(size)
    assert len(sizes) > 50
    assert {where: size for where, size in sizes.items() if size > 1200} == {}


def test_the_library_is_bound_at_the_start_and_stays() -> None:
    told = subprocess.run(
        ["readelf", "-W", "-d", SHIM], capture_output=True, text=True, check=True
    ).stdout
    assert "NOW" in told
    assert "NODELETE" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_no_thread_stays_who_the_program_was(run: Run) -> None:
    """A thread that starts while the program becomes another user becomes that user, too."""
    for _ in range(40):
        run("user", conf=THREAD)
