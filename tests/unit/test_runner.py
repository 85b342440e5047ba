# SPDX-License-Identifier: MIT
"""Tests of how parts are measured: what a document says, and which guests are booted."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil
import pytest

from cleanup import lab
from cleanup.errors import CleanupError
from experiments import document as documents
from experiments import provenance, runner
from experiments.document import Document
from experiments.part import COUNTING, Claim, ExperimentError, Measured, Needs, Part, Scale, at_most
from unit.stored import stored
from unit.test_lab_guest import made_result


class MadeUp(Part):
    """A part whose figure is the scale's seed, or that fails because it lacks something."""

    description = "what it does"

    def __init__(self, name: str, needs: Needs = Needs(), lacks: str = "") -> None:  # noqa: B008
        self.name, self.needs, self.lacks = name, needs, lacks

    def measure(self, scale: Scale) -> Measured:
        scale.progress("begins")
        if self.lacks:
            raise CleanupError(self.lacks)
        return {"seed": scale.seed, "unavailable": {"zap": "not here"}}

    def claims(self, measured: Measured) -> list[Claim]:
        return [at_most("the seed", measured["seed"], 4)]

    def violations(self, measured: Measured) -> list[str]:
        return ["it broke"] if measured["seed"] == 13 else []


@pytest.fixture(autouse=True)
def no_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let code believe that it runs in no guest of the lab, and on the commit "abc"."""
    for name in ("PGTABLE_CLEANUP_ACCELERATOR", "PGTABLE_CLEANUP_ICOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(provenance, "commit", lambda: "abc")
    monkeypatch.setattr(runner, "commit", lambda: "abc")


def test_a_document_says_what_was_measured_and_how() -> None:
    said: list[str] = []
    document = documents.measure(MadeUp("made-up"), Scale(seed=5, progress=said.append))
    assert said == ["made-up: begins"]
    assert set(document) == set(Document.__annotations__)
    assert document["schema"] == 2
    assert document["measured"] == {"seed": 5}
    assert document["unavailable"] == {"zap": "not here"}
    assert document["seed"] == 5
    assert [claim["met"] for claim in document["claims"]] == [False]
    assert document["failures"] == []
    assert document["accelerator"] == "host"


def test_claims_are_judged_at_full_scale_alone() -> None:
    """Figures of a smaller layout can't meet or miss a claim about the larger one."""
    document = documents.measure(MadeUp("made-up"), Scale(quick=True))
    assert document["measured"] == {"seed": 1}
    assert document["claims"] == []


def test_broken_invariants_are_failures_with_their_figures() -> None:
    document = documents.measure(MadeUp("made-up"), Scale(seed=13))
    assert document["failures"] == ["it broke"]
    assert document["measured"] == {"seed": 13}


def test_a_part_that_measures_nothing_says_why() -> None:
    document = documents.measure(MadeUp("made-up", lacks="this takes root"), Scale())
    assert (document["measured"], document["failures"]) == (None, ["this takes root"])


