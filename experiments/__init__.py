# SPDX-License-Identifier: MIT
"""Experiments: what page tables cost, and what each backend gives back.

A workload (``workloads/``, one file each) runs in a process of its own (``target``),
which halts at every phase while ``measure`` reads its figures from outside and judges
its page tables (``oracle``) by what the kernel exports, never by this project's own
scan.  A suite is made of parts instead, which measure by themselves (``suite``).
``plot`` and ``report`` draw.
"""
