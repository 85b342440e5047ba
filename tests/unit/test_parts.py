# SPDX-License-Identifier: MIT
"""Tests of experiments' parts: how they are found and checked, and how they show their results."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import experiments
from cleanup import lab
from experiments import registry, spread
from experiments.part import Scale, at_least, at_most, claim_text
from experiments.table import table
from unit.stored import evidence

PARTS = registry.all_parts()


def test_every_part_is_found_by_its_name() -> None:
    """A name may begin with the group's and a slash; a description ends without a full stop."""
    assert len(PARTS) >= 32
    for name, part in PARTS.items():
        assert registry.find(name) is part
        assert re.fullmatch(r"([a-z-]+/)?[a-z0-9.-]+", name)
        assert part.description
        assert not part.description.endswith(".")
    assert registry.find("reclaim-cost/nothing") is registry.find("nothing/tables") is None


def test_a_group_stands_for_its_parts() -> None:
    """A part is listed once, even where it is named beside its group."""
    names = [part.name for part in registry.chosen(["designs/when", "designs", "tebibyte"])]
    assert names == ["designs/when", "designs/atomics", "designs/objection", "tebibyte"]
    with pytest.raises(ValueError, match="no experiment is called 'designs/if': choose from "):
        registry.chosen(["designs/if"])


MADE_UP = {
    "__init__.py": """\
from experiments.part import Group
GROUP = Group("made-up", f"{__name__}.parts", "what nobody asks")
""",
    "parts/__init__.py": "",
    "parts/one.py": """\
class PART:
    name = "made-up/one"
""",
}


def test_a_new_part_is_found_by_being_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package adds its parts by defining GROUP; packages without a GROUP are passed over."""
    for name, text in MADE_UP.items():
        path = tmp_path / "made_up_group" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "made_up_other").mkdir()
    (tmp_path / "made_up_other" / "__init__.py").touch()
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(tmp_path)])
    found = registry.groups.__wrapped__()
    assert "made-up" in [group.name for group in found]
    assert list(registry.parts_of(found[-1])) == ["made-up/one"]


def loaded_by(imports: str) -> list[str]:
    """Return the names of the modules that are loaded in a new process after these imports."""
    return subprocess.run(
        [sys.executable, "-P", "-c", f"{imports}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def test_a_guest_imports_nothing_that_draws_or_boots() -> None:
    """No guest imports matplotlib, Jinja2, rich or the lab: that takes longer than many a part."""
    loaded = loaded_by("import experiments.__main__; experiments.__main__.registry.all_parts()")
    assert "experiments.cost.parts.holds" in loaded
    assert [n for n in loaded if re.search(r"^(matplotlib|jinja2|rich|cleanup\.lab)$", n)] == []


def test_a_package_of_parts_imports_nothing_that_runs_them() -> None:
    """A measured program is in this package, so the program loads what the package imports."""
    loaded = loaded_by("import experiments.allocators")
    ours = {name for name in loaded if name.startswith("experiments.")}
    assert ours == {"experiments.allocators", "experiments.part"}


def test_parts_share_two_guests() -> None:
    """Quick parts need two machines on each kernel, one of which counts instructions."""
    machines = {lab.Machine(**p.needs_at(Scale(quick=True)).machine()) for p in PARTS.values()}
    assert len(machines) == 2
    assert len({p.needs_at(Scale()).machine()["memory"] for p in PARTS.values()}) == 2


def test_a_larger_mapping_has_a_larger_guest() -> None:
    """The guest's memory grows with the mapping, and is never less than the usual 4 GiB."""
    part = PARTS["tebibyte-empty"]
    memory = [part.needs_at(Scale(size_bytes=1 << shift)).memory for shift in (30, 40, 41)]
    assert memory == ["4G", "4G", "8G"]


@pytest.mark.parametrize("name", [name for name in PARTS if "/" not in name])
def test_quick_measures_a_small_part_of_a_workload(name: str) -> None:
    """A quick run uses at most an eighth of the full size, unless the user gives a size."""
    part = PARTS[name]
    quick = part.size_at(Scale(quick=True))  # type: ignore[attr-defined]
    full = part.size_at(Scale())  # type: ignore[attr-defined]
    assert quick <= full / 8
    for scale in (Scale(size_bytes=1 << 30), Scale(size_bytes=1 << 30, quick=True)):
        assert part.size_at(scale) == 1 << 30  # type: ignore[attr-defined]


