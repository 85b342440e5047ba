# SPDX-License-Identifier: MIT
"""Several guests at once: each experiment of a run in a process of its own."""

import json
import os
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import psutil

from cleanup.lab.host import dies_with_us
from experiments.document import AnyDocument

# Of the largest guest there is.
_GUEST_BYTES = 5 << 30
_LOOK_SECONDS = 0.2


def at_once() -> int:
    """How many guests this machine has processors and memory for."""
    memory = psutil.virtual_memory().available // _GUEST_BYTES
    return max(1, min(os.cpu_count() or 1, memory))


@dataclass(frozen=True, slots=True)
class Task:
    """Of one experiment, what `experiment run` is given."""

    name: str
    arguments: Sequence[str]


@dataclass
class _Running:
    task: Task
    process: subprocess.Popen[bytes]
    answer: IO[bytes]
    errors: IO[bytes]


def run(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, AnyDocument | None, str]]:
    """Run them, so many at once; as each ends, yield its document if it has one, and its messages.

    A document that says what failed comes like any other.  Whatever ends this ends them.
    """
    waiting = list(tasks)
    with _all_ended() as running:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_started(waiting.pop(0)))
            time.sleep(_LOOK_SECONDS)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                yield one.task, *_ended(one)


def _started(task: Task) -> _Running:
    answer, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 -- _ended
    program = str(Path(sysconfig.get_path("scripts")) / "pgtable-cleanup")
    # A session of its own: Ctrl-C is for this process, which then ends the others, once.
    process = subprocess.Popen(
        dies_with_us(program, "experiment", "run", *task.arguments, "--json", "--unstored"),
        stdin=subprocess.DEVNULL,
        stdout=answer,
        stderr=errors,
        start_new_session=True,
    )
    return _Running(task, process, answer, errors)


def _ended(one: _Running) -> tuple[AnyDocument | None, str]:
    with one.answer, one.errors:
        for file in (one.answer, one.errors):
            file.seek(0)
        said = one.errors.read().decode(errors="replace")
        try:
            return cast(AnyDocument, json.loads(one.answer.read())), said
        except ValueError:
            return None, said


@contextmanager
def _all_ended() -> Iterator[list[_Running]]:
    running: list[_Running] = []
    try:
        yield running
    finally:
        for one in running:
            # Not Ctrl-C's, which a job in the background ignores.
            one.process.terminate()
        for one in running:
            one.process.wait()
            one.answer.close()
            one.errors.close()
