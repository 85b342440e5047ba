# SPDX-License-Identifier: MIT
"""The parts of `designs`, one module each; a module takes part by defining `PART`."""