def test_a_scale_survives_json() -> None:
    """JSON carries every field of a scale but its progress callback."""
    scale = Scale(True, 1 << 30, ("4k", "2m"), "all", 3, ("none", "module"), 2**64 - 1, print)
    again = Scale.from_json(json.loads(json.dumps(scale.to_json())), progress=print)
    assert again == scale
    assert hash(again) == hash(scale)
    assert again.progress is print


def test_what_is_quick_is_run_once_and_smaller() -> None:
    assert Scale(quick=True).pick(4096, 512) == 512
    assert Scale().pick(4096, 512) == 4096
    assert (Scale().runs(5), Scale(quick=True).runs(5), Scale(repeats=3).runs(5)) == (5, 1, 3)


@pytest.mark.parametrize(
    ("name", "scale", "said"),
    [
        ("reclaim-cost/holds", Scale(size_bytes=1 << 30), "has no --size"),
        ("reclaim-cost/holds", Scale(methods=("module",)), "has no --method"),
        ("designs/when", Scale(granularities=("4k",)), "has no --granularity"),
        ("designs/when", Scale(touch="all"), "has no --touch"),
        ("tebibyte", Scale(touch="all"), "tebibyte has no --touch all"),
        ("zero-pages-256g", Scale(granularities=("4k",)), "has no --granularity 4k"),
    ],
)
def test_what_a_part_does_not_heed_is_refused(name: str, scale: Scale, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PARTS[name].check(scale)


@pytest.mark.parametrize(
    ("value", "most", "least"), [(199, True, False), (200, True, True), (201, False, True)]
)
def test_claims(value: int, most: bool, least: bool) -> None:
    """A figure that equals its limit meets the claim."""
    assert at_most("", value, 200)["met"] == most
    assert at_least("", value, 200)["met"] == least


def test_claims_for_people() -> None:
    """A missed claim is marked, and a figure has enough digits to tell it from its limit."""
    assert claim_text(at_most("x", 690_000, 200_000)) == "MISSED: x: 690,000, limit 200,000"
    assert claim_text(at_least("x", 0.95004, 0.95)) == "met: x: 0.95004, limit 0.95"


def test_spread() -> None:
    """A spread keeps every value, in the order in which they were measured."""
    figures = spread.spread([12.0, 10.0, 11.0])
    assert figures == {"median": 11.0, "min": 10.0, "max": 12.0, "runs": [12.0, 10.0, 11.0]}
    assert spread.text(figures, "instructions") == "11 instructions (10 to 12)"
    assert spread.text(spread.spread([695_837]), "instructions") == "695,837 instructions"


def test_each_method_comes_first_in_turn() -> None:
    """The order of methods rotates, so that it favours none."""
    assert spread.rotated("abc", 0) == ["a", "b", "c"]
    assert spread.rotated("abc", 4) == ["b", "c", "a"]
    assert {spread.rotated("abc", by)[0] for by in range(3)} == set("abc")


@pytest.mark.parametrize("name", PARTS)
def test_what_is_stored_is_shown_and_judged_as_it_was(name: str) -> None:
    """A part still reads its stored results, and judges them as when they were stored."""
    documents = [one for one in evidence() if one["part"] == name]
    assert documents, "nothing is stored"
    part = PARTS[name]
    for document in documents:
        measured = document["measured"]
        assert measured is not None
        shown = table(document)
        assert shown.rows
        assert all(len(row) == len(shown.headings or "ab") for row in shown.rows)
        assert json.loads(json.dumps(part.claims(measured))) == document["claims"]
        assert part.violations(measured) == document["failures"] == []
        assert Scale.from_json({**document["scale"], "seed": document["seed"]}).quick is False


@pytest.mark.parametrize("name", PARTS)
def test_plots(name: str) -> None:
    """Every part can draw its results for one kernel and for all."""
    documents = [one for one in evidence() if one["part"] == name]
    for some in (documents, documents[-1:]):
        for figure in PARTS[name].draw(some).values():
            assert figure.axes[0].get_xlabel() or figure.axes[-1].get_xlabel()
