# SPDX-License-Identifier: MIT
"""Measures parts, here or in the lab, where those of one kernel and machine share a guest."""

import json
import os
import queue
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from typing import cast

import psutil

from cleanup import lab
from cleanup.errors import CleanupError
from cleanup.lab.progress import Lines, Progress, on_stderr
from experiments import document as documents
from experiments.document import Document
from experiments.part import Part, Scale
from experiments.provenance import commit

# A part that takes longer must be hanging; guests without KVM are slow, and hosts may be busy.
_SECONDS = 6 * 3600
_QUICK_SECONDS = 900
# The memory of the largest guest and of its QEMU.
_GUEST_BYTES = 5 << 30

_Machine = tuple[str, lab.Machine]
"""A kernel and the machine it runs on: parts that need the same two share a guest."""
_Machines = Mapping[_Machine, Sequence[Part]]


def at_once() -> int:
    """Return how many guests this machine has processors and memory for."""
    memory = psutil.virtual_memory().available // _GUEST_BYTES
    return max(1, min(os.cpu_count() or 1, memory))


def here(parts: Iterable[Part], scale: Scale) -> Iterator[Document]:
    """Measure parts on this machine, one after the other."""
    made_by = commit()
    for part in parts:
        yield {**documents.measure(part, scale), "commit": made_by}


def in_lab(
    wanted: Sequence[tuple[Part, str]], scale: Scale, *, jobs: int = 1
) -> Iterator[Document]:
    """Measure parts, each on a kernel of the lab; yield each document as it comes.

    Up to `jobs` guests run at once. Where a part or its guest fails, the part's document says so,
    and the others are measured all the same.
    """
    made_by = commit()
    machines: dict[_Machine, list[Part]] = {}
    for part, kernel in wanted:
        machine = lab.Machine(**part.needs_at(scale).machine())
        machines.setdefault((kernel, machine), []).append(part)
    run = _at_once(machines, scale, jobs) if jobs > 1 else _in_turn(machines, scale)
    for document in run:
        yield {**document, "commit": made_by}


def _in_turn(machines: _Machines, scale: Scale) -> Iterator[Document]:
    for machine, parts in machines.items():
        yield from _in_guests(machine, parts, scale, on_stderr())


def _at_once(machines: _Machines, scale: Scale, jobs: int) -> Iterator[Document]:
    """Measure in `jobs` threads, each of which has one guest at a time."""
    found = queue.SimpleQueue[Document | BaseException | None]()

    def work(machine: _Machine, parts: Sequence[Part]) -> None:
        for document in _in_guests(machine, parts, scale, Lines()):
            found.put(document)

    # A guest dies with the thread that booted it, and the threads, being daemons, die with the
    # program: however it ends, it leaves no guest behind.
    with ThreadPool(jobs) as pool:
        for batch in machines.items():
            pool.apply_async(work, batch, callback=found.put, error_callback=found.put)
        running = len(machines)
        while running:
            got = found.get()
            if got is None:
                running -= 1
            elif isinstance(got, BaseException):
                raise got
            else:
                yield got


def _in_guests(
    machine: _Machine, parts: Sequence[Part], scale: Scale, progress: Progress
) -> Iterator[Document]:
    """Measure parts in one guest; if it ends early, measure the rest in another."""
    waiting, kernel = list(parts), machine[0]
    while waiting:
        part = waiting[0]
        try:
            with lab.boot(*machine, progress=progress) as guest:
                while waiting and not guest.ended:
                    part = waiting.pop(0)
                    scale.progress(f"{part.name} on {kernel}")
                    yield in_guest(guest, part, scale)
        except CleanupError as error:
            # If this guest did not boot, none will boot for the other parts either.
            lost = waiting if part in waiting else [part]
            for one in lost:
                yield _failed(one, scale, kernel, str(error))
            waiting = [] if lost is waiting else waiting


def command(*names: str, scale: Scale) -> list[str]:
    """Return the command that measures parts where it runs, and prints a document a line."""
    return [sys.executable, "-P", "-m", "experiments", json.dumps(scale.to_json()), *names]


def in_guest(guest: lab.Guest, part: Part, scale: Scale) -> Document:
    """Measure a part in a guest.  Raises LabError if the guest ends meanwhile."""
    done = guest.run(
        command(part.name, scale=scale),
        timeout=_QUICK_SECONDS if scale.quick else _SECONDS,
        on_stderr=_forward,
    )
    try:
        document = cast(Document, json.loads(done.stdout))
    except ValueError:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        why = f"its process ended with exit code {done.exit_code} and without a result: {said[0]}"
        return _failed(part, scale, guest.kernel.release, why)
    document["machine"] = part.needs_at(scale).machine()
    document["clock"] = {
        "guest_seconds": done.guest_seconds,
        "host_seconds": done.seconds,
        "agree": done.clock_ok,
    }
    return document


def _failed(part: Part, scale: Scale, kernel: str, why: str) -> Document:
    """Return a document without figures that says why measuring a part failed."""
    document = documents.empty(part, scale, kernel)
    return {**document, "accelerator": "lab", "failures": [why]}


def _forward(output: bytes) -> None:
    sys.stderr.buffer.write(output)
    sys.stderr.buffer.flush()
