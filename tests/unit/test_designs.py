# SPDX-License-Identifier: MIT
"""Tests of the experiment `designs`: its table of all methods, and the loops it measures."""

from experiments.cost.turns import cpu_ns
from experiments.designs import _atomics, table
from unit.stored import rows, stored

WHEN = stored("designs/when")
ATOMICS = stored("designs/atomics", "6.18")


def test_rows() -> None:
    """Each part's rows show its figures; a method's row begins with the memory that it leaves."""
    when = rows(WHEN)
    assert when["nothing"].startswith("8,208 kB left; a release ")
    assert "longest hold" not in when["nothing"]
    assert "longest hold" in when["explicit call after each release"]
    objection = rows(stored("designs/objection"))
    assert "kB of tables stay, or " in objection["1 of 512 pages, 1 thread"]
    assert ATOMICS["description"].startswith("a MODEL")
    assert "% of a fault" in rows(ATOMICS)["a reference taken and dropped, 1 thread"]


def test_one_table() -> None:
    """The table joins the newest kernel's figures, a model's on the host, and published ones."""
    emulated = stored("designs/when", part="designs/atomics", measured=ATOMICS["measured"])
    documents = [{**WHEN, "kernel": "6.1.0-50-amd64"}, WHEN, emulated, ATOMICS]
    lines = table.rows(documents)  # type: ignore[arg-type]
    assert all(len(row) == len(table.HEADINGS) for row in lines)
    known = {row[0]: row for row in lines}
    assert known["nothing"][1] == "8,208 kB of 8,192 kB"
    assert known["nothing"][-1] == "measured, Linux 7.3.4+deb13-amd64"
    counted = known["a reference count on each PTE table"]
    assert counted[3].startswith("+")
    assert "published" in counted[-1]
    # Atomic operations timed in an emulator are no model of those of hardware.
    without = {row[0]: row for row in table.rows(documents[:3])}  # type: ignore[arg-type]
    assert without["a reference count on each PTE table"][3] == "not modelled here"


def test_atomics_leave_nothing() -> None:
    """Each pair of atomic operations restores the counter, and more pairs take longer."""
    view = memoryview(bytearray(8)).cast("Q")
    for operation in (_atomics.references, _atomics.read_locks):
        few, many = (
            cpu_ns(lambda pairs, do=operation: do(view, pairs), [pairs])  # type: ignore[misc]
            for pairs in (1000, 2_000_000)
        )
        assert many > few > 0
        assert view[0] == 0
