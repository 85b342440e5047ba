# SPDX-License-Identifier: MIT
"""Tests of sweeps: which runs they make and leave out, and how figures grow with the size."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cleanup.commands import main
from experiments import document as documents
from experiments import growth, registry, sweep
from experiments.document import Document
from experiments.part import ExperimentError
from experiments.workload import Workload
from unit.stored import EVIDENCE, PNG, made_document, made_run, stored

GIB = 1 << 30


def workload(name: str) -> Workload:
    part = registry.find(name)
    assert isinstance(part, Workload)
    return part


def some(*sizes: int) -> list[sweep.Point]:
    return sweep.points(
        [workload("series-50g"), workload("zero-pages-256g")],
        ["6.12", "7.3"],
        ["none", "module"],
        sizes,
        ["4k", "64k"],
        seed=1,
        repeats=2,
    )


def test_every_combination_that_there_is() -> None:
    """A workload that releases nothing has no granularity to choose."""
    found = some(GIB, 2 * GIB)
    assert len(found) == 2 * 2 * 2 * (2 + 1)
    assert len({point.name for point in found}) == len(found)
    assert found[0].name == "series-50g_6.12_none_4k_1073741824_one_seed1_x2"
    assert {point.scale.granularities for point in found} == {("4k",), ("64k",), ("-",)}


def test_sizes_are_the_workloads_own() -> None:
    assert {point.scale.size_bytes for point in some()} == {50 << 30, 256 << 30}


@pytest.mark.parametrize(
    "sizes", [(1024 * GIB, 1026 * GIB), (10 * GIB, 10 * GIB + (2 << 20)), (64 * GIB, 65536 << 20)]
)
def test_sizes_that_differ_are_runs_that_differ(sizes: tuple[int, int]) -> None:
    """Sizes have names of their own however little they differ; equal sizes share theirs."""
    names = {point.name for point in some(*sizes)}
    assert len(names) == 4 * (2 + 1) * len(set(sizes))


def test_a_kernel_by_its_path_makes_a_name() -> None:
    (point,) = sweep.points(
        [workload("tebibyte")], ["/boot/my kernel"], ["none"], [], [], seed=1, repeats=1
    )
    assert point.name == "tebibyte_-boot-my-kernel_none_4k_1099511627776_one_seed1_x1"


def measured(wanted: list[sweep.Point], out: Path, commit: str | None) -> None:
    """Write a result for each point, as if `commit` had measured it."""
    for point in wanted:
        documents.write(
            made_document("7.3.4", point.workload.name), sweep.Store(out, commit).path(point)
        )


def kept(wanted: list[sweep.Point], store: sweep.Store) -> int:
    return sum(store.kept(point) is not None for point in wanted)


def test_what_has_a_result_starts_no_cluster(tmp_path: Path) -> None:
    wanted = some(GIB)
    measured(wanted, tmp_path, "a" * 40)
    store = sweep.Store(tmp_path, "a" * 40)
    ended = sweep.run(wanted, store, scheduler="nowhere", workers=None, progress=print)
    assert ended == sweep.Ended((), tuple(point.name for point in wanted), {})
    assert len(store.results(wanted)) == len(wanted)


@pytest.mark.parametrize("commit", ["b" * 40, "a" * 40 + "-dirty", None])
def test_a_result_of_another_commit_is_not_kept_unless_asked(
    commit: str | None, tmp_path: Path
) -> None:
    """A result counts only if it is of this commit, and no file was modified when it was made."""
    wanted = some(GIB)
    measured(wanted, tmp_path, "a" * 40)
    assert kept(wanted, sweep.Store(tmp_path, commit)) == 0
    assert sweep.Store(tmp_path, commit).results(wanted) == []
    assert kept(wanted, sweep.Store(tmp_path, commit, other_commits=True)) == len(wanted)
    measured(wanted, tmp_path, commit)
    certain = commit == "b" * 40
    assert kept(wanted, sweep.Store(tmp_path, commit)) == (len(wanted) if certain else 0)
    assert len(list(tmp_path.iterdir())) == 2 * len(wanted), "one does not take another's place"


def test_the_stored_sweep_has_the_names_of_today() -> None:
    """A sweep over the same sizes must find the stored results."""
    wanted = sweep.points(
        [workload("tebibyte-empty")],
        ["7.3"],
        ["none", "module"],
        [256 << 20, *(GIB << shift for shift in (0, 2, 4, 6, 8, 10, 11))],
        ["4k"],
        seed=1,
        repeats=3,
    )
    store = sweep.Store(EVIDENCE / "sizes", None, other_commits=True)
    assert kept(wanted, store) == len(wanted) == 16


def test_without_dask_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    store = sweep.Store(tmp_path, None)
    with pytest.raises(ExperimentError, match=r"pip install 'pgtable-cleanup\[experiments\]'"):
        sweep.run(some(GIB), store, scheduler=None, workers=None, progress=print)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "is not one of"),
        (["reclaim-cost/holds"], "is not one of"),
        (["tebibyte", "--size=3k"], "one page table maps 2 MiB"),
        (["tebibyte", "--method=remap"], "remap"),
        (["tebibyte", "--workers=0"], "workers"),
        (["tebibyte", "--host", "--kernel=7.3"], "leave out --kernel"),
    ],
)
def test_bad_usage(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["experiment", "sweep", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr


def sized(gibibytes: int, method: str) -> Document:
    """Make a result of a sweep: tables grow with the mapping, and the module frees them all."""
    run = made_run(method, freed=25600 if method == "module" else 0)
    start = run["phases"]["start"]["vmpte_bytes"]
    left = 0 if method == "module" else gibibytes << 21
    cleaned = run["phases"]["cleaned"]
    cleaned["vmpte_bytes"], cleaned["seconds"] = start + left, gibibytes
    document = made_document("7.3.4", "series-50g", run)
    assert document["measured"] is not None
    document["measured"]["parameters"]["size_bytes"] = gibibytes << 30
    return document


def test_slopes_say_how_it_grows(tmp_path: Path) -> None:
    found = [sized(size, method) for size in (4, 1, 2) for method in ("none", "module")]
    ((name, group),) = growth.curves(found).items()
    assert name == "series-50g"
    by_method = {curve.method: curve for curve in group}
    none = by_method["none"]
    assert none.mapped_bytes == (1 << 30, 1 << 31, 1 << 32)
    assert growth.slope(none.mapped_bytes, none.left_bytes) == pytest.approx(1)
    module = by_method["module"]
    assert module.left_bytes == (0, 0, 0)
    assert module.left_on_axis == [4096, 4096, 4096]
    assert growth.slope(module.mapped_bytes, module.left_on_axis) == pytest.approx(0)
    assert growth.slope(module.mapped_bytes, module.medians) == pytest.approx(1)
    *sizes, slopes = growth.rows(group)
    assert [row[0] for row in sizes] == ["1.00 GiB", "2.00 GiB", "4.00 GiB"]
    assert slopes == ("*slope, log-log*", "1.00", "0.00", "1.00", "1.00")
    (path,) = growth.draw_all(found, tmp_path)
    assert path.read_bytes().startswith(PNG)


def test_two_sizes_are_no_curve() -> None:
    """A curve takes at least three sizes, and parts without a size have none."""
    assert growth.curves([stored("allocators/tables"), stored("designs/when")]) == {}
    assert growth.curves([sized(1, "none"), sized(2, "none")]) == {}
