# SPDX-License-Identifier: MIT
"""All proofs: what each runs, in which guest, and for how long at either scale."""

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cleanup import lab
from cleanup.lab.debug_kernels import configuration
from proof import chromium, content
from proof.evidence import About, Scale
from proof.jemalloc.prove import prove as jemallocs_tests
from proof.mutations.prove import prove as mutations
from proof.selftests.prove import prove as selftests
from proof.task import PYTEST, PYTHON, TESTS, Outcome, ProofFailed, Task
from proof.upstream import prove as upstream

KERNELS = tuple(lab.SOURCES)
HOST = "host"
# By default KCSAN delays one access in 4000 for 80 us, which emulated CPUs hardly ever meet in.
RACES_APPEND = "kcsan.skip_watch=2000 kcsan.udelay_task=4000"
# debug_pagealloc flushes the TLB for each page allocated or freed, and makes faults slower.
ZEROS_APPEND = "debug_pagealloc=off"
# The sources of the scenarios, which the proofs `mutations` and `upstream` play.
SCENARIOS = ("proof/scenarios", "proof/modules/delay", "proof/modules/shadow")
# What the preload library is made of: its proofs count for as long as this stays the same.
LIBRARY = tuple(f"../allocator_shim/{part}" for part in ("core", "jemalloc", "preload"))
STORMS_IN_GUEST = ("tests/guest/test_shim_storm.py", "tests/proof/shim_storms/test_long_storms.py")
STORMS_HERE = (
    "tests/host/test_shim_storms_here.py",
    "tests/host/test_programs_here.py",
    "tests/host/test_storms_at_length.py",
)
RELOADS = 2
# A storm may last this much longer than it was asked to: see LEAST_PATIENCE in storms.storm.
SPARE_SECONDS = 1800


@dataclass(frozen=True)
class Proof:
    """A proof, which `python -m proof NAME` runs."""

    name: str
    description: str
    run: Callable[[Task], Outcome]
    unit: str
    amounts: Mapping[Scale, int]
    """How much of the unit is done at each scale; a scale that is missing has no such proof."""
    sources: tuple[str, ...]
    """The files that the proof is made of, below tests/; what those import counts as well."""
    kernels: tuple[str, ...] = KERNELS
    build: str | None = "debug"
    """The build of the kernel; None for Debian's."""
    builds: Mapping[Scale, str | None] = field(default_factory=dict)
    """At these scales, the builds of the kernel that replace `build`."""

    def build_at(self, scale: Scale) -> str | None:
        """Return the build of the kernel at a scale."""
        return self.builds.get(scale, self.build)

    def about(self, line: str, scale: Scale, kmod: Path = content.KMOD) -> About:
        """Hash the module and the proof as they are now."""
        build = self.build_at(scale)
        wanted = repr(sorted(configuration(line, build).items())) if build else ""
        module = content.of_module(lab.DEFAULT if line == HOST else line, kmod)
        return About(module, content.combined(content.of_sources(*self.sources), wanted))


def _storms(task: Task) -> Outcome:
    return _storm(task, lab.SOURCES[task.line].storms)


def _races(task: Task) -> Outcome:
    race = task.helper("race")
    return _storm(task, {"append": RACES_APPEND}, f"--race={race}", visible=(race.parent,))


def _storm(
    task: Task, shape: Mapping[str, Any], *options: str, visible: tuple[Path, ...] = ()
) -> Outcome:
    shadow = task.helper("shadow")
    module = lab.build_module(task.guests_kernel, progress=task.progress)
    machine = lab.Machine(memory="3G", disk="1G", numa=2, cpus=4, **shape)
    only = ["--only", *task.only.split(",")] if task.only else []
    command = [*PYTHON, "proof.storms", f"--seconds={task.amount}", f"--reloads={RELOADS}"]
    command += [f"--seed={task.seed}", f"--shadow={shadow}", f"--module={module}", *options, *only]
    return task.in_guest(
        machine,
        command,
        timeout=task.amount + 60 * RELOADS + SPARE_SECONDS,
        visible=[shadow.parent, module.parent, *visible],
    )


