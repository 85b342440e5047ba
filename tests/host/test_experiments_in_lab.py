# SPDX-License-Identifier: MIT
"""Tests of every experiment by quick runs in the lab, for what must hold on any host.

Each kernel takes two guests. `make evidence` measures at full size, and judges the claims.
`make test` leaves the heaps out, which --heaps adds.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cleanup import lab
from experiments import registry, runner
from experiments.cost.methods import METHODS
from experiments.document import Document
from experiments.part import COUNTING, Scale
from experiments.sparse import PAGE

HEAPS = "allocators/"
# Bytes by which VmPTE may stay above its value before the mapping.
LEFT_AT_MOST = 16 << 10
# Parts that measure times are left out: times on an emulated processor say nothing.
PARTS = [name for name, part in registry.all_parts().items() if not part.needs.hardware]

QUICK = Scale(quick=True)
SECONDS = 1800.0
Measure = Callable[..., Any]


@pytest.fixture(scope="module")
def kernel(request: pytest.FixtureRequest) -> str:
    """Return the kernel that --kernel names, as `make test-lab-6.12` does."""
    return str(request.config.getoption("--kernel"))


@pytest.fixture(scope="module")
def heaps(request: pytest.FixtureRequest, kernel: str) -> str:
    """Return why heaps are not measured, or nothing if they are."""
    if kernel != lab.DEFAULT:
        return f"what heaps leave is the allocator's doing: {lab.DEFAULT} stands for all kernels"
    return "" if request.config.getoption("--heaps") else "heaps take ten minutes: give --heaps"


@pytest.fixture(scope="module")
def document(kernel: str, heaps: str, pool: lab.Pool) -> Callable[..., Document]:
    """Return a function that gives a part's document.

    When it is first asked for a part, it measures all parts that share that part's guest.
    """
    found: dict[tuple[str, Scale], Document] = {}

    def measure(names: Sequence[str], scale: Scale, machine: lab.Machine) -> None:
        # To start a process for each part would take an emulator minutes.
        command = runner.command(*names, scale=scale)
        done = pool.guest(kernel, machine).run(command, timeout=SECONDS)
        assert done.exit_code == 0, done.stderr.decode()
        for one in map(json.loads, done.stdout.splitlines()):
            found[one["part"], scale] = one

    def left_out(name: str) -> bool:
        return heaps != "" and name.startswith(HEAPS)

    def get(name: str, scale: Scale = QUICK) -> Document:
        if left_out(name):
            pytest.skip(heaps)
        if (name, scale) not in found:
            needs = registry.all_parts()[name].needs_at(scale)
            sharing = [
                each
                for each in (PARTS if scale == QUICK else PARTS_BY_ALL)
                if registry.all_parts()[each].needs_at(scale) == needs and not left_out(each)
            ]
            measure(sharing, scale, lab.Machine(**needs.machine()))
        return found[name, scale]

    return get


@pytest.fixture(scope="module")
def measured(kernel: str, document: Callable[..., Document]) -> Measure:
    """Return a function that gives what a part measured, and fails if the part failed."""

    def get(name: str, scale: Scale = QUICK) -> Any:  # noqa: ANN401 -- JSON
        found = document(name, scale)
        assert found["failures"] == []
        assert found["kernel"].startswith(f"{kernel}.")
        assert found["accelerator"] in ("tcg", "kvm")
        assert found["claims"] == [], "a quick measurement is not judged"
        return found["measured"]

    return get


def vmpte(run: dict[str, Any], phase: str) -> int:
    """Return by how many bytes VmPTE is above its value before the mapping."""
    above: int = run["phases"][phase]["vmpte_bytes"] - run["phases"]["start"]["vmpte_bytes"]
    return above


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_measured(
    name: str, kernel: str, document: Callable[..., Document], measured: Measure
) -> None:
    """Every part is measured without failures."""
    assert measured(name)
    assert document(name)["kernel_pt_reclaim"] == (kernel == "7.3")


def the_run(measured: Measure, name: str) -> dict[str, Any]:
    """Return a workload's run by the module: contents are intact, and empty tables were freed."""
    (run,) = measured(name)["runs"]
    assert run["method"] == "module"
    assert run["violations"] == []
    assert run["contents_intact"]
    assert run["freed"] == {"pte": run["empty_tables"], **run["empty_upper_tables"]}
    return run  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("series-50g", 1 << 10),
        ("tebibyte-empty", 1 << 13),
        ("sparse-file-256g", 1 << 11),
        ("zero-pages-256g", 1 << 11),
    ],
)
def test_every_table_goes(name: str, units: int, measured: Measure) -> None:
    """Empty tables of every level are freed, also those after page reclaim and of zero pages."""
    run = the_run(measured, name)
    assert run["counts"].get("resident pages after", 0) == 0
    # The mapping is whole GiB, so PMD tables are exact; its PUD tables depend on its address.
    assert run["empty_tables"] == units
    assert run["empty_upper_tables"]["pmd"] == units // 512
    assert run["empty_tables_after"] == 0
    assert vmpte(run, "released") >= (units + units // 512) * PAGE
    assert vmpte(run, "cleaned") <= LEFT_AT_MOST


def test_survivors_keep_their_tables(measured: Measure) -> None:
    """A sparse mapping keeps 2 of 8192 tables, and dense memory keeps all of them."""
    assert the_run(measured, "tebibyte")["survivors"] == 2
    assert the_run(measured, "tebibyte")["freed"]["pte"] == (1 << 13) - 2
    assert the_run(measured, "shared-memfd-32g")["survivors"] == 2
    balloon = the_run(measured, "balloon-2g")
    assert balloon["freed"]["pte"] + balloon["counts"]["tables that a survivor keeps"] == 32
    for control in ("dense-1g", "huge-pages-1g"):
        assert the_run(measured, control)["freed"]["pte"] == 0


def test_every_process_has_its_own_to_free(measured: Measure) -> None:
    """The module frees the tables of every process that maps the memory, not of one alone."""
    workers = the_run(measured, "workers-file-32g")
    assert workers["empty_tables"] >= 0.99 * 9 * 1024
    assert vmpte(workers, "cleaned") <= 9 * LEFT_AT_MOST
    shared = the_run(measured, "shared-memfd-32g")
    assert shared["empty_tables"] >= 5 * 2046
    # Each process keeps its two live tables, and the tables above them.
    assert vmpte(shared, "cleaned") <= 5 * 2 * 3 * PAGE
    assert 8 * 15 <= the_run(measured, "hundred-processes")["empty_tables"] <= 8 * 17


# This scale has every method, including those that free nothing.
BY_ALL = Scale(quick=True, methods=("none", "zap", "module"), granularities=("4k", "2m"))
PARTS_BY_ALL = ("series-50g", "shared-memfd-32g")


def test_what_the_kernel_frees_by_itself(kernel: str, measured: Measure) -> None:
    """7.3 frees the tables under releases of whole 2 MiB; tables under smaller ones stay."""
    runs = measured("series-50g", BY_ALL)["runs"]
    assert len(runs) == 6
    for run in runs:
        granularity, method = run["granularity"], run["method"]
        kernel_did_it = kernel == "7.3" and (granularity == "2m" or method == "zap")
        assert vmpte(run, "touched") >= 4 << 20 or granularity == "2m"
        if method != "module" and not kernel_did_it:
            assert run["freed"] == {"pte": 0, "pmd": 0, "pud": 0}
            assert vmpte(run, "cleaned") == vmpte(run, "touched")
        else:
            assert vmpte(run, "cleaned") <= LEFT_AT_MOST


def test_holes_punched_by_one_of_five_processes(measured: Measure) -> None:
    """PT_RECLAIM frees no table under punched holes, and MADV_DONTNEED only its caller's."""
    for run in measured("shared-memfd-32g", BY_ALL)["runs"]:
        assert run["empty_tables"] >= 5 * 2046
        freed = run["freed"]["pte"]
        expected = {"none": freed == 0, "zap": freed <= 2048, "module": freed >= 5 * 2046}
        assert expected[run["method"]]


def test_every_method_does_what_it_is_to_do(kernel: str, measured: Measure) -> None:
    """Batches save flushes and instructions, and live tables between empty ones add no cost."""
    part = measured("reclaim-cost/instructions")
    tables, methods = part["tables"], part["methods"]
    assert set(methods) == set(METHODS)
    falls = {name: figures["vmpte_fall_bytes"] // PAGE for name, figures in methods.items()}
    idle = {"module_scan"} if kernel == "7.3" else {"module_scan", "zap"}
    assert {name for name, fall in falls.items() if not fall} == idle
    assert falls["module"] == falls["module_flush_each"] == falls["module_live_inside"] == tables
    assert methods["module"]["flushes"] <= tables // 64
    assert methods["module_flush_each"]["flushes"] == tables
    costs = {name: one["instructions_per_table"]["median"] for name, one in methods.items()}
    assert 0 < costs["module_scan"] < costs["module"] < costs["module_flush_each"]
    assert costs["remap"] < costs["remap_each"]
    assert costs["module_live_inside"] == pytest.approx(costs["module"], rel=0.2)
    sent = measured("reclaim-cost/shootdowns")["methods"]
    assert (
        sent["module"]["shootdowns"]["median"] < sent["module_flush_each"]["shootdowns"]["median"]
    )


def test_holds_are_those_of_the_tracepoints(kernel: str, measured: Measure) -> None:
    """7.3 frees PTE tables under mmap read; the module and the trace agree on the longest hold."""
    part = measured("reclaim-cost/holds")
    assert len(part["passes"]) == 7
    differ = []
    for name, one in part["passes"].items():
        shared = kernel == "7.3" and one["tables_of"] == "PTE"
        assert (one["write_holds"] == 0) == shared
        if not shared:
            longest = one["longest_write_instructions"]["max"]
            assert longest > part["shortest_write_hold_instructions"]
        # The module's clock starts after one tracepoint and stops after the other.
        longest = max(one[f"longest_{kind}_instructions"]["max"] for kind in ("write", "read"))
        own = one["module_longest_hold_traced_instructions"]["max"]
        if longest != pytest.approx(own, rel=0.01, abs=5_000):
            differ.append((name, longest, own))
    # An interrupt between a tracepoint and the module's clock may run RCU callbacks.
    assert len(differ) <= 1, differ


def test_instructions_follow_the_tables(kernel: str, measured: Measure) -> None:
    """A fault that makes tables costs more, and a scan costs less than reading the pagemap."""
    refault = measured("reclaim-cost/refault")
    for figures in refault["fault_instructions_by_threads"].values():
        kept, pte, pmd = (figures[freed]["median"] for freed in ("kept", "pte_freed", "pmd_freed"))
        # A new table is one more page to clear, like the page that is faulted in.
        assert 1_000 < kept < pte - 1_000 < pmd - 2_000
    whole = measured("reclaim-cost/whole-process")
    assert whole["reserved_bytes"] >= 120 << 40
    assert whole["mappings"] <= 4
    assert whole["tables_seen"]["pte"] >= 64
    scan = whole["scan_instructions"]["median"]
    assert whole["scan_side_by_side_instructions"]["median"] < scan
    # A table has 64 cache lines, each of which takes an instruction at least.
    assert whole["scan_instructions_per_empty_table"]["median"] > 64
    assert scan < whole["pagemap_read_instructions"]["median"]
    # Linux 6.7 brought PAGEMAP_SCAN.
    assert (whole["pagemap_scan_instructions"] is None) == (kernel == "6.1")


def test_faults_go_by_the_lock_that_the_kernel_has(kernel: str, measured: Measure) -> None:
    """Faults take the mmap lock before 6.4, a VMA lock since; times are not judged here."""
    part = measured("reclaim-cost/faults")
    locks = part["mmap_locks"]
    assert locks["holds_per_fault"] == pytest.approx(1 if kernel == "6.1" else 0, abs=0.02)
    assert (locks["write_holds"] > 0) == (kernel != "7.3")
    for each in part["rounds"]:
        for name, one in each["passes"].items():
            latencies = one["latencies"]
            assert sum(latencies["histogram"]["counts"]) == latencies["events"], name
            assert 0 < latencies["min_ns"] <= latencies["median_ns"] <= latencies["p99_ns"]
            least = {"spinning": 0, "upper": part["upper_tables"]}.get(name, part["tables"])
            assert one["freed"] >= least
        assert each["passes"]["spinning"]["stalled_share"] <= 0.01


def test_designs(kernel: str, measured: Measure) -> None:
    """Explicit calls free all tables, cheapest in batches; access to one page a table pays most."""
    part = measured("designs/when")
    when, tables = part["methods"], part["units"] * PAGE
    assert when["none"]["left_bytes"] >= tables
    assert (when["zap"]["left_bytes"] < tables) == (kernel == "7.3")
    explicit = ("module_each", "module_each_64", "module_once", "module_flush_each")
    for name in explicit:
        assert when[name]["left_bytes"] <= LEFT_AT_MOST
    cost = {name: one["release_instructions"]["median"] for name, one in when.items()}
    assert cost["none"] < cost["module_once"] < cost["module_flush_each"] < cost["module_each"]
    fault = {name: one["fault_instructions"]["median"] for name, one in when.items()}
    assert fault["none"] + 1000 < fault["module_each"]
    access = measured("designs/objection")["access"]
    more = {name: one["more"] for name, one in access.items()}
    for threads in (1, 2, 4):
        assert more[f"single-{threads}"] > more[f"sixteen-{threads}"] > more[f"whole-{threads}"]


def test_what_allocators_leave_is_freed(measured: Measure) -> None:
    """The library frees empty tables by the module, and jemalloc's hooks free them without it."""
    runs = measured("allocators/tables")["runs"]["purge"]
    assert set(runs) == {"none", "module", "hooks"}
    assert runs["none"]["empty"] >= 8
    for method in ("module", "hooks"):
        assert runs[method]["empty"] <= 4
    for methods in measured("allocators/mass-delete")["runs"].values():
        assert set(methods) == {"none", "module"}
    forks = measured("allocators/fork")["runs"]
    assert forks["none"]["freed"] == 0
    assert forks["module"]["freed"] >= 2000
    assert forks["module"]["child_vmpte_bytes"] < forks["none"]["child_vmpte_bytes"]


# The costs of these loops are known, and a sleep takes time but no instructions. The median of
# several turns leaves out the kernel's own work, which comes now and then.
LOOPS = (1_000_000, 10_000_000, 30_000_000)
KNOWN_COSTS = f"""
import json, time
from statistics import median
from experiments.cost import _calls, meter
with meter.running() as counter:
    cost = lambda operation: median(counter.net(operation).instructions for _ in range(3))
    print(json.dumps({{
        "loops": [cost(lambda: _calls.loop(length)) for length in {LOOPS}],
        "sleep": cost(lambda: time.sleep(0.1)),
        "nothing": cost(lambda: None),
    }}))
"""


def test_the_meter_counts_instructions_and_no_time(kernel: str, pool: lab.Pool) -> None:
    """The meter is right on each kernel, though 6.1 has no file by which to wait for RCU."""
    guest = pool.guest(kernel, lab.Machine(**COUNTING.machine()))
    done = guest.run([sys.executable, "-P", "-c", KNOWN_COSTS])
    assert done.exit_code == 0, done.stderr
    counted = json.loads(done.stdout)
    for length, cost in zip(LOOPS, counted["loops"], strict=True):
        assert cost == pytest.approx(length, rel=0.01, abs=100_000)
    # The sleep took 100,000,000 ns.
    assert abs(counted["sleep"]) < 200_000
    assert abs(counted["nothing"]) < 100_000
