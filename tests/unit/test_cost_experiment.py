# SPDX-License-Identifier: MIT
"""`reclaim-cost`: its arithmetic, its command, its table and its report, from figures made up."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cleanup import lab
from cleanup.commands import main
from cleanup.errors import CleanupError
from experiments import document as documents
from experiments import report, table
from experiments.cost import (
    _calls,
    contenders,
    meter,
    trace,
)
from experiments.document import AnyDocument, SuiteDocument
from experiments.measure import ExperimentError
from experiments.sparse import UNIT
from experiments.suite import run, spread
from experiments.suite.part import Guest, at_least, at_most
from experiments.suite.registry import SUITES
from experiments.suite.spread import rotated
from unit.test_experiment_report import PNG, made_document
from unit.test_lab_guest import made_result

COST = SUITES["reclaim-cost"]
PASSES = [
    (mapping, level) for mapping in ("anonymous", "shared_file") for level in ("pte", "pmd", "pud")
]


def made_parts() -> dict[str, dict[str, Any]]:
    """Results as a guest of 7.3 gives them, of three of the parts."""
    figures = {name: 1000 * (place + 1) for place, name in enumerate(contenders.CONTENDERS)}
    return {
        "contenders": {
            "tables": 4096,
            "live_tables": 16,
            "runs": 3,
            "background_instructions_per_second": 1_000_000,
            "empty_call_instructions": 3000,
            "empty_instructions": 80_000,
            "contenders": {
                name: {
                    "label": contenders.CONTENDERS[name].label,
                    "vmpte_fall_bytes": 0 if name in ("module_scan", "dontneed") else 16 << 20,
                    "flushes": None,
                    "instructions_per_table": spread.spread([value, value + 7, value - 5]),
                    "call_instructions_per_table": spread.spread([value] * 3),
                }
                for name, value in figures.items()
            },
        },
        "shootdowns": {
            "tables": 4096,
            "runs": 1,
            "contenders": {
                name: {
                    "label": contenders.CONTENDERS[name].label,
                    "shootdowns": spread.spread([value // 100]),
                }
                for name, value in figures.items()
            },
            "claims": [at_least("times fewer", 113.0, 50)],
        },
        "holds": {
            "runs": 1,
            "passes": {
                f"{mapping}_{level}": {
                    "mapping": mapping,
                    "tables_of": level.upper(),
                    "tables": 32,
                    "write_holds": 0 if level == "pte" else 2,
                    "longest_write_instructions": spread.spread([0 if level == "pte" else 690_000]),
                    "read_holds": 2,
                    "longest_read_instructions": spread.spread([870_000]),
                }
                for mapping, level in PASSES
            },
            "shortest_write_hold_instructions": 1527,
            "claims": [at_most("longest write hold", 690_000, 200_000)],
        },
    }


def made_costs(kernel: str = "7.3.4+deb13-amd64") -> SuiteDocument:
    """A whole document."""
    return {
        "experiment": COST.name,
        "schema": 1,
        "description": COST.description,
        "kernel": kernel,
        "kernel_pt_reclaim": True,
        "accelerator": "tcg",
        "commit": "0123456789abcdef",
        "seed": 1,
        "parameters": {"quick": True},
        "unavailable": {},
        "parts": made_parts(),
        "failures": {},
        "guests": [
            {
                "icount": False,
                "parts": ["shootdowns"],
                "clock": {"guest_seconds": 10.0, "host_seconds": 14.0, "agree": False},
            }
        ],
    }


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["experiment", *arguments])


def test_parts_share_a_guest() -> None:
    """One boot for all that need the same machine."""
    known = COST.parts()
    wanted = [known[name] for name in ("contenders", "holds", "shootdowns")]
    groups = run.by_guest(wanted)
    assert [[part.name for part in group] for group in groups.values()] == [
        ["contenders", "holds"],
        ["shootdowns"],
    ]
    assert list(groups) == [Guest(icount=True, cpus=1), Guest(icount=False, cpus=2)]


def test_each_contender_comes_first_in_turn() -> None:
    """Order is not to favour any."""
    assert rotated("abc", 0) == ["a", "b", "c"]
    assert rotated("abc", 4) == ["b", "c", "a"]
    assert {rotated("abc", by)[0] for by in range(3)} == set("abc")


@pytest.mark.parametrize("live_inside", [False, True])
def test_layout(live_inside: bool) -> None:
    """As many empty units either way; the contents of the live ones are told from others."""
    with contenders.layout(3, live_inside=live_inside) as made:
        units = made.length // UNIT
        inside = [unit for unit in made.live if unit < units]
        assert len(made.live) == contenders.LIVE_TABLES
        assert units - len(inside) == contenders.TABLES
        assert len(inside) == (contenders.LIVE_TABLES if live_inside else 0)
        assert sum(last - first for first, last in made.empty) == contenders.TABLES
        assert made.intact()
        assert made.empty_reads_zero()
        first, last = made.empty[-1]
        for unit in range(first, last):
            made.mapping.page(unit)[9] = 1
        assert live_inside or not made.empty_reads_zero()
        made.mapping.page(made.live[-1])[17] ^= 1
        assert not made.intact()


class FakeCounter:
    """A clock and an idle process that are known."""

    def __init__(self, samples: list[tuple[int, int]]) -> None:
        self.samples = iter(samples)

    def sample(self, _counter: object) -> tuple[int, int]:
        """In place of `_calls.sample`."""
        return next(self.samples)


def test_instructions_are_what_neither_idled_nor_ticked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000,000 ns the idle process had 2 x 400,000, and 1 % goes to the clock interrupt."""
    samples = [(0, 0), (300_000, 100_000), (1_000_000, 400_000)]
    monkeypatch.setattr(_calls, "sample", FakeCounter(samples).sample)
    monkeypatch.setattr(meter, "rcu_barrier", lambda: None)
    counter = meter.Meter(memoryview(bytearray(8)))
    counter.background = 0.01
    counter.empty = meter.Cost(1_000, 20_000)
    assert counter.net(lambda: None) == meter.Cost(
        call_instructions=300_000 - 200_000 - 3_000 - 1_000,
        instructions=1_000_000 - 800_000 - 10_000 - 20_000,
    )


