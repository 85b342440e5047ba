# SPDX-License-Identifier: MIT
"""Tests of PGTABLE_CLEANUP_CONF: a bad entry is reported and changes nothing."""

import pytest
from _shim import read_conf

DEFAULT = (
    "threshold:64,interval_ms:1000,zero_pages:false,thread:false,hooks:none,backend:module,"
    "verbose:1,stats:none"
)
OTHER = (
    "threshold:1048576,interval_ms:86400000,zero_pages:true,thread:true,hooks:jemalloc,"
    "backend:null,verbose:0,stats:exit"
)


@pytest.mark.parametrize("entry", OTHER.split(","))
def test_understood(entry: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert read_conf(entry.encode()) == (changed(entry), 0)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("text", ["", ",,", f"{OTHER},,{DEFAULT},", DEFAULT])
def test_the_last_word_counts(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert read_conf(text.encode()) == (DEFAULT, 0)
    assert capfd.readouterr().err == ""


def test_what_is_written_can_be_read() -> None:
    assert read_conf(OTHER.encode()) == (OTHER, 0)


def changed(*entries: str) -> str:
    """Return the default configuration with these entries in place of its own."""
    new = {entry.split(":")[0]: entry for entry in entries}
    return ",".join(new.get(entry.split(":")[0], entry) for entry in DEFAULT.split(","))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("treshold:64", "the keys are threshold, interval_ms,"),
        ("threshold", "the keys are"),
        (":64", "the keys are"),
        ("threshold:", "1 to 1048576"),
        ("threshold:0", "1 to 1048576"),
        ("threshold:-1", "1 to 1048576"),
        ("threshold:64 ", "1 to 1048576"),
        ("threshold:1048577", "1 to 1048576"),
        ("threshold:18446744073709551680", "1 to 1048576"),
        ("interval_ms:0", "1 to 86400000"),
        ("zero_pages:1", "true or false"),
        ("backend:Module", "module or null"),
        ("verbose:3", "0, 1 or 2"),
        ("hooks:tcmalloc", "jemalloc or none"),
        ("stats:always", "exit or none"),
    ],
)
def test_named_and_ignored(entry: str, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    conf, wrong = read_conf(f"verbose:2,{entry},interval_ms:5".encode())
    assert (conf, wrong) == (changed("verbose:2", "interval_ms:5"), 1)
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"pgtable-cleanup: PGTABLE_CLEANUP_CONF: {entry}")
    assert says in told[0]
    assert told[0].endswith("; ignored")


def test_told_already(capfd: pytest.CaptureFixture[str]) -> None:
    assert read_conf(b"nonsense,threshold:x", told=True) == (DEFAULT, 2)
    assert capfd.readouterr().err == ""


def test_a_long_entry_is_cut(capfd: pytest.CaptureFixture[str]) -> None:
    assert read_conf(b"x" * 100_000) == (DEFAULT, 1)
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert len(told) <= 512
