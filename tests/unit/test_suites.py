# SPDX-License-Identifier: MIT
"""What all suites have in common: that they are found, and shown side by side."""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import experiments
from cleanup import lab
from cleanup.commands import main
from cleanup.errors import CleanupError
from experiments import report, table
from experiments.document import AnyDocument, SuiteDocument, is_suite, with_other_parts
from experiments.measure import Progress
from experiments.suite import registry, run, show, spread
from experiments.suite.part import Guest, Part, Result, Row, at_least, at_most
from experiments.suite.registry import SUITES
from experiments.suite.suite import Suite
from unit.test_allocators import made_document as made_allocators
from unit.test_cost_experiment import made_costs
from unit.test_experiment_report import made_document

# Of each suite's own text in the report.
OWN_TEXT = {
    "allocators": "the same program, from the same seed, on the same jemalloc",
    "reclaim-cost": "no instruction stands for the time",
}
INSTRUCTIONS = "instructions are a guest's, each iteration of a rep counted as one"


@dataclass(frozen=True)
class FakePart:
    """Measures nothing, or says what it lacks."""

    name: str
    guest: Guest
    lacks: str = ""
    description: str = "what it does"

    def measure(self, *, quick: bool, seed: int, progress: Progress) -> Result:
        progress("begins")
        if self.lacks:
            raise CleanupError(self.lacks)
        return {"quick": quick, "seed": seed}

    def rows(self, result: Result) -> Sequence[Row]:
        return [(name, str(value)) for name, value in result.items()]


SCRATCH = Guest(icount=False, cpus=2, memory="3G", disk="1G")


class FakeSuite(Suite):
    """Its parts are not of a package."""

    def parts(self) -> dict[str, Part]:
        return {
            "counts": FakePart("counts", Guest(icount=True, cpus=1)),
            "fine": FakePart("fine", SCRATCH),
            "lacking": FakePart("lacking", SCRATCH, lacks="this takes root"),
        }


FAKE = FakeSuite("fake", "nowhere", "what nobody asks")


def test_the_suites_there_are() -> None:
    assert list(SUITES) == ["allocators", "designs", "reclaim-cost"]
    for name, suite in SUITES.items():
        assert suite.name == name
        assert not suite.description.endswith(".")


@pytest.mark.parametrize("name", SUITES)
def test_every_part_is_found_by_its_name(name: str) -> None:
    """And what is drawn is one of them."""
    known = SUITES[name].parts()
    assert known
    assert set(SUITES[name].plots()) <= set(known)
    for part_name, part in known.items():
        assert part_name == part.name
        assert type(part).__module__.endswith(f".parts.{part_name}")
        assert part.description
        assert not part.description.endswith(".")


MADE_UP = {
    "__init__.py": """\
from experiments.suite.suite import Suite
SUITE = Suite("made-up", __name__, "what nobody asks")
""",
    "parts/__init__.py": "",
    "parts/one.py": """\
class PART:
    name = "one"
""",
}


