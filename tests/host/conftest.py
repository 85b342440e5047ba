# SPDX-License-Identifier: MIT
"""The guests that the tests of a session share."""

from collections.abc import Iterator

import pytest

from cleanup import lab


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Pool]:
    """Guests by kernel and machine, each booted when a test first asks for it.

    They can write to the tests' temporary directories, which can be `results`.
    """
    directory = tmp_path_factory.getbasetemp()
    with lab.Pool(visible=[directory], writable=directory) as guests:
        yield guests
