# SPDX-License-Identifier: MIT
"""Tests of the commands features, scan and reclaim: their output, exit codes and usage."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from cleanup import _uapi
from cleanup.commands import main

if TYPE_CHECKING:
    from unit.conftest import FakeModule


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid


def keys(value: Any) -> Any:  # noqa: ANN401 -- JSON
    """Return the keys of a JSON document, without its values."""
    if isinstance(value, dict):
        return {key: keys(part) for key, part in value.items()}
    return None


RESULT = {
    "tables": {"pte": None, "pmd": None, "pud": None},
    "empty": {"pte": None, "pmd": None, "pud": None},
    "freed": {"pte": None, "pmd": None, "pud": None},
    "skipped": {"mapped": None},
    "zero_pages_dropped": None,
    "holes": None,
    "flushes": None,
    "longest_hold_ns": None,
    "calls": None,
    "complete": None,
}
PROCESS = {
    "pid": None,
    "name": None,
    "vmpte_bytes_before": None,
    "vmpte_bytes_after": None,
    "result": RESULT,
    "error": None,
}
REPORT = {
    "schema": None,
    "error": None,
    "frees": None,
    "selection": {"by": None, "what": None},
    "processes": None,
    "total": RESULT,
    "errors": {},
    "not_reached": None,
    "interrupted": None,
    "pagetables": {},
}
METHOD = {"does": None, "works": None, "reasons": None, "used_by": None}
FEATURES = {
    "schema": None,
    "kernel": None,
    "machine": None,
    "page_bytes": None,
    "paging_levels": None,
    "proved_kernel": None,
    "pt_reclaim": None,
    "madvise": None,
    "module": {
        "abi_version": None,
        "proved_kernel": None,
        "flags": None,
        "levels": None,
        "max_ranges": None,
        "batch": None,
        "default_max_hold_ns": None,
    },
    "module_obstacles": None,
    "methods": dict.fromkeys(("none", "zap", "remap", "module", "hooks"), METHOD),
    "lab": {"works": None, "reasons": None},
    "kvm": {"works": None, "reasons": None},
}


def test_features_with_a_module(module: "FakeModule") -> None:
    result = run("features", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert keys(document) == FEATURES
    assert document["methods"]["module"] == {
        "does": document["methods"]["module"]["does"],
        "works": True,
        "reasons": [],
        "used_by": document["methods"]["module"]["used_by"],
    }
    assert document["module"] == {
        "abi_version": _uapi.ABI_VERSION,
        "proved_kernel": True,
        "flags": ["scan_only", "whole_mm"],
        "levels": ["pte"],
        "max_ranges": 1024,
        "batch": 128,
        "default_max_hold_ns": 2_000_000,
    }
    assert not module.calls
    text = run("features").stdout
    assert "module's levels" in text
    assert "2ms" in text


def test_features_with_a_module_of_another_abi(module: "FakeModule") -> None:
    module.features = module.features._replace(abi_version=99)
    result = run("features", "--json")
    assert result.exit_code == 0
    method = json.loads(result.stdout)["methods"]["module"]
    assert not method["works"]
    assert "ABI 99" in method["reasons"][0]


def test_features_with_an_unproved_kernel(module: "FakeModule") -> None:
    module.features = module.features._replace(features=_uapi.FEATURE_UNPROVED)
    assert json.loads(run("features", "--json").stdout)["module"]["proved_kernel"] is False


@pytest.mark.parametrize(("pt_reclaim", "loaded"), [(True, True), (False, True), (False, False)])
def test_features_says_what_uses_each_method(
    module: "FakeModule", monkeypatch: pytest.MonkeyPatch, pt_reclaim: bool, loaded: bool
) -> None:
    """jemalloc's hooks use the first of zap, module and remap that works here."""
    monkeypatch.setattr("cleanup.probe.dontneed_frees_tables", lambda: pt_reclaim)
    monkeypatch.setattr("cleanup.probe.remap_frees_tables", lambda: True)
    if not loaded:
        module.features = module.features._replace(abi_version=99)
    methods = json.loads(run("features", "--json").stdout)["methods"]
    assert {"scan", "reclaim", "exec"} <= set(methods["module"]["used_by"])
    assert all(method["used_by"] for method in methods.values())
    by_hooks = "exec --conf hooks:jemalloc"
    used = {name for name, method in methods.items() if by_hooks in method["used_by"]}
    assert used == {"hooks", "zap" if pt_reclaim else "module" if loaded else "remap"}
    shown = " ".join(run("features").stdout.split())
    assert shown.count(f"used by: {by_hooks}") == 2


def test_features_names_the_package_that_hooks_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(run("features", "--json").stdout)["methods"]["hooks"]["works"] is True
    monkeypatch.setattr("allocator_shim.preloading.JEMALLOC", "libnothing.so.9")
    hooks = json.loads(run("features", "--json").stdout)["methods"]["hooks"]
    assert hooks["works"] is False
    assert hooks["reasons"] == ["libnothing.so.9 is not installed (Debian's package libjemalloc2)"]


