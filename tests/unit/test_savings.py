# SPDX-License-Identifier: MIT
"""Tests of the table of savings, from made-up figures of workloads and controls."""

from pathlib import Path

from experiments import savings
from experiments.document import Document
from experiments.part import Saving
from unit.stored import PNG, made_document, made_run, stored

KERNEL = "7.3.4+deb13-amd64"


def control() -> Document:
    """Return a measurement of a dense heap, of which one page table is empty by chance."""
    run = made_run("module", freed=1)
    run["empty_tables"] = 1
    return made_document(KERNEL, "dense-1g", run)


def heaps() -> Document:
    """Return runs of allocators: one gives memory back, one was measured without the module."""
    runs = {
        "glibc, none": {"peak": 520, "tables": 70, "empty": 12, "reclaimed": 13},
        "glibc, malloc_trim(), none": {"peak": 9, "tables": 9, "empty": 9, "reclaimed": 9},
        "glibc, module": {"peak": 520, "tables": 60, "empty": 0, "reclaimed": 0},
        "Go": {"peak": 520, "tables": 40, "empty": 0, "reclaimed": None},
    }
    measured = {"heap_bytes": 1 << 30, "runs": runs, "missing": {}}
    return stored("allocators/others", kernel=KERNEL, measured=measured)


def test_one_table() -> None:
    """Controls come last in the table; a heap that malloc_trim() trims is not a control."""
    positive = made_document(
        KERNEL, "series-50g", made_run("none"), made_run("module", freed=25_500)
    )
    (one,) = savings.on_kernels([control(), heaps(), positive])
    assert one.kernel == KERNEL
    assert one.savings == [
        Saving("series-50g, 4k a call", tables=25_675, empty=25_600, freed=25_500, control=False),
        Saving("heap of 1.00 GiB, glibc, malloc_trim()", tables=9, empty=9, freed=9, control=False),
        Saving("heap of 1.00 GiB, glibc", tables=70, empty=12, freed=13, control=True),
        Saving("dense-1g, 4k a call", tables=25_675, empty=1, freed=1, control=True),
        Saving("heap of 1.00 GiB, Go", tables=40, empty=0, freed=None, control=True),
    ]
    rows = [savings.row(saving) for saving in one.savings]
    assert rows[0] == ("series-50g, 4k a call", "100 MiB", "100 MiB", "99.6 MiB", "99.6% of it")
    assert rows[2][-1] == "control: all of it"
    assert rows[4][-2:] == ("", "control: not measured: no module")
    said = savings.verdict(one)
    assert "In 1 of 2 cases more than 256 kB of tables were left empty, up to 100 MiB" in said
    assert "99.6% or more of them" in said
    assert "In the 3 controls, where nothing is to be gained, 48 kB at most." in said


def test_without_the_module_nothing_is_claimed() -> None:
    """Without the module, the verdict says only how much it could free."""
    (one,) = savings.on_kernels([made_document(KERNEL, "series-50g", made_run("none"))])
    assert one.savings[0].empty == 25_600
    assert "could free" in savings.verdict(one)
    assert savings.row(one.savings[0])[-1] == "not measured: no module"


def test_drawn(tmp_path: Path) -> None:
    """Each kernel gets a picture, even one on which nothing was freed or left empty.

    Two builds of one series are two kernels.
    """
    builds = "6.12.95+deb12-amd64", "6.12.117+deb13-amd64", KERNEL
    made = [made_document(builds[0]), made_document(builds[1]), control(), heaps()]
    drawn = savings.draw_all(savings.on_kernels(made), tmp_path)
    assert {path.name for path in drawn} == {f"savings-{build}.png" for build in builds}
    assert all(path.read_bytes().startswith(PNG) for path in drawn)
