# SPDX-License-Identifier: MIT
"""Guests that the host tests of a session share, and the options of experiments."""

from collections.abc import Generator, Iterator

import pytest

from cleanup import lab


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose the experiments that are tried in the lab, and their kernel."""
    parser.addoption("--kernel", choices=list(lab.SOURCES), default=lab.DEFAULT)
    parser.addoption("--heaps", action="store_true", help="try experiments on heaps, too")


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Pool]:
    """Yield guests by kernel and machine, each booted when a test first asks for it.

    Guests can write to the tests' temporary directories, so `results` of a command may be there.
    """
    directory = tmp_path_factory.getbasetemp()
    with lab.Pool(visible=[directory], writable=directory) as guests:
        yield guests


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """Skip a test whose fixtures want a kernel that Debian dropped, and say so."""
    return (yield from _skipped_without_kernel())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Skip a test that wants a kernel that Debian dropped, and say so."""
    return (yield from _skipped_without_kernel())


def _skipped_without_kernel() -> Generator[None]:
    try:
        yield
    except lab.KernelNotServed as error:
        pytest.skip(str(error))
