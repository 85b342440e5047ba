# SPDX-License-Identifier: MIT
from typing import Any

from numpy import int32, uint8, uint64
from numpy.typing import NDArray

def make_calls(
    calls: NDArray[Any],
    images: NDArray[uint8],
    after: NDArray[uint8],
    errnos: NDArray[int32],
    stage_end: int,
    read_only: int,
    empties: NDArray[uint64],
    zeros: NDArray[uint64],
    shared: NDArray[uint64],
) -> int: ...
def rearm(empties: NDArray[uint64], zeros: NDArray[uint64]) -> None: ...
def flip_beside(shared: NDArray[uint64]) -> None: ...
def stop_flipping(shared: NDArray[uint64]) -> None: ...
def page_sums(memory: int, pages: NDArray[uint64]) -> bytes: ...
