# SPDX-License-Identifier: MIT
"""The reasons for which a page table is left alone."""

from enum import StrEnum


class SkipReason(StrEnum):
    """Why a page table was left alone: the keys of `Result.skipped`.

    Each member is also a plain string, and its docstring explains it::

        result.skipped.get("mapped", 0)
        print(cleanup.SkipReason.THP.__doc__)

    The names are those of `enum pgtable_cleanup_skip` in the module's C header, in its order. They
    fall into three kinds:

    - A PTE table that is not empty counts under `mapped`, `swap`, `migration`, `marker`, `other`,
      `uffd`, `pfnmap`, `ksm_zero` or `locked`.
    - An empty table that a reclaim did not free counts under `contended`, `too_many_locks`,
      `refilled`, `changed` or `vma`.
    - 2 MiB of memory that are mapped without a PTE table count under `thp`, `huge_zero` or
      `hugetlb`. They are no tables, and not among `Result.tables`. The spare tables that huge pages
      keep can't be freed.

    Before Linux 6.6 the zero pages that KSM placed can't be told from others: a table of zero pages
    in mergeable memory counts under `ksm_zero`.
    """

    def __new__(cls, name: str, meaning: str = "") -> "SkipReason":
        """Make a member that is its name, and whose docstring is its meaning."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.__doc__ = meaning
        return member

    MAPPED = "mapped", "The table is in use: at least one entry maps a page."
    SWAP = "swap", "The table maps no page, but holds entries of swapped-out data."
    MIGRATION = "migration", "The table maps no page but one that is being migrated just now."
    MARKER = "marker", "The table holds state alone: guard, userfaultfd or poison markers."
    OTHER = "other", "The table holds another kind of entry, neither a page nor one of the above."
    UFFD = "uffd", "A mapping that userfaultfd watches overlaps the table."
    PFNMAP = "pfnmap", "A mapping of device memory (PFNMAP, MIXEDMAP or IO) overlaps the table."
    CONTENDED = "contended", "Other work held a lock that the module may not wait for: try again."
    TOO_MANY_LOCKS = "too_many_locks", "More mappings share the table than can be locked at a time."
    REFILLED = "refilled", "The table was empty when it was scanned, and in use when it was locked."
    CHANGED = "changed", "The table or the mappings above it changed after the scan."
    VMA = (
        "vma",
        "A hugetlb, userfaultfd or device mapping forbids freeing an empty upper table.",
    )
    THP = "thp", "A transparent huge page maps the 2 MiB; an anonymous one keeps a spare PTE table."
    HUGETLB = "hugetlb", "A hugetlb page maps the 2 MiB."
    KSM_ZERO = "ksm_zero", "The table maps nothing but zero pages, some of them placed by KSM."
    LOCKED = "locked", "The table maps the shared zero page alone, in locked memory (mlock)."
    HUGE_ZERO = "huge_zero", "The huge zero page maps the 2 MiB, and keeps a spare PTE table."
