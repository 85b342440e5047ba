# SPDX-License-Identifier: MIT
"""Experiments: what page tables cost, and what each method of freeing them gives back.

Each experiment is a part (``part.Part``), which ``registry`` finds. ``runner`` measures it on a
kernel at some scale, here or in a guest of the lab, and stores one document (``document``).
``table`` turns a document into a table for people; ``report`` draws pictures and writes a page.

A workload (``workloads/``) is a part that runs in a process of its own (``target``), on a ``stage``
where it halts at every phase while ``measure`` reads its figures from outside and judges its page
tables (``oracle``) by what the kernel exports, never by this project's own scan.
"""
