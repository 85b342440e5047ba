# SPDX-License-Identifier: MIT
"""Measures parts in the lab: in one guest all that need the same kernel and machine."""

import json
import os
import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import psutil

from cleanup import lab
from cleanup.errors import CleanupError
from cleanup.lab.progress import Lines, Progress, on_stderr
from experiments import document as documents
from experiments.document import Document
from experiments.part import Part, Scale
from experiments.provenance import commit

# A part that takes longer hangs; a guest without KVM is slow, and its host may be busy.
_SECONDS = 6 * 3600
_QUICK_SECONDS = 900
# The largest guest, with what QEMU takes.
_GUEST_BYTES = 5 << 30


def at_once() -> int:
    """Return how many guests this machine has processors and memory for."""
    memory = psutil.virtual_memory().available // _GUEST_BYTES
    return max(1, min(os.cpu_count() or 1, memory))


@dataclass(frozen=True, slots=True)
class _Batch:
    """Parts that share a guest."""

    kernel: str
    machine: lab.Machine
    parts: tuple[Part, ...]


def here(parts: Iterable[Part], scale: Scale) -> Iterator[Document]:
    """Measure parts on this machine, one after the other."""
    made_by = commit()
    for part in parts:
        yield {**documents.measure(part, scale), "commit": made_by}


def in_lab(
    wanted: Sequence[tuple[Part, str]], scale: Scale, *, jobs: int = 1
) -> Iterator[Document]:
    """Measure parts, each on a kernel of the lab; yield each document as it comes.

    Up to `jobs` guests run at once. A part that fails, or whose guest does, has a document that
    says so, and costs no other's result.
    """
    made_by = commit()
    batches = _batches(wanted, scale)
    run = _in_turn(batches, scale) if jobs == 1 else _at_once(batches, scale, jobs)
    for document in run:
        yield {**document, "commit": made_by}


def _batches(wanted: Sequence[tuple[Part, str]], scale: Scale) -> list[_Batch]:
    groups: dict[tuple[str, lab.Machine], list[Part]] = {}
    for part, kernel in wanted:
        machine = lab.Machine(**part.needs_at(scale).machine())
        groups.setdefault((kernel, machine), []).append(part)
    return [_Batch(*place, tuple(parts)) for place, parts in groups.items()]


def _in_turn(batches: Sequence[_Batch], scale: Scale) -> Iterator[Document]:
    for batch in batches:
        yield from _in_guests(batch, scale, on_stderr())


def _at_once(batches: Sequence[_Batch], scale: Scale, jobs: int) -> Iterator[Document]:
    """Measure batches in threads, each of which has a guest of its own at a time."""
    waiting = queue.SimpleQueue[_Batch]()
    found = queue.SimpleQueue[Document | BaseException | None]()
    for batch in batches:
        waiting.put(batch)

    def work() -> None:
        try:
            while True:
                batch = waiting.get_nowait()
                for document in _in_guests(batch, scale, Lines()):
                    found.put(document)
        except queue.Empty:
            found.put(None)
        except BaseException as error:
            found.put(error)

    # A guest dies with the thread that booted it, and these with the program: whatever ends the
    # program leaves nothing behind.
    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(batches)))]
    for worker in workers:
        worker.start()
    running = len(workers)
    while running:
        got = found.get()
        if got is None:
            running -= 1
        elif isinstance(got, BaseException):
            raise got
        else:
            yield got


def _in_guests(batch: _Batch, scale: Scale, progress: Progress) -> Iterator[Document]:
    """Measure parts in one guest, and in another one what is left when it has ended early."""
    waiting = list(batch.parts)
    while waiting:
        part = waiting[0]
        try:
            with lab.boot(batch.kernel, batch.machine, progress=progress) as guest:
                while waiting and not guest.ended:
                    part = waiting.pop(0)
                    scale.progress(f"{part.name} on {batch.kernel}")
                    yield in_guest(guest, part, scale)
        except CleanupError as error:
            # Where no guest boots, there is none for the others either.
            lost = waiting if part in waiting else [part]
            for one in lost:
                yield _failed(one, scale, batch.kernel, str(error))
            waiting = [] if lost is waiting else waiting


def in_guest(guest: lab.Guest, part: Part, scale: Scale) -> Document:
    """Measure a part in a guest.  Raises LabError if that ends the guest."""
    done = guest.run(
        [sys.executable, "-P", "-m", "experiments", part.name, json.dumps(scale.to_json())],
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
    """Return the document of a part that a guest had no result of."""
    document = documents.empty(part, scale, kernel)
    return {**document, "accelerator": "lab", "failures": [why]}


def _forward(output: bytes) -> None:
    sys.stderr.buffer.write(output)
    sys.stderr.buffer.flush()