@pytest.mark.parametrize(
    ("needs", "accelerator", "why"),
    [
        (COUNTING, None, "leave out --host"),
        (Needs(hardware=True), None, None),
        (Needs(hardware=True), "kvm", None),
        (Needs(hardware=True), "tcg", "an emulator's say nothing"),
        (Needs(), "tcg", None),
    ],
)
def test_what_a_machine_has_not_is_not_measured(
    needs: Needs, accelerator: str | None, why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instructions need a guest that counts them, and times need a real processor."""
    if accelerator:
        monkeypatch.setenv("PGTABLE_CLEANUP_ACCELERATOR", accelerator)
    document = documents.measure(MadeUp("made-up", needs), Scale())
    assert (document["measured"] is None) == (why is not None)
    assert (why or "not here") in "".join(document["unavailable"].values())
    assert document["failures"] == []


def test_documents_are_written_whole_and_read_in_order(tmp_path: Path) -> None:
    """Documents are sorted by part and kernel version; other files and former parts are ignored."""
    for kernel in ("7.3.4", "6.12.95", "6.1.0-50"):
        document = stored("designs/when", kernel=kernel)
        documents.write(document, tmp_path / documents.file_name(document))
    documents.write(stored("designs/when", part="designs/gone"), tmp_path / "gone.json")
    (tmp_path / "other.json").write_text('{"schema": "other"}')
    (tmp_path / "older.json").write_text('{"schema": 1, "experiment": "designs"}')
    (tmp_path / "broken.json").write_text("{")
    assert (tmp_path / "designs-when-lab-6.1.json").exists()
    found = documents.read_all(tmp_path)
    assert [document["kernel"] for document in found] == ["6.1.0-50", "6.12.95", "7.3.4"]
    assert not list(tmp_path.glob(".*"))


def test_a_directory_without_results_is_named(tmp_path: Path) -> None:
    """A notebook that is opened outside the checkout finds no results."""
    with pytest.raises(ExperimentError, match=f"no results in {tmp_path}"):
        documents.read_some(tmp_path)


@dataclass
class FakeLab:
    """Stands in for the lab: boots guests that measure the parts they are asked for.

    `ends` names parts that crash their guest, `silent` those that print no result.
    """

    ends: Sequence[str] = ()
    silent: Sequence[str] = ()
    boots: list[tuple[str, lab.Machine]] = field(default_factory=list)
    closed: int = 0
    asked: list[tuple[str, Scale]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def boot(self, kernel: str, machine: lab.Machine, **_options: object) -> "FakeGuest":
        if kernel == "9.9":
            raise lab.LabError("no such kernel")
        self.boots.append((kernel, machine))
        self.threads.add(threading.get_ident())
        return FakeGuest(self, kernel)


@dataclass
class FakeGuest:
    """Stands in for lab.Guest."""

    of: FakeLab
    release: str
    ended: str | None = None

    @property
    def kernel(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.of.closed += 1

    def run(self, command: Sequence[str], **_options: object) -> lab.GuestResult:
        assert command[:4] == [sys.executable, "-P", "-m", "experiments"]
        scale, name = Scale.from_json(json.loads(command[4])), command[5]
        self.of.asked.append((name, scale))
        if name in self.of.ends:
            self.ended = "it panicked"
            raise lab.LabError(f"the guest panicked; while it ran {name}")
        if name in self.of.silent:
            return made_result(exit_code=1, stderr=b"first\nKilled\n")
        document = documents.measure(MadeUp(name), scale)
        return made_result(stdout=json.dumps({**document, "kernel": f"{self.release}.1"}).encode())


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLab]:
    """Replace the lab by a fake one, and check that all of its guests are closed in the end."""
    fake = FakeLab()
    monkeypatch.setattr(lab, "boot", fake.boot)
    yield fake
    assert fake.closed == len(fake.boots)


PARTS = [MadeUp("one"), MadeUp("two", COUNTING), MadeUp("three"), MadeUp("four", Needs(cpus=3))]


def measured(
    names: Sequence[str], kernels: Sequence[str] = ("6.12",), *, seed: int = 1, jobs: int = 1
) -> dict[tuple[str, str], Document]:
    wanted = [(part, kernel) for kernel in kernels for part in PARTS if part.name in names]
    done = list(runner.in_lab(wanted, Scale(seed=seed), jobs=jobs))
    assert len(done) == len(wanted)
    return {(one["part"], one["kernel"]): one for one in done}


def test_parts_share_a_guest(fake: FakeLab) -> None:
    """Parts that need the same kernel and machine share one boot."""
    done = measured(["one", "two", "three", "four"], ["6.1", "7.3"], seed=7)
    assert [(kernel, machine.icount, machine.cpus) for kernel, machine in fake.boots] == [
        (kernel, *shape)
        for kernel in ("6.1", "7.3")
        for shape in ((False, 2), (True, 1), (False, 3))
    ]
    assert [name for name, _ in fake.asked] == ["one", "three", "two", "four"] * 2
    assert {scale.seed for _, scale in fake.asked} == {7}
    one = done["two", "7.3.1"]
    assert one["machine"] == {"icount": True, "cpus": 1, "memory": "4G", "disk": None}
    assert one["clock"] == {"guest_seconds": 10.1, "host_seconds": 10.0, "agree": True}
    assert one["commit"] == "abc"


def test_a_part_that_ends_its_guest_costs_no_other(fake: FakeLab) -> None:
    """When a part ends its guest, the next parts get another one."""
    fake.ends, fake.silent = ["one"], ["three"]
    done = measured(["one", "three", "two"])
    assert [name for name, _ in fake.asked] == ["one", "three", "two"]
    assert len(fake.boots) == 3
    assert done["one", "6.12"]["failures"] == ["the guest panicked; while it ran one"]
    assert done["three", "6.12"]["failures"] == [
        "its process ended with exit code 1 and without a result: Killed"
    ]
    assert done["two", "6.12.1"]["measured"] == {"seed": 1}


def test_a_kernel_that_is_not_to_be_had_costs_no_other(fake: FakeLab) -> None:
    """A boot that has failed is not tried again for the next part."""
    done = measured(["one", "three"], ["9.9", "6.1"])
    assert len(fake.boots) == 1
    for name in ("one", "three"):
        assert done[name, "9.9"]["failures"] == ["no such kernel"]
        assert done[name, "6.1.1"]["failures"] == []


def test_several_guests_at_once(fake: FakeLab) -> None:
    """Each guest is booted and used in a thread of its own."""
    fake.ends = ["three"]
    done = measured(["one", "two", "three"], ["6.1", "6.12", "7.3"], jobs=2)
    assert {name for (name, _), one in done.items() if one["failures"]} == {"three"}
    assert len(done) == 9
    assert threading.get_ident() not in fake.threads


AT_ONCE = """\
import os
import subprocess
from cleanup import lab
from cleanup.lab.host import dies_with_us
from experiments import registry, runner
from experiments.part import Scale

def boot(*_arguments, **_options):
    with subprocess.Popen(dies_with_us("sleep", "60")) as guest:
        os.write(1, b"%d\\n" % guest.pid)

lab.boot = boot
wanted = [(part, "6.12") for part in registry.chosen(["designs/when", "tebibyte"])]
list(runner.in_lab(wanted, Scale(quick=True), jobs=2))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_who_is_interrupted_leaves_no_guest(number: signal.Signals) -> None:
    """Guests end with the program, although threads that wait for guests can't be interrupted."""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", AT_ONCE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        guests = [psutil.Process(int(process.stdout.readline())) for _ in range(2)]
        process.send_signal(number)
        process.wait(60)
    _, alive = psutil.wait_procs(guests, timeout=60)
    assert alive == []


def test_what_is_not_expected_is_not_swallowed(fake: FakeLab) -> None:
    """A bug of the program is raised, also out of a thread, and not stored as a part's failure."""
    fake.silent = None  # type: ignore[assignment]
    for jobs in (1, 2):
        with pytest.raises(TypeError):
            measured(["one", "two"], jobs=jobs)
    fake.closed = len(fake.boots)


def test_here_one_after_the_other() -> None:
    done = list(runner.here([MadeUp("one"), MadeUp("two", lacks="root")], Scale(seed=3)))
    assert [one["commit"] for one in done] == ["abc", "abc"]
    assert [one["failures"] for one in done] == [[], ["root"]]


def test_as_many_guests_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors and free memory limit the number of guests, which is at least one."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for gib, jobs in ((2, 1), (11, 2), (100, 4)):
        monkeypatch.setattr(
            psutil, "virtual_memory", lambda gib=gib: type("_", (), {"available": gib << 30})
        )
        assert runner.at_once() == jobs
