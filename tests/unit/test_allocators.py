# SPDX-License-Identifier: MIT
"""Tests of the experiment `allocators`: its arithmetic, its methods, and its rows."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from allocator_shim.preloading import CONF
from cleanup import _uapi
from experiments.allocators import ratios
from experiments.allocators.methods import (
    HOOKS,
    MODULE,
    NO_DEVICE,
    NONE,
    RETAIN_FALSE,
    ProgramMethod,
)
from experiments.allocators.parts import tables
from experiments.part import Scale
from unit.stored import rows as rows_of
from unit.stored import stored


@pytest.mark.parametrize(
    ("rounds", "low", "high"), [(1, 0, 0), (5, 0, 4), (6, 0, 5), (9, 1, 7), (15, 3, 11)]
)
def test_the_interval_is_by_order(rounds: int, low: int, high: int) -> None:
    """The confidence interval drops as many values at each end as the sign test's tables say."""
    found = ratios.interval([100 + place for place in range(rounds)], [100] * rounds)
    assert found["median"] == 1 + (rounds - 1) / 200
    assert (found["low"], found["high"]) == (1 + low / 100, 1 + high / 100)


def test_rounds_begin_with_another_each() -> None:
    """Each round begins with another method, and a ratio compares values of one round."""
    ran: list[str] = []

    def run(method: ProgramMethod) -> float:
        ran.append(method.name)
        return float(len(ran))

    methods = [ProgramMethod("a"), ProgramMethod("b")]
    found = ratios.compared(Scale(repeats=2), 9, methods, run)
    assert ran == ["a", "b", "b", "a"]
    assert found["a"] == {"values": [1.0, 4.0]}
    assert found["b"]["values"] == [2.0, 3.0]
    assert found["b"]["ratio"] == {"median": 1.375, "low": 0.75, "high": 2.0}


def test_what_a_method_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method replaces the library's configuration that the caller has in its environment."""
    monkeypatch.setenv(CONF, "threshold:1")
    none = NONE.with_malloc_conf({"dirty_decay_ms": "0"}).environment(["liballocator.so"])
    assert none["LD_PRELOAD"] == "liballocator.so"
    assert CONF not in none
    assert none["MALLOC_CONF"] == "thp:never,dirty_decay_ms:0"
    by_units = replace(NONE, variables={"MIMALLOC_MINIMAL_PURGE_SIZE": "2MiB"})
    assert by_units.environment([])["MIMALLOC_MINIMAL_PURGE_SIZE"] == "2MiB"
    hooks = HOOKS.environment(["liballocator.so"])
    assert hooks["LD_PRELOAD"].split()[1:] == ["liballocator.so"]
    assert hooks["LD_PRELOAD"].split()[0].endswith("libpgtable_cleanup.so")
    assert hooks[CONF] == "hooks:jemalloc,backend:null"
    assert HOOKS.attended().environment([])[CONF] == "hooks:jemalloc,backend:null,thread:true"
    assert NONE.attended() == NONE
    assert RETAIN_FALSE.environment([])["MALLOC_CONF"] == "thp:never,retain:false"


def test_a_method_needs_the_device_or_its_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_uapi, "DEVICE", str(tmp_path / "device"))
    assert [method.works_here() for method in (NONE, MODULE, NO_DEVICE)] == [True, False, True]
    (tmp_path / "device").touch()
    assert [method.works_here() for method in (NONE, MODULE, NO_DEVICE)] == [True, True, False]


def test_rows() -> None:
    """The rows show each method with its ratio, and the reason where a program is missing."""

    def rows(name: str, on: str, **changed: Any) -> dict[str, str]:  # noqa: ANN401
        document = stored(f"allocators/{name}", on)
        return rows_of({**document, "measured": {**(document["measured"] or {}), **changed}})

    tables = rows("tables", "7.3")
    assert re.fullmatch(r"\d+ empty of \d+ tables", tables["purge, hooks"])
    churn = rows("churn", "6.18")
    assert re.fullmatch(r"[\d.]+ ns", churn["objects up to 1 KiB, none"])
    ratio = r"[\d.]+ ns, [\d.]+ \([\d.]+ to [\d.]+\) times"
    assert re.fullmatch(ratio, churn["up to 16 KiB at decay 0, hooks"])
    assert "instructions, " in rows("calls", "7.3")["hooks"]
    others = rows("others", "7.3", missing={"Go": "there is no go on this machine"})
    assert "; reclaim by pid freed " in others["glibc, none"]
    assert others["Go"] == "there is no go on this machine"
    assert set(rows("redis", "6.18")) >= {"none", "library alone", "hooks"}
    assert "madvise(), library alone" in rows("libc", "6.18")
    assert re.match(r"first [\d.,]+ ms, then .*; the child", rows("fork", "7.3")["none"])


def test_what_is_claimed_of_tables() -> None:
    """Claims judge what share of empty tables module and hooks free; none judges retain:false."""
    counted = {
        "none": {"empty": 1000},
        "retain:false": {"empty": 700},
        "module": {"empty": 51},
        "hooks": {"empty": 50},
    }
    claims = {claim["claim"].split(", ")[-1]: claim for claim in tables._claims("purge", counted)}
    assert {name: claim["met"] for name, claim in claims.items()} == {
        "module": False,
        "hooks": True,
    }
    assert tables._claims("purge", {"none": {"empty": 0}}) == []
