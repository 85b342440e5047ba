# SPDX-License-Identifier: MIT
"""Experiments that are made of parts, side by side in the same guests.

A `Suite` is a package with a ``parts/``, one file each (`part.Part` says what one is), and
``plots/``, a module for each part that has a plot, which a guest never imports; `registry` finds
it by its `SUITE`.  On the host, `run` boots one guest of the lab for each kind of guest that the
parts need, runs them there by ``python -m experiments.suite``, and merges what they
measured into one document.
"""
