# SPDX-License-Identifier: MIT
"""The parts of `allocators`, one module each; a module takes part by defining `PART`."""