def test_the_meter_refuses_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere its figures would be times."""
    monkeypatch.delenv("PGTABLE_CLEANUP_ICOUNT", raising=False)
    with pytest.raises(ExperimentError, match="--icount"), meter.running():
        pass


# As Linux 6.1 writes it.
TRACE = """\
# tracer: nop
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
          python-135     [000] ..... 290203278180: mmap_lock_acquire_returned: mm=000000006012307c \
memcg_path=/ write=false success=true
          python-135     [000] ..... 290203493854: mmap_lock_released: mm=000000006012307c \
memcg_path=/ write=false
          python-135     [000] ..... 290203494907: mmap_lock_acquire_returned: mm=000000006012307c \
memcg_path=/ write=true success=true
          python-135     [000] d..1. 290203770779: mmap_lock_released: mm=000000006012307c \
memcg_path=/ write=true
"""


def test_holds_of_a_trace() -> None:
    """From each acquisition to its release."""
    assert trace.holds(TRACE.splitlines()) == [
        trace.Hold(write=False, cycles=215_674),
        trace.Hold(write=True, cycles=275_872),
    ]


def test_an_acquisition_that_failed_is_no_hold() -> None:
    """It was interrupted, or only tried."""
    failed = TRACE.replace("write=false success=true", "write=false success=false")
    assert trace.holds(failed.splitlines()) == [trace.Hold(write=True, cycles=275_872)]


@pytest.mark.parametrize(
    "broken",
    [
        TRACE.replace("memcg_path=/ write=false\n", "memcg_path=/ write=true\n"),
        TRACE + "CPU:0 [LOST 12 EVENTS]\n",
    ],
)
def test_a_trace_with_gaps_is_refused(broken: str) -> None:
    """Its longest hold would be anything."""
    with pytest.raises(CleanupError):
        trace.holds(broken.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reclaim-cost", "--size", "64g"], "reclaim-cost has no --size"),
        (["reclaim-cost", "--touch", "all"], "reclaim-cost has no --touch"),
        (["reclaim-cost", "--granularity", "4k"], "reclaim-cost has no --granularity"),
        (["reclaim-cost", "--backend", "module"], "reclaim-cost has no --backend"),
        (["reclaim-cost", "--repeat", "2"], "fewer runs by --quick"),
        (["reclaim-cost", "--part", "holdz"], "choose from contenders"),
        (["tebibyte", "--part", "holds"], "tebibyte has no --part"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], said: str) -> None:
    """A usage error that says what to do instead."""
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""


class FakeLab:
    """Answers for the parts it is asked for."""

    def __init__(self, **failures: str) -> None:
        self.failures = failures
        self.asked: list[tuple[list[str], dict[str, Any]]] = []

    def run(self, command: list[str], **options: Any) -> lab.GuestResult:  # noqa: ANN401
        """In place of `lab.run`."""
        self.asked.append((command, options))
        known = made_parts()
        answer = {
            "kernel": "7.3.4+deb13-amd64",
            "kernel_pt_reclaim": True,
            "unavailable": {},
            "parts": {name: known[name] for name in command if name in known},
            "failures": {name: why for name, why in self.failures.items() if name in command},
        }
        return made_result(
            stdout=json.dumps(answer).encode(), kernel_release="7.3.4", icount=options["icount"]
        )


SOME = ["--part=holds", "--part=shootdowns", "--part=contenders"]


def test_a_guest_for_each_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its parts run there, and what both say becomes one document, with a report and pictures."""
    fake = FakeLab()
    monkeypatch.setattr(lab, "run", fake.run)
    result = invoke(
        *["run", "reclaim-cost", *SOME, "--kernel=7.3", "--quick", "--seed=5", "--json"],
        f"--out={tmp_path}",
    )
    assert result.exit_code == 0, result.output
    (command, one), (other, two) = fake.asked
    assert command[2:5] == ["-m", "experiments.suite", COST.name]
    assert command[5:] == ["holds", "contenders", "--seed=5", "--quick"]
    assert other[5] == "shootdowns"
    assert (one["icount"], one["cpus"], two["icount"], two["cpus"]) == (True, 1, False, 2)
    document = json.loads(result.stdout)
    agreed = "experiment schema description kernel kernel_pt_reclaim accelerator commit seed"
    assert {*agreed.split(), "parameters", "parts"} <= set(document)
    assert set(document["parts"]) == {"contenders", "holds", "shootdowns"}
    assert [guest["parts"] for guest in document["guests"]] == [
        ["holds", "contenders"],
        ["shootdowns"],
    ]
    assert json.loads((tmp_path / "reclaim-cost-lab-7.3.json").read_text()) == document
    for name in ("contenders", "holds", "shootdowns"):
        assert (tmp_path / f"reclaim-cost-{name}.png").read_bytes().startswith(PNG)


