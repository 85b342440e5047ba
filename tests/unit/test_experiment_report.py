# SPDX-License-Identifier: MIT
"""Tests of summaries, of the table of a document, and of the report."""

import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from experiments import report, summary, table
from experiments.document import Document, of
from experiments.measure import _Observed, _result, violations
from experiments.oracle import Census
from experiments.phases import PHASES, Phase, Run
from experiments.sparse import PAGE
from experiments.spread import spread
from unit.stored import evidence, made_document, made_run, stored

ESCAPED = "a <b> & c"


class Links(HTMLParser):
    """The tags of an HTML page, and the addresses that it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")
        ]


@pytest.fixture(scope="module")
def some() -> list[Document]:
    """Return documents of one part on two kernels, of a workload, and of another group."""
    instructions = of(evidence(), "reclaim-cost/instructions")
    assert len(instructions) == 2
    broken = made_document()
    broken["failures"] = [ESCAPED]
    return [stored("allocators/tables"), *instructions, broken]


@pytest.fixture(scope="module")
def page(some: list[Document], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, set[str]]:
    """Write the report on `some`; return its text, and the names of all files written."""
    out = tmp_path_factory.mktemp("report")
    written = {path.name for path in report.write_all(some, out)}
    return (out / "report.html").read_text(encoding="utf-8"), written


def test_the_report_needs_no_other_file(page: tuple[str, set[str]]) -> None:
    """The images are inside the report, and nothing is fetched."""
    text, written = page
    links = Links()
    links.feed(text)
    assert len(links.found) == len(written) - 1
    assert all(link.startswith("data:image/png;base64,") for link in links.found)
    assert not {"script", "link", "iframe"} & set(links.tags)
    assert not re.search(r"https?:|@import|url\(", text)
    of_savings = "savings-6.12.95+deb12-amd64.png"
    assert {"allocators-tables.png", "series-50g-vmpte.png", of_savings} <= written


def test_the_report_says_what_matters(page: tuple[str, set[str]]) -> None:
    """The report has savings, claims, each part once, and where the figures come from."""
    text = " ".join(page[0].split())
    chapters = re.findall(r"<h2>(.*?)</h2>", text)
    assert chapters == [
        *("Verdict", "Claims", "allocators", "reclaim-cost", "workloads", "Notes"),
        "Where the figures come from",
    ]
    assert re.findall(r"<h3>(.*?)</h3>", text) == [
        *("allocators/tables", "reclaim-cost/instructions", "series-50g"),
    ]
    for said in (
        "met: instructions of the module for each freed table",
        "the same program, from the same seed, on the same jemalloc",
        "no instruction stands for the time",
        "Empty tables are judged by an oracle",
        "times are an emulator&#39;s (TCG), not hardware&#39;s",
        "6.12.95+deb12-amd64",
        "0123456789abcdef",
        "These results come from different commits",
    ):
        assert text.count(said) >= 1, said
    assert "a &lt;b&gt; &amp; c" in text
    assert ESCAPED not in text


def test_what_a_table_has_no_room_for_is_said_below(page: tuple[str, set[str]]) -> None:
    assert "4k, module: touching took 1.50 s (500 ms to 2.50 s), " in page[0]
    run = {**made_run("module", freed=3), "counts": {"rounds of reclaim": 2}, "flushes": 64}
    (one,) = summary.summaries([{**run, "longest_hold_ns": 1_500_000}])  # type: ignore[typeddict-item]
    said = summary.details(one)
    assert "32 TLB shootdowns for 4096 tables, 64 flushes, the longest lock hold 1.5 ms" in said
    assert "rounds of reclaim 2" in said


def run_of(method: str, *censuses: Census) -> Run:
    """Return the result of a run whose phases `start`, `released` and `cleaned` are given."""
    start, released, cleaned = censuses
    observed = _Observed(False)
    for phase, census in zip(PHASES, (start, released, released, cleaned), strict=True):
        observed.censuses[phase] = census
        observed.phases[phase] = Phase(
            vmpte_bytes=census.tables * PAGE, pagetables_bytes=0, rss_bytes=0, seconds=0.0
        )
    return _result(method, "-", 0, observed, {"contents_intact": True})


def test_a_zap_frees_tables_of_pages_that_were_left() -> None:
    """Page reclaim left 2 of 32 tables live; a zap on a kernel with PT_RECLAIM frees all 32."""
    run = run_of(
        "zap",
        Census(10, 8, 1, 1, deposited=0, pmd_empty=0, pud_empty=0),
        Census(43, 10, 2, 1, deposited=0, pmd_empty=0, pud_empty=0),
        Census(11, 8, 1, 1, deposited=0, pmd_empty=1, pud_empty=0),
    )
    assert (run["empty_tables"], run["empty_tables_after"]) == (30, 0)
    assert run["freed"]["pte"] == 32
    assert run["violations"] == []


def test_khugepaged_frees_no_table() -> None:
    """A table that khugepaged deposits under a huge page meanwhile is not gone."""
    before = Census(43, 10, 2, 1, deposited=0, pmd_empty=0, pud_empty=0)
    run = run_of("none", before, before, Census(43, 9, 2, 1, deposited=1, pmd_empty=0, pud_empty=0))
    assert run["freed"]["pte"] == 0
    assert run["violations"] == []


def test_violations() -> None:
    """Each invariant that a run breaks is named."""
    assert violations(made_run("module", freed=25600)) == []
    assert violations(made_run("none")) == []
    short = violations(made_run("module", freed=25599))
    assert short == ["freed 25599 PTE tables, but 25600 were empty"]
    run = made_run("zap", freed=10)
    run["freed"]["pte"] = 11
    run["contents_intact"] = False
    assert violations(run) == [
        "freed 11 tables of 4096 bytes, but VmPTE fell by 40960 bytes",
        "contents changed",
    ]
    run = made_run("module", freed=25600)
    run["phases"]["cleaned"]["vmpte_bytes"] += PAGE
    assert violations(run) == [
        f"freed 25600 tables of 4096 bytes, but VmPTE fell by {25599 * PAGE} bytes"
    ]
    run = made_run("none", freed=10)
    assert violations(run) == [f"nothing was to free tables, but VmPTE fell by {10 * PAGE} bytes"]


def test_summaries_take_repeats_together() -> None:
    """Repeated runs give one summary, with the median and the spread."""
    measured = made_document()["measured"]
    assert measured is not None
    none, module = summary.summaries(measured["runs"])
    assert (len(none.runs), len(module.runs)) == (1, 3)
    assert module.seconds["cleaned"] == spread([0.5, 1.5, 2.5])
    assert module.freed_tables == module.empty_tables == 25600


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 kB"),
        (96 << 10, "96 kB"),
        (1 << 20, "1.00 MiB"),
        (100 << 20, "100 MiB"),
        (20 << 20, "20.0 MiB"),
        (2 << 30, "2.00 GiB"),
        (1 << 40, "1.00 TiB"),
        (2 << 50, "2048 TiB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    """Sizes are shown with three digits, in units of 1024."""
    assert summary.size_text(size) == text


def printed(*documents: Document) -> str:
    console = Console(width=80, highlight=False, markup=False)
    with console.capture() as capture:
        table.show(documents, console)
    return capture.get()


def test_a_workloads_table_fits_eighty_columns() -> None:
    """Even the longest figures of an experiment fit a terminal of 80 columns."""
    runs = [made_run(method, freed=25600 if method == "module" else 0) for method in ("module",)]
    runs[0]["empty_tables"] = 524160
    shown = printed(made_document("7.3.4", "tebibyte", *runs))
    assert "…" not in shown
    assert "25600/524160" in shown


def test_the_table_of_a_part() -> None:
    """The table has the claims and each method's spread, and marks methods that free nothing."""
    shown = printed(stored("reclaim-cost/instructions", "6.1"), stored("reclaim-cost/holds"))
    assert re.search(r"^module +[0-9,]+ instructions \([0-9,]+ to [0-9,]+\) *$", shown, re.M)
    assert re.search(r"^zap: one MADV_DONTNEED, frees nothing +[0-9,]+ instructions", shown, re.M)
    assert "instructions of the longest hold of the mmap lock for writing" in shown


def test_notes_name_what_is_missing_and_whose_times_these_are() -> None:
    """A note that applies to several documents is given once."""
    document = made_document()
    document["kernel_pt_reclaim"] = True
    document["scale"]["quick"] = True
    document["clock"] = {"guest_seconds": 10.0, "host_seconds": 14.0, "agree": False}
    found = table.notes([document, document, stored("designs/when")])
    assert len(found) == 6 + 1
    for said in ("(PT_RECLAIM)", "no zap: this kernel keeps the tables", "no claim is judged"):
        assert any(said in note for note in found), said
    assert any("they DISAGREE, and its times do not count" in note for note in found)
    assert "instructions are a guest's, each iteration of a rep counted as one" in found