def _fuzz(task: Task) -> Outcome:
    command = [*PYTEST, "-o", "faulthandler_timeout=7000", "tests/proof/fuzz"]
    command += [f"--calls={task.amount}", f"--seed={task.seed}", f"-k={task.only}"]
    done = task.in_guest(lab.Machine(memory="3G"), command, timeout=7200)
    return Outcome({"fuzzers": done.figures}, done.log)


def _zeros(task: Task) -> Outcome:
    machine = lab.Machine(cpus=3, append=ZEROS_APPEND)
    command = [*PYTHON, "proof.stale_zeros", f"--rounds={task.amount}"]
    return task.in_guest(machine, command, timeout=14400)


def _shim_storms(task: Task) -> Outcome:
    options = (f"--storm-seconds={task.amount}", f"--storm-seed={task.seed}")
    if task.line != HOST:
        command = [*PYTEST, *STORMS_IN_GUEST, f"-k={task.only}", *options]
        # A storm that does too little is followed by a longer one.
        limit = len(STORMS_IN_GUEST) * 5 * task.amount + SPARE_SECONDS
        return task.in_guest(lab.Machine(), command, timeout=limit)
    chosen = task.only or "libcs_malloc or jemallocs_hooks or snapshots or notices"
    ended = subprocess.run(
        [*PYTHON, "pytest", *STORMS_HERE, f"-k={chosen}", *options],
        env={**os.environ, "PGTABLE_CLEANUP_RESULTS": str(task.work)},
        cwd=TESTS.parent,
        check=False,
    )
    if ended.returncode:
        raise ProofFailed("a storm failed on this machine")
    return Outcome(task.left(), "")


PROOFS = {
    proof.name: proof
    for proof in (
        Proof(
            "storms",
            "All that changes page tables, at once, beside cleaners.",
            _storms,
            "seconds",
            {"short": 60, "long": 600},
            ("proof/storms", "proof/modules/shadow"),
        ),
        Proof(
            "mutations",
            "Each protection of the module off: is it noticed?",
            mutations,
            "runs",
            {"short": 5, "long": 5},
            ("proof/mutations/catalog.py", *SCENARIOS),
        ),
        Proof(
            "fuzz",
            "Random arguments and layouts.",
            _fuzz,
            "calls",
            {"short": 2000, "long": 300_000},
            ("proof/fuzz",),
            builds={"long": None},
        ),
        Proof(
            "upstream",
            "The bugs that Linux itself had where it takes page tables away.",
            upstream,
            "runs",
            {"long": 3},
            SCENARIOS,
        ),
        Proof(
            "zeros",
            "Reads behind writes to zero pages that were dropped.",
            _zeros,
            "rounds",
            {"long": 1_000_000},
            ("proof/stale_zeros.py",),
        ),
        Proof(
            "races",
            "The storms on a kernel that looks for data races.",
            _races,
            "seconds",
            {"long": 60},
            ("proof/storms", "proof/modules/shadow", "proof/modules/race"),
            kernels=("7.3",),
            build="kcsan",
        ),
        Proof(
            "selftests",
            "The kernel's own mm tests, without a cleaner and beside one.",
            selftests,
            "runs",
            {"long": 1},
            ("proof/selftests/in_guest.py", "proof/selftests/build.py"),
            kernels=("6.12",),
            build=None,
        ),
        Proof(
            "shim-storms",
            "Threads, signals, forks and redis under the preload library.",
            _shim_storms,
            "seconds",
            {"long": 600},
            (
                *(name.removeprefix("tests/") for name in (*STORMS_IN_GUEST, *STORMS_HERE)),
                "storm.c",
                *LIBRARY,
            ),
            kernels=(*KERNELS, HOST),
            build=None,
        ),
        Proof(
            "chromium",
            "Chromium's sandboxed renderer under the preload library.",
            chromium.prove,
            "pages",
            {"long": 1},
            ("proof/chromium.py", *LIBRARY),
            kernels=(HOST,),
            build=None,
        ),
        Proof(
            "jemalloc-tests",
            "jemalloc's own tests, without the preload library, with it, and with the hooks.",
            jemallocs_tests,
            "runs",
            {"long": 1},
            ("proof/jemalloc", *LIBRARY),
            kernels=(HOST,),
            build=None,
        ),
    )
}
