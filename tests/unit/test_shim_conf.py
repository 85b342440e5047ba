# SPDX-License-Identifier: MIT
"""PGTABLE_CLEANUP_CONF: what is understood counts, what is not is told and changes nothing."""

import pytest
from _shim import read_conf

pytestmark = pytest.mark.unit

DEFAULT = {
    "threshold": 64,
    "interval_ms": 1000,
    "verbose": 1,
    "zero_pages": False,
    "thread": False,
    "stats": False,
    "backend": "module",
}


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (b"", {}),
        (b",,", {}),
        (b"threshold:1", {"threshold": 1}),
        (b"threshold:1048576", {"threshold": 1048576}),
        (b"interval_ms:86400000", {"interval_ms": 86400000}),
        (b"zero_pages:true,thread:true", {"zero_pages": True, "thread": True}),
        (b"zero_pages:true,zero_pages:false", {}),
        (b"backend:null,verbose:0,stats:exit", {"backend": "null", "verbose": 0, "stats": True}),
        (b"backend:null,backend:module,stats:none,", {}),
    ],
)
def test_understood(
    text: bytes, changed: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    assert read_conf(text) == (DEFAULT | changed, 0)
    assert capfd.readouterr().err == ""


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
        ("stats:always", "exit or none"),
    ],
)
def test_named_and_ignored(entry: str, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    conf, wrong = read_conf(f"verbose:2,{entry},interval_ms:5".encode())
    assert (conf, wrong) == (DEFAULT | {"verbose": 2, "interval_ms": 5}, 1)
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