def test_features_names_what_the_lab_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    lab = json.loads(run("features", "--json").stdout)["lab"]
    assert lab["works"] is False
    assert any("install qemu-system-x86" in reason for reason in lab["reasons"])
    assert any("apt-get not found" in reason for reason in lab["reasons"])


@pytest.mark.parametrize(("verb", "freed"), [("scan", 0), ("reclaim", 4)])
def test_json(module: "FakeModule", child: int, verb: str, freed: int) -> None:
    result = run(verb, "--json", child)
    assert result.exit_code == 0
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert keys(document) == REPORT
    assert document["frees"] == bool(freed)
    assert document["selection"] == {"by": "pids", "what": None}
    (process,) = document["processes"]
    assert keys(process) == PROCESS
    assert document["total"] == process["result"]
    assert process["pid"] == child
    assert process["result"]["freed"]["pte"] == freed
    assert process["result"]["skipped"] == {"mapped": 6}
    assert process["vmpte_bytes_before"] > 0
    assert len(module.calls) == 1


def test_text(module: "FakeModule", child: int) -> None:
    lines = run("reclaim", child).stdout.splitlines()
    assert lines[0].split() == [
        *("pid", "name", "page", "tables", "after", "tables", "empty", "freed", "left", "alone")
    ]
    assert lines[1].split()[0] == str(child)
    assert lines[1].split()[-5:] == ["10", "4", "4", "6", "mapped"]
    assert "freed" not in run("scan", child).stdout
    assert len(module.calls) == 2


def test_a_dry_run_frees_nothing(module: "FakeModule", child: int) -> None:
    assert run("reclaim", "--dry-run", child).exit_code == 0
    assert all(arguments["flags"] & _uapi.SCAN_ONLY for arguments in module.calls)


def test_options_reach_the_call(module: "FakeModule", child: int) -> None:
    options = ("--levels", "pte,pud", "--max-tables", 3, "--max-hold", "5us")
    assert run("reclaim", *options, child).exit_code == 0
    (arguments,) = module.calls
    assert arguments["levels"] == _uapi.LEVELS["pte"] | _uapi.LEVELS["pud"]
    assert (arguments["max_tables"], arguments["max_hold_ns"]) == (3, 5000)


def test_a_pid_given_twice_counts_once(module: "FakeModule", child: int) -> None:
    document = json.loads(run("scan", "--json", child, child).stdout)
    assert len(document["processes"]) == len(module.calls) == 1


def test_one_refused_process_does_not_stop_the_others(module: "FakeModule", child: int) -> None:
    module.fails = lambda arguments: errno.EPERM if arguments["pidfd"] >= 0 else 0
    result = run("reclaim", "--json", child, os.getpid())
    assert result.exit_code == 1
    assert result.stderr == (
        f"pgtable-cleanup: pid {child}: another process needs CAP_SYS_NICE in its user namespace: "
        "run as root\n"
    )
    refused, done = json.loads(result.stdout)["processes"]
    wanted = {
        "message": f"pid {child}: another process needs CAP_SYS_NICE in its user namespace",
        "errno": "EPERM",
        "hint": "run as root",
    }
    assert refused["error"] == json.loads(result.stdout)["error"] == wanted
    assert done["error"] is None
    assert done["result"]["complete"]


def test_a_process_that_is_gone(module: "FakeModule") -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    result = run("reclaim", process.pid)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == f"pgtable-cleanup: pid {process.pid}: no such process\n"
    assert not module.calls


@pytest.mark.parametrize(
    "arguments",
    [
        ("scan",),
        ("scan", "--all", "1"),
        ("scan", "--all", "--cgroup", "a"),
        ("reclaim", "--cgroup", "a", "--mappers", "b"),
        ("reclaim", "--mappers", "b", "1"),
        ("scan", "0"),
        ("scan", "-1"),
        ("scan", "init"),
        ("scan", "--dry-run", "1"),
        ("reclaim", "--levels", "pgd", "1"),
        ("reclaim", "--levels", "", "1"),
        ("reclaim", "--max-tables", "0", "1"),
        ("reclaim", "--max-hold", "500000", "1"),
        ("reclaim", "--max-hold", "1 fortnight", "1"),
        ("reclaim", "--max-hold", "0ns", "1"),
        ("reclaim", "--no-such-option", "1"),
        ("features", "1"),
        ("no-such-verb",),
        (),
    ],
    ids=" ".join,
)
def test_usage_errors(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("scan", "-h"), ("reclaim", "--help")])
def test_help(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    assert result.stderr == ""


@pytest.mark.parametrize("verb", ["scan", "reclaim"])
def test_help_shows_how_it_is_used(verb: str) -> None:
    lines = run(verb, "--help").stdout.splitlines()
    for example in ("1234 5678", "--all", "--mappers /proc/1234/fd/7 --json"):
        assert f"    pgtable-cleanup {verb} {example}" in lines
