# SPDX-License-Identifier: MIT
"""Which runs a sweep is made of, and which it leaves out."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cleanup.commands import main
from experiments import in_lab, scale, sweep
from experiments.document import Document, Phase
from experiments.measure import ExperimentError
from experiments.workloads import registry
from unit.test_experiment_report import PNG, made_document


def some(*sizes: int) -> list[sweep.Point]:
    return sweep.points(
        ["series-50g", "zero-pages-256g"],
        ["6.12", "7.3"],
        ["none", "module"],
        sizes,
        ["4k", "64k"],
        seed=1,
        repeats=2,
    )


def test_every_combination_that_there_is() -> None:
    """A workload that releases nothing has no granularity to choose."""
    found = some(1 << 30, 1 << 31)
    assert len(found) == 2 * 2 * 2 * (2 + 1)
    assert len({point.name for point in found}) == len(found)
    assert found[0].name == "series-50g_6.12_none_4k_1GiB_one_seed1_x2"
    assert {point.parameters.granularity for point in found} == {"4k", "64k", "-"}


def test_sizes_are_the_workloads_own() -> None:
    assert {point.parameters.size_bytes for point in some()} == {50 << 30, 256 << 30}


def test_a_kernel_by_its_path_makes_a_name() -> None:
    (point,) = sweep.points(["tebibyte"], ["/boot/my kernel"], ["none"], [], [], seed=1, repeats=1)
    assert point.name == "tebibyte_-boot-my-kernel_none_4k_1TiB_one_seed1_x1"


def test_what_has_a_result_starts_no_cluster(tmp_path: Path) -> None:
    wanted = some(1 << 30)
    for point in wanted:
        (tmp_path / f"{point.name}.json").write_text(json.dumps({"experiment": point.workload}))
    ended = sweep.run(wanted, tmp_path, scheduler="nowhere", workers=None, progress=print)
    assert ended == sweep.Ended((), tuple(point.name for point in wanted), {})
    assert len(sweep.results(tmp_path, wanted)) == len(wanted)


def test_without_dask_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExperimentError, match=r"pip install 'pgtable-cleanup\[sweep\]'"):
        sweep.run(some(1 << 30), tmp_path, scheduler=None, workers=None, progress=print)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "is not one of"),
        (["tebibyte", "--size=3k"], "such as 64g"),
        (["tebibyte", "--backend=remap"], "remap"),
        (["tebibyte", "--workers=0"], "workers"),
    ],
)
def test_bad_usage(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["experiment", "sweep", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr


def sized(gibibytes: int, backend: str) -> Document:
    """As a sweep leaves it: tables grow with the mapping, and the module frees them all."""
    made = made_document()
    (run, *_) = (run for run in made["runs"] if run["backend"] == backend)
    start = run["phases"]["start"]["vmpte_bytes"]
    left = 0 if backend == "module" else gibibytes << 21
    cleaned: Phase = {**run["phases"]["cleaned"], "vmpte_bytes": start + left, "seconds": gibibytes}
    phases = {**run["phases"], "cleaned": cleaned}
    parameters = {**made["parameters"], "size_bytes": gibibytes << 30}
    return {**made, "parameters": parameters, "runs": [{**run, "phases": phases}]}


def test_slopes_say_how_it_grows(tmp_path: Path) -> None:
    documents = [sized(size, backend) for size in (4, 1, 2) for backend in ("none", "module")]
    ((workload, group),) = scale.curves(documents).items()
    assert workload == documents[0]["experiment"]
    by_backend = {curve.backend: curve for curve in group}
    none = by_backend["none"]
    assert none.mapped_bytes == (1 << 30, 1 << 31, 1 << 32)
    assert scale.slope(none.mapped_bytes, none.left_bytes) == pytest.approx(1)
    module = by_backend["module"]
    assert module.left_bytes == (0, 0, 0)
    assert module.left_on_axis == [4096, 4096, 4096]
    assert scale.slope(module.mapped_bytes, module.left_on_axis) == pytest.approx(0)
    assert scale.slope(module.mapped_bytes, module.medians) == pytest.approx(1)
    *sizes, slopes = scale.rows(group)
    assert [row[0] for row in sizes] == ["1.00 GiB", "2.00 GiB", "4.00 GiB"]
    assert slopes == ("*slope, log-log*", "1.00", "0.00", "1.00", "1.00")
    (path,) = scale.draw_all(documents, tmp_path)
    assert path.read_bytes().startswith(PNG)


def test_two_sizes_are_no_curve() -> None:
    assert scale.curves([sized(1, "none"), sized(2, "none")]) == {}


def test_a_larger_mapping_has_a_larger_guest() -> None:
    workload = registry()["tebibyte-empty"]
    assert in_lab.memory(workload, 1 << 30) == "4096M"
    assert in_lab.memory(workload, 1 << 40) == "4096M"
    assert in_lab.memory(workload, 1 << 41) == "8192M"
