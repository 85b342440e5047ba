# SPDX-License-Identifier: MIT
"""Tests that Python has the counts and the settings of the preload library as C lists them."""

import re
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path

import pytest

from allocator_shim._figures import Conf, Stats
from allocator_shim.preloading import conf_in_force, wrong_entries

HEADER = Path(__file__).parents[2] / "allocator_shim/include/pgtable_cleanup_shim.h"


def counts_in_c() -> Iterator[str]:
    """Yield the counts of the C header; a count for each level is three."""
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
def test_python_has_a_settings_type(key: Field[object]) -> None:
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