def test_a_part_that_fails_costs_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command fails; a claim that is missed, as one is here, makes it fail no more."""
    monkeypatch.setattr(lab, "run", FakeLab(faults="out of luck").run)
    arguments = ["run", "reclaim-cost", *SOME, "--json", f"--out={tmp_path}"]
    assert invoke(*arguments).exit_code == 0
    monkeypatch.setattr(lab, "run", FakeLab(holds="out of luck").run)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "reclaim-cost on 7.3.4+deb13-amd64, part holds: out of luck" in result.stderr
    assert "contenders" in json.loads(result.stdout)["parts"]


def test_a_guest_that_fails_costs_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unless there is no other."""
    fake = FakeLab()

    def once(command: list[str], **options: Any) -> lab.GuestResult:  # noqa: ANN401
        if options["icount"]:
            raise lab.LabError("the guest panicked")
        return fake.run(command, **options)

    monkeypatch.setattr(lab, "run", once)
    result = invoke("run", "reclaim-cost", *SOME, "--json", f"--out={tmp_path / 'some'}")
    assert result.exit_code == 1
    assert "part holds: the guest panicked" in result.stderr
    assert set(json.loads(result.stdout)["parts"]) == {"shootdowns"}
    result = invoke("run", "reclaim-cost", "--part=holds", f"--out={tmp_path / 'none'}")
    assert result.exit_code == 1
    assert "the guest panicked" in result.stderr
    assert not (tmp_path / "none").exists()


def test_on_the_host_nothing_counts_instructions() -> None:
    """What would is named, with why."""
    document = run.here(COST, ["contenders", "holds"], quick=True, seed=1, progress=print)
    assert document["parts"] == {}
    assert set(document["unavailable"]) == {"contenders", "holds"}
    assert "leave out --host" in document["unavailable"]["holds"]


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Every contender with its spread, a missed claim plainly."""
    table.show([made_costs()])
    shown = capsys.readouterr().out
    assert re.search(r"module +1,000 instructions \(995 to 1,007\)", shown)
    assert re.search(r"one MADV_DONTNEED, frees nothing +5,000 instructions", shown)
    assert "met: times fewer: 113, limit 50" in shown
    assert "MISSED: longest write hold: 690,000, limit 200,000" in shown


def test_the_report(tmp_path: Path) -> None:
    """Beside workloads and alone, with claims among the verdicts and one picture a part."""
    older: SuiteDocument = {**made_costs("6.1.0-50-amd64"), "unavailable": {"faults": "<no>"}}
    costs: list[AnyDocument] = [older, made_costs()]
    for mixed in (costs, [*costs, made_document()]):
        report.write_all(mixed, tmp_path)
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        cases = text.index("Case by case")
        verdicts = text[cases : text.index("<h2>", cases)]
        assert verdicts.count("MISSED: longest write hold") == 2
        assert verdicts.count("met: times fewer") == 2
        assert text.count("reclaim-cost: contenders on each kernel") == 1
        assert "&lt;no&gt;" in text
        assert text.count("they DISAGREE, so its times do not count") == 2
        assert "no instruction stands for the time" in " ".join(text.split())


def test_documents_of_both_kinds_are_read_together(tmp_path: Path) -> None:
    """And told apart."""
    documents.write(made_costs(), tmp_path / "one.json")
    documents.write(made_document(), tmp_path / "two.json")
    found = documents.read_all(tmp_path)
    assert [documents.is_suite(document) for document in found] == [True, False]
