# SPDX-License-Identifier: MIT
"""Empty page tables of other allocators: the library does not see how some release memory."""

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from allocator_shim.preloading import library_path
from experiments import oracle
from experiments.allocators import empties
from experiments.allocators.methods import MODULE, NONE
from experiments.part import ExperimentError, Measured, Needs, Part, Row, Saving, Scale
from experiments.summary import size_text

_MEBIBYTES = 1024
_QUICK_MEBIBYTES = 16
# glibc's malloc keeps what is not at the end of its heap until it is told to trim.
_TRIMMED = "glibc, malloc_trim()"
# Each allocator's library and Debian package, and whether it is told to give unused pages back.
_HEAPS: Mapping[str, tuple[tuple[str, str] | None, bool]] = {
    "glibc": (None, False),
    _TRIMMED: (None, True),
    "tcmalloc": (("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"), True),
    "mimalloc": (("libmimalloc.so.2", "libmimalloc2.0"), True),
}
_FOREIGN = Path(__file__).parents[1] / "foreign"
_HEAP = ["-XX:+UseG1GC", "-Xms32m", "-Xmx3g", "-XX:MinHeapFreeRatio=5", "-XX:MaxHeapFreeRatio=10"]
# Programs that release memory by system calls of their own, with their Debian packages.
_COMMANDS = {
    "Java, G1": (["java", *_HEAP, str(_FOREIGN / "Churn.java")], "default-jdk-headless"),
    "Go": (["go", "run", str(_FOREIGN / "churn.go")], "golang-go"),
}


class Others(Part):
    name = "allocators/others"
    description = (
        "empty page tables of heaps of allocators other than jemalloc, 1 object in 100,000 kept"
    )

    def needs_at(self, scale: Scale) -> Needs:
        """Return a machine with memory for Java's heap, which a quick measurement leaves out."""
        return self.needs if scale.quick else replace(self.needs, memory="5G")

    def measure(self, scale: Scale) -> Measured:
        """Run each allocator alone and under the library, then reclaim what is left.

        A quick measurement has smaller heaps, and runs neither the library nor Java and Go.
        """
        mebibytes = scale.pick(_MEBIBYTES, _QUICK_MEBIBYTES)
        runs: dict[str, dict[str, Any]] = {}
        missing: dict[str, str] = {}
        for name, (library, gives_back) in _HEAPS.items():
            libraries = [] if library is None else [library_path(*library)]
            for method in (NONE,) if scale.quick else (NONE, MODULE):
                if method.works_here():
                    scale.progress(f"{name}, {method.name}")
                    runs[f"{name}, {method.name}"] = empties.of_heap(
                        *(method.attended(), libraries, mebibytes << 20, scale.seed),
                        order="libc.give_back" if gives_back else None,
                    )
        for name, (command, package) in () if scale.quick else _COMMANDS.items():
            if shutil.which(command[0]) is None:
                missing[name] = f"there is no {command[0]} on this machine: install {package}"
                continue
            scale.progress(name)
            runs[name] = _run_foreign(command, mebibytes)
        return {"heap_bytes": mebibytes << 20, "runs": runs, "missing": missing}

    def rows(self, measured: Measured) -> Sequence[Row]:
        return [
            ("heap", size_text(measured["heap_bytes"])),
            *((name, empties.shown(run)) for name, run in measured["runs"].items()),
            *measured["missing"].items(),
        ]

    def savings(self, measured: Measured) -> Sequence[Saving]:
        """Return what each allocator alone can save; all but a trimmed glibc are controls."""
        heap = f"heap of {size_text(measured['heap_bytes'])}"
        return [
            Saving(
                name=f"{heap}, {name.removesuffix(f', {NONE.name}')}",
                tables=run["tables"],
                empty=run["empty"],
                freed=run["reclaimed"],
                control=not name.startswith(_TRIMMED),
            )
            for name, run in measured["runs"].items()
            if not name.endswith(f", {MODULE.name}")
        ]


def _run_foreign(command: Sequence[str], mebibytes: int) -> dict[str, Any]:
    with subprocess.Popen(
        [*command, str(mebibytes), str(empties.KEPT[-1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        source, sink = process.stdout, process.stdin
        assert source is not None  # noqa: S101 -- they are pipes: for mypy
        assert sink is not None  # noqa: S101

        def expect(word: str) -> int:
            """Read a word from the program; return its pid, or that of its child if it has one."""
            said = source.readline().strip()
            if said != word:
                raise ExperimentError(
                    f"the program said {said!r} where {word!r} was due: see its messages"
                )
            pid = process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
            return int(children[0]) if children else pid

        try:
            censuses = []
            for phase in ("start", "full"):
                censuses.append(oracle.observe_halted(expect(phase)))
                sink.write("\n")
                sink.flush()
            pid = expect("released")
            time.sleep(empties.GRACE)
            return empties.found_in(pid, *censuses)
        finally:
            process.kill()


PART = Others()
