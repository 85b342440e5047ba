# SPDX-License-Identifier: MIT
"""Documents, table, verdicts, plots and report, from figures made up."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from experiments import document as documents
from experiments import plot, report, summary, table
from experiments.document import Document, Run
from experiments.measure import violations
from experiments.verdict import verdicts
from experiments.workload import NO_RELEASE

MIB = 1 << 20
PNG = b"\x89PNG\r\n\x1a\n"


def made_run(backend: str, *, granularity: str = "4k", repeat: int = 0, freed: int = 0) -> Run:
    """A run over 25600 empty tables, of which the backend freed some."""
    released = 100 * MIB + 300 * 1024
    vmpte = {
        "start": 100 * 1024,
        "touched": released,
        "released": released,
        "cleaned": released - freed * 4096,
    }
    return {
        "backend": backend,
        "granularity": granularity,
        "repeat": repeat,
        "phases": {
            phase: {
                "vmpte_bytes": size,
                "pagetables_bytes": size + MIB,
                "rss_bytes": 20 * MIB,
                "seconds": 0.5 + repeat,
            }
            for phase, size in vmpte.items()
        },
        "empty_tables": 25600,
        "empty_tables_after": 25600 - freed,
        "empty_upper_tables": {"pmd": 0, "pud": 0},
        "freed": {"pte": freed, "pmd": 0, "pud": 0},
        "skipped": {},
        "contents_intact": True,
        "survivors": 0,
        "counts": {},
        "tlb_shootdowns": 32,
        "tlb_tables": 4096,
        "violations": [],
    }


def made_document(kernel: str = "6.12.95+deb12-amd64", name: str = "series-50g") -> Document:
    """Three backends, the last of them run three times."""
    return {
        "experiment": name,
        "schema": 1,
        "description": "what it does",
        "kernel": kernel,
        "kernel_pt_reclaim": False,
        "accelerator": "tcg",
        "commit": "0123456789abcdef",
        "seed": 1,
        "parameters": {"size_bytes": 50 << 30, "granularity": ["4k"], "repeats": 3},
        "unavailable": {"zap": "this kernel keeps the tables"},
        "runs": [
            made_run("none"),
            *(made_run("module", repeat=repeat, freed=25600) for repeat in range(3)),
        ],
        "clock": {"guest_seconds": 10.0, "host_seconds": 10.2, "agree": True},
    }


class Links(HTMLParser):
    """Whatever a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")
        ]


