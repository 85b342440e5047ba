# SPDX-License-Identifier: MIT
"""The parts of `reclaim-cost`, one module each; a module takes part by defining `PART`."""