def test_a_new_suite_is_found_by_being_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the others, among packages that are none."""
    for name, text in MADE_UP.items():
        path = tmp_path / "made_up_suite" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "made_up_other").mkdir()
    (tmp_path / "made_up_other" / "__init__.py").touch()
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(tmp_path)])
    found = registry._found()
    assert list(found) == ["allocators", "designs", "made-up", "reclaim-cost"]
    assert list(found["made-up"].parts()) == ["one"]
    assert found["made-up"].template == "made_up_suite/report.html.j2"


def loaded_by(imports: str) -> list[str]:
    """Modules of a process that does so."""
    return subprocess.run(
        [sys.executable, "-P", "-c", f"{imports}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def test_a_guest_imports_nothing_that_draws() -> None:
    """It would take longer than many a part."""
    loaded = loaded_by(
        "from experiments.suite import __main__ as main; "
        "[suite.parts() for suite in main.SUITES.values()]"
    )
    assert "experiments.cost.parts.holds" in loaded
    assert [name for name in loaded if re.search(r"^(matplotlib|jinja2|rich)$|\.plots$", name)] == (
        []
    )


def test_a_suites_package_imports_nothing_that_runs_it() -> None:
    """The program that `allocators` measures is of such a package."""
    loaded = loaded_by("import experiments.allocators")
    ours = {name for name in loaded if name.startswith("experiments.")}
    assert ours == {f"experiments.{name}" for name in ("allocators", "suite", "suite.suite")}


@pytest.mark.parametrize(
    ("value", "most", "least"), [(199, True, False), (200, True, True), (201, False, True)]
)
def test_claims(value: int, most: bool, least: bool) -> None:
    """The limit itself is within it."""
    assert at_most("", value, 200)["met"] == most
    assert at_least("", value, 200)["met"] == least


def test_spread() -> None:
    """Every value is kept, in its order."""
    stored = spread.spread([12.0, 10.0, 11.0])
    assert stored == {"median": 11.0, "min": 10.0, "max": 12.0, "runs": [12.0, 10.0, 11.0]}
    assert spread.text(stored, "instructions") == "11 instructions (10 to 12)"
    assert spread.text(spread.spread([695_837]), "instructions") == "695,837 instructions"


def test_on_the_host_each_part_says_what_it_lacks() -> None:
    """What needs neither a guest nor more than there is runs."""
    said: list[str] = []
    document = run.here(FAKE, list(FAKE.parts()), quick=True, seed=5, progress=said.append)
    assert document["parts"] == {"fine": {"quick": True, "seed": 5}}
    assert said == ["fine: begins", "lacking: begins", "lacking: failed: this takes root"]
    assert document["failures"] == {"lacking": "this takes root"}
    assert set(document["unavailable"]) == {"counts"}
    assert document["guests"] == []


class TimedSuite(Suite):
    """Its one part takes a processor's times."""

    def parts(self) -> dict[str, Part]:
        return {"timed": FakePart("timed", Guest(icount=False, cpus=2, hardware=True))}