def test_the_report_needs_no_other_file(tmp_path: Path) -> None:
    """Images are inside, and nothing is fetched."""
    written = report.write_all([made_document()], tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert len(links.found) == 3
    assert all(link.startswith("data:image/png;base64,") for link in links.found)
    assert not {"script", "link", "iframe"} & set(links.tags)
    assert not re.search(r"https?:|@import|url\(", text)
    assert tmp_path / "report.html" in written


def test_the_report_says_what_matters(tmp_path: Path) -> None:
    """Verdict first, where nothing is gained, whose times these are, and where they come from."""
    report.write_all([made_document()], tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.index("Verdict") < text.index("<img") < text.index("<table") < text.index("Method")
    assert text.index("Method") < text.index("Noise")
    for said in (
        "no gain",
        "an emulator's, not hardware's",
        "6.12.95+deb12-amd64",
        "0123456789abcdef",
        "they agree",
    ):
        assert said in text


def test_what_a_workload_counted_is_shown(tmp_path: Path) -> None:
    """And only where it counted anything."""
    document = made_document()
    report.write_all([document], tmp_path)
    said = "counted by the workload"
    assert said not in (tmp_path / "report.html").read_text(encoding="utf-8")
    document["runs"][0]["counts"] = {"rounds": 2}
    report.write_all([document], tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count(said) == 1
    assert "rounds 2." in text


def test_a_workload_that_releases_nothing(tmp_path: Path) -> None:
    """It is drawn and told without the size of a call."""
    document = made_document(name="zero-pages-256g")
    for run in document["runs"]:
        run["granularity"] = NO_RELEASE
    written = report.write_all([document], tmp_path)
    assert all(path.stat().st_size > 0 for path in written)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "a call:" not in text[text.index("Verdict") : text.index("Method")]


def test_a_result_of_another_commit_is_pointed_out(tmp_path: Path) -> None:
    """Old results may lie in the same directory."""
    other: Document = {**made_document("7.3.4"), "commit": None}
    report.write_all([made_document(), other], tmp_path)
    assert "different commits" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_text_of_a_result_is_escaped(tmp_path: Path) -> None:
    """A reason is text, whatever it says."""
    document = made_document()
    document["unavailable"] = {"zap": "<script>alert(1)</script>"}
    report.write_all([document], tmp_path)
    assert "<script>" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_plots_are_pictures(tmp_path: Path) -> None:
    """One of sizes and one of times, for kernels that have not the same backends."""
    newer = made_document("7.3.4+deb13-amd64")
    newer["runs"].append(made_run("zap", granularity="2m"))
    paths = plot.draw([made_document(), newer], tmp_path)
    assert [path.name for path in paths] == ["series-50g-vmpte.png", "series-50g-seconds.png"]
    for path in paths:
        assert path.read_bytes().startswith(PNG)


def test_verdicts() -> None:
    """What is gained, what is not, and failures before both."""
    document = made_document()
    broken = made_run("zap", freed=5)
    broken["violations"] = ["contents changed"]
    document["runs"].append(broken)
    found = verdicts([document])
    assert [verdict.kind for verdict in found] == ["failure", "gain", "no gain"]
    assert "contents changed" in found[0].text
    assert "25600 of 25600 empty PTE tables" in found[1].text
    assert "25600 empty tables stay" in found[2].text


def test_verdict_where_the_kernel_did_it() -> None:
    """Without empty tables no backend can gain."""
    run = made_run("module")
    run["empty_tables"] = 0
    document = made_document()
    document["runs"] = [run]
    (verdict,) = verdicts([document])
    assert verdict.kind == "no gain"
    assert "the kernel freed the tables itself" in verdict.text


def test_violations() -> None:
    """Each invariant is checked."""
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


def test_summaries_take_repeats_together() -> None:
    """The median, and the spread."""
    none, module = summary.summaries(made_document())
    assert (none.repeats, module.repeats) == (1, 3)
    assert module.seconds["cleaned"] == summary.Spread(1.5, 0.5, 2.5)
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
    """Three digits, and units of 1024."""
    assert summary.size_text(size) == text


def test_the_table_fits_eighty_columns() -> None:
    """With the longest figures that an experiment has."""
    document = made_document(name="tebibyte")
    for run in document["runs"]:
        run["empty_tables"] = 524160
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table.table(document))
    assert "…" not in capture.get()
    assert "25600/524160" in capture.get()


def test_notes_name_what_is_missing() -> None:
    """And say it once."""
    document: Document = {**made_document(), "kernel_pt_reclaim": True}
    found = table.notes([document, document])
    assert len(found) == 3
    assert any("PT_RECLAIM" in note for note in found)
    assert any("no zap: this kernel keeps the tables" in note for note in found)


def test_documents_are_written_whole_and_read_in_order(tmp_path: Path) -> None:
    """By experiment, then by kernel version; other files are let alone."""
    for kernel in ("7.3.4", "6.12.95", "6.1.0-50"):
        documents.write(made_document(kernel), tmp_path / f"{kernel}.json")
    (tmp_path / "other.json").write_text('{"schema": "other"}')
    (tmp_path / "broken.json").write_text("{")
    found = documents.read_all(tmp_path)
    assert [document["kernel"] for document in found] == ["6.1.0-50", "6.12.95", "7.3.4"]
    assert not list(tmp_path.glob(".*"))


def test_the_json_has_the_agreed_keys() -> None:
    """Scripts depend on them."""
    document = json.loads(json.dumps(made_document()))
    agreed = "experiment schema kernel kernel_pt_reclaim accelerator parameters runs"
    assert set(agreed.split()) <= set(document)
    agreed = "backend granularity phases empty_tables freed skipped contents_intact"
    assert set(agreed.split()) <= set(document["runs"][0])
    agreed = "vmpte_bytes pagetables_bytes rss_bytes seconds"
    assert set(document["runs"][0]["phases"]["start"]) == set(agreed.split())
