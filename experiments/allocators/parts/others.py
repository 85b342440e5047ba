# SPDX-License-Identifier: MIT
"""Allocators that leave next to nothing empty, or that the library can't see: what helps them."""

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from allocator_shim.preloading import library_path
from experiments import oracle
from experiments.allocators import left
from experiments.allocators.process import started
from experiments.allocators.ways import MODULE, PLAIN, Way
from experiments.measure import ExperimentError, Progress
from experiments.suite.part import Guest, Part, Result, Row, Saving
from experiments.summary import size_text

_MEBIBYTES = 1024
_QUICK_MEBIBYTES = 256
_MOST = 1008
_KEPT = (5, 50, 1000, 100_000)
_GRACE = 2
# glibc's malloc keeps what is not at the end of its heap until it is told to trim.
_TRIMMED = "glibc, malloc_trim()"
# By which library, with Debian's package, and whether each is told to give unused pages back.
_HEAPS: Mapping[str, tuple[tuple[str, str] | None, bool]] = {
    "glibc": (None, False),
    _TRIMMED: (None, True),
    "tcmalloc": (("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"), True),
    "mimalloc": (("libmimalloc.so.2", "libmimalloc2.0"), True),
}
_FOREIGN = Path(__file__).parents[1] / "foreign"
_HEAP = ["-XX:+UseG1GC", "-Xms32m", "-Xmx3g", "-XX:MinHeapFreeRatio=5", "-XX:MaxHeapFreeRatio=10"]
# That release memory by system calls of their own; with Debian's packages.
_COMMANDS = {
    "Java, G1": (["java", *_HEAP, str(_FOREIGN / "Churn.java")], "default-jdk-headless"),
    "Go": (["go", "run", str(_FOREIGN / "churn.go")], "golang-go"),
}


class Others:
    """See `Part`."""

    name = "others"
    description = (
        "empty page tables of heaps of allocators other than jemalloc, 1 object in 100,000 kept"
    )
    guest = Guest(icount=False, cpus=2, memory="5G")

    def measure(
        self,
        *,
        quick: bool,
        seed: int,
        progress: Progress,
    ) -> Result:
        """Each alone and under the library; then what `reclaim` by pid frees of it, if it can.

        Quick, each alone, of a quarter of the heap.
        """
        mebibytes = _QUICK_MEBIBYTES if quick else _MEBIBYTES
        runs: dict[str, dict[str, Any]] = {}
        missing: dict[str, str] = {}
        for name, (library, gives_back) in _HEAPS.items():
            libraries = [] if library is None else [library_path(*library)]
            for way in (PLAIN,) if quick else (PLAIN, MODULE):
                if way.works_here():
                    progress(f"{name}, {way.name}")
                    runs[f"{name}, {way.name}"] = _churned(
                        way.attended(), libraries, seed, mebibytes, gives_back=gives_back
                    )
        for name, (command, package) in _COMMANDS.items():
            if shutil.which(command[0]) is None:
                missing[name] = f"there is no {command[0]} on this machine: install {package}"
                continue
            progress(name)
            runs[name] = _run_foreign(command, mebibytes)
        return {"heap_bytes": mebibytes << 20, "runs": runs, "missing": missing}

    def rows(self, result: Result) -> Sequence[Row]:
        """See `Part`."""
        return [
            ("heap", size_text(result["heap_bytes"])),
            *((name, left.shown(run)) for name, run in result["runs"].items()),
            *result["missing"].items(),
        ]

    def savings(self, result: Result) -> Sequence[Saving]:
        """Of each allocator alone: controls, but for one that is told to give its memory back."""
        heap = f"heap of {size_text(result['heap_bytes'])}"
        return [
            Saving(
                name=f"{heap}, {name.removesuffix(f', {PLAIN.name}')}",
                tables=run["tables"],
                empty=run["empty"],
                freed=run["reclaimed"],
                control=not name.startswith(_TRIMMED),
            )
            for name, run in result["runs"].items()
            if not name.endswith(f", {MODULE.name}")
        ]


def _churned(
    way: Way, libraries: Sequence[str], seed: int, mebibytes: int, *, gives_back: bool
) -> dict[str, Any]:
    with started(way, libraries) as process:
        begin = process.tables()
        process.tell("objects", 2 * (mebibytes << 20) // _MOST, _MOST, seed, True)
        peak = process.tables()
        for keep in _KEPT:
            process.tell("release", keep)
            if gives_back:
                process.tell("give_back")
        time.sleep(_GRACE)
        found = left.found(process.pid, begin, peak)
        _kept, lost = process.tell("check")
        if lost:
            raise ExperimentError(f"{lost} objects are damaged")
    return found


def _run_foreign(command: Sequence[str], mebibytes: int) -> dict[str, Any]:
    with subprocess.Popen(
        [*command, str(mebibytes), str(_KEPT[-1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            censuses = {}
            for phase in ("start", "full"):
                _expect(process, phase)
                censuses[phase] = oracle.observe_halted(_heir(process.pid))
                _go_on(process)
            _expect(process, "released")
            time.sleep(_GRACE)
            return left.found(_heir(process.pid), censuses["start"], censuses["full"])
        finally:
            process.kill()


def _expect(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout is not None  # noqa: S101 -- it is a pipe: for mypy
    said = process.stdout.readline().strip()
    if said != word:
        raise ExperimentError(f"the program said {said!r} where {word!r} was due: see its messages")


def _go_on(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None  # noqa: S101 -- it is a pipe: for mypy
    process.stdin.write("\n")
    process.stdin.flush()


def _heir(pid: int) -> int:
    """The process that a launcher started, if it did."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return int(children[0]) if children else pid


PART: Part = Others()
