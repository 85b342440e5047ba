# SPDX-License-Identifier: MIT
"""Tests that Python has the counts and the settings of the preload library as C lists them."""

import re
from collections.abc import Iterator
from dataclasses import Field, asdict, fields
from pathlib import Path

import pytest

from allocator_shim._figures import Conf, Stats
from allocator_shim.preloading import _TOLD, CONF, conf_in_force, wrong_entries

ROOT = Path(__file__).parents[2]
HEADER = ROOT / "allocator_shim/include/pgtable_cleanup_shim.h"
MANUAL = ROOT / "docs/man/libpgtable-cleanup.md"


def counts_in_c() -> Iterator[str]:
    """Yield the counts of the C header; a count that has three levels yields three."""
    header = HEADER.read_text(encoding="utf-8")
    body = re.search(r"struct pgtable_cleanup_stats \{(.*?)\}", header, re.DOTALL)
    assert body
    for name, levels in re.findall(r"uint64_t (\w+)(\[3\])?;", body[1]):
        yield from (f"{name}_{level}" for level in ("pte", "pmd", "pud")) if levels else [name]
    assert len(re.findall(";", body[1])) == len(re.findall("uint64_t", body[1]))


def test_python_has_the_counts_of_the_c_header() -> None:
    assert [count.name for count in fields(Stats)] == list(counts_in_c())


def test_every_count_and_setting_is_explained() -> None:
    for figures in (Stats, Conf):
        explained = re.findall(r"^    +(\w+): \S", figures.__doc__ or "", re.MULTILINE)
        assert explained == [one.name for one in fields(figures)]


def test_python_has_the_keys_that_the_library_knows() -> None:
    (said,) = wrong_entries("nonsense")
    assert [key.name for key in fields(Conf)] == said.rpartition("the keys are ")[2].split(", ")


@pytest.mark.parametrize("key", fields(Conf), ids=lambda key: key.name)
def test_a_setting_has_the_type_of_its_values(key: Field[object]) -> None:
    (said,) = wrong_entries(f"{key.name}:nonsense")
    words = re.findall(r"[a-z]+", said.rpartition("must be ")[2].partition(" (")[0])
    of_words = {("true", "or", "false"): bool, ("to",): int, ("or",): int}
    assert key.type is of_words.get(tuple(words), str)


def test_the_configuration_in_force() -> None:
    assert conf_in_force("threshold:7,thread:true,hooks:jemalloc,verbose:9") == Conf(
        threshold=7,
        interval_ms=1000,
        zero_pages=False,
        thread=True,
        hooks="jemalloc",
        backend="module",
        verbose=1,
        stats="none",
    )


def test_wrong_entries() -> None:
    assert wrong_entries("threshold:256,thread:true") == []
    assert wrong_entries("verbose:9,threshold:1") == ["verbose:9: the value must be 0, 1 or 2"]


def test_the_manual_has_each_key_with_its_values_and_its_default() -> None:
    """libpgtable_cleanup(7) lists just the keys, values and defaults that the library has."""
    manual = MANUAL.read_text(encoding="utf-8")
    keys = re.findall(
        r"^\*\*(\w+)\*\*\n: [^*]*?(?:\n  |[^\n])*Value: (.*?)\. Default: `(\w+)`\.$",
        manual.partition("## Configuration")[2].partition("\n## ")[0],
        re.MULTILINE,
    )
    defaults = asdict(conf_in_force(""))
    assert [(key, default) for key, _values, default in keys] == [
        (key, str(default).lower() if isinstance(default, bool) else str(default))
        for key, default in defaults.items()
    ]
    for key, values, _default in keys:
        assert wrong_entries(f"{key}:nonsense") == [f"{key}:nonsense: the value must be {values}"]


def test_the_manual_names_the_environment() -> None:
    environment = MANUAL.read_text(encoding="utf-8").partition("## Environment")[2]
    for name in ("LD_PRELOAD", CONF, _TOLD):
        assert f"**{name}**\n: " in environment