@pytest.mark.parametrize("accelerator", [None, "kvm", "tcg"])
def test_an_emulators_times_are_not_taken(
    accelerator: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGTABLE_CLEANUP_ACCELERATOR", raising=False)
    if accelerator:
        monkeypatch.setenv("PGTABLE_CLEANUP_ACCELERATOR", accelerator)
    suite = TimedSuite("timed", "nowhere", "what nobody asks")
    done = run.measure(suite, ["timed"], quick=True, seed=5, progress=lambda _: None)
    assert set(done["parts"]) == (set() if accelerator == "tcg" else {"timed"})
    assert ("an emulator's say nothing" in done["unavailable"].get("timed", "")) == (
        accelerator == "tcg"
    )


def test_parts_that_take_times_share_a_guest_with_others() -> None:
    timed = FakePart("timed", Guest(icount=False, cpus=2, hardware=True))
    other = FakePart("other", Guest(icount=False, cpus=2))
    assert list(run.by_guest([timed, other]).values()) == [[timed, other]]


def test_the_lab_is_asked_for_the_guest_that_a_part_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its disk, too."""
    asked: dict[str, Any] = {}

    def refuse(_command: Sequence[str], **options: Any) -> lab.GuestResult:  # noqa: ANN401
        asked.update(options)
        raise lab.LabError("no guest today")

    monkeypatch.setattr(lab, "run", refuse)
    with pytest.raises(lab.LabError, match="no guest today"):
        run.in_guests(FAKE, ["fine"], kernel="6.12", quick=True, seed=1, progress=lambda _: None)
    wanted = {"icount": False, "cpus": 2, "memory": "3G", "disk": "1G"}
    assert {name: asked[name] for name in wanted} == wanted


@pytest.mark.parametrize("name", SUITES)
def test_a_part_that_is_not_there(name: str) -> None:
    """The error names those that are."""
    result = CliRunner().invoke(main, ["experiment", "run", name, "--part=holdz"])
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert f"{name} has no part 'holdz': choose from {', '.join(SUITES[name].parts())}" in said


def test_the_report_of_two_suites(tmp_path: Path) -> None:
    """Each with its own tables, pictures and text, once, however many kernels and workloads."""
    mixed: list[AnyDocument] = [
        made_allocators(),
        made_costs("6.1.0-50-amd64"),
        made_costs(),
        made_document(),
    ]
    written = {path.name for path in report.write_all(mixed, tmp_path)}
    assert {"allocators-tables.png", "reclaim-cost-holds.png", "report.html"} <= written
    text = " ".join((tmp_path / "report.html").read_text(encoding="utf-8").split())
    chapters = dict(zip(*[iter(re.split(r"<h2>(.*?)</h2>", text)[1:])] * 2, strict=True))
    for name, own in OWN_TEXT.items():
        assert text.count(own) == 1
        assert own in chapters[name]
        assert f"{name}: " in chapters[name]
    assert chapters["reclaim-cost"].count("<h3>") == 2
    assert "<caption>churn: " in chapters["allocators"]
    assert "guest's clock took" not in chapters["allocators"]


def test_the_note_on_instructions_is_of_those_that_count_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A guest with icount does."""
    costs = made_costs()
    for counting in (False, True):
        costs["guests"][0]["icount"] = counting
        table.show([made_allocators(), costs])
        assert (INSTRUCTIONS in capsys.readouterr().out) == counting


def test_suites_and_parts_that_are_gone_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stored result may be of another version."""
    gone: SuiteDocument = {
        **made_costs(),
        "experiment": "long-gone",
        "unavailable": {"vanished": "no longer"},
    }
    costs = made_costs()
    costs["parts"]["vanished"] = {}
    assert "vanished" not in {section.name for section in show.sections(costs)}
    report.write_all([gone, costs], tmp_path)
    table.show([gone, costs])
    for text in (capsys.readouterr().out, (tmp_path / "report.html").read_text(encoding="utf-8")):
        assert "reclaim-cost" in text
        assert "long-gone" not in text
        assert "vanished" not in text


def of_parts(commit: str | None, **measured: dict[str, Any]) -> SuiteDocument:
    document = made_allocators()
    guests = [{"parts": [*measured]}]
    return {**document, "commit": commit, "parts": measured, "failures": {}, "guests": guests}


def test_parts_measured_before_stay() -> None:
    """If by the same commit, and unless they were measured, or failed, anew."""
    earlier = of_parts("abc", fork={"runs": 1}, tables={"runs": 1})
    joined = with_other_parts(of_parts("abc", tables={"runs": 2}), earlier)
    assert is_suite(joined)
    assert joined["parts"] == {"fork": {"runs": 1}, "tables": {"runs": 2}}
    assert [one["parts"] for one in joined["guests"]] == [["fork", "tables"], ["tables"]]
    failed = {**of_parts("abc"), "failures": {"fork": "why", "tables": "why"}}
    assert with_other_parts(failed, earlier) == failed  # type: ignore[arg-type]
    incomplete = {**earlier, "failures": {"calls": "why"}, "unavailable": {"redis": "why"}}
    joined = with_other_parts(of_parts("abc", calls={"runs": 1}), incomplete)  # type: ignore[arg-type]
    assert is_suite(joined)
    assert (joined["failures"], joined["unavailable"]) == ({}, {"redis": "why"})
    for commit in ("def", "abc-dirty", None):
        alone = of_parts(commit, tables={"runs": 2})
        assert with_other_parts(alone, of_parts(commit and "abc", fork={})) == alone
        assert with_other_parts(alone, made_document()) == alone
    whole = {**of_parts("abc", tables={}), "parameters": {"quick": False}}
    assert with_other_parts(whole, earlier) == whole  # type: ignore[arg-type]
