# SPDX-License-Identifier: MIT
"""Values that the commands which run experiments share."""

from functools import partial

from cleanup.commands import _params

DEFAULT_KERNEL = "6.12"
UNIT_BYTES = 2 << 20

# A size of memory to map.
Size = partial(_params.Size, UNIT_BYTES, "one page table maps 2 MiB", UNIT_BYTES)
