# SPDX-License-Identifier: MIT
"""The experiment `reclaim-cost`: what freeing tables costs, side by side in one guest."""
