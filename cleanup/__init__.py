# SPDX-License-Identifier: MIT
"""Give back the memory of empty page tables."""
