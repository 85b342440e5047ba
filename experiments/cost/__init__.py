# SPDX-License-Identifier: MIT
"""The experiment `reclaim-cost`: what freeing tables costs, side by side in one guest.

It is made of parts (``parts/``, one file each; `part.Part` says what one is).  On the
host, `run` boots one guest of the lab for each kind of guest that the parts need, runs
them there by ``python -m cleanup.experiments.cost``, and merges what they measured into
one document.  A part's plot, if it has one, is the module of the same name in ``plots/``,
which a guest never imports.
"""
