# SPDX-License-Identifier: MIT
"""The mutations: edits of the module's source that each switch one protection off."""

from collections.abc import Sequence
from dataclasses import dataclass

from cleanup.lab import SOURCES

ALL = tuple(SOURCES)


@dataclass(frozen=True)
class Edit:
    """Text that occurs exactly once in a file of kmod/, and what stands there instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """One protection of the module switched off, and the scenario that must notice.

    `scenario` is the test below scenarios/ that must fail then, and must pass otherwise;
    `kernels` are those on which the protection matters; `elsewhere` says why not on others.
    """

    name: str
    edits: Sequence[Edit]
    scenario: str
    kernels: Sequence[str] = ALL
    elsewhere: str = ""


# With this edit PTE tables are freed under the mmap lock for reading, except to drop zero pages.
# Upper tables are still freed under it for writing.
FOR_READING = [
    Edit(
        "hold.c",
        "hold_begin(call, PGTC_MMAP_WRITE || call->exclusive)",
        "hold_begin(call, call->exclusive)",
    )
]
# With this edit, freeing PTE tables takes no VMA locks, except to drop zero pages.  That matters
# only on a kernel where freeing PTE tables takes the mmap lock for writing.
NO_VMA_LOCKS_FOR_PTE_TABLES = Edit(
    "reclaim.c",
    "if (call->hold.writing)\n\t\tto = lock_vmas(call, from);",
    "if (call->exclusive)\n\t\tto = lock_vmas(call, from);",
)

NO_USERFAULTFD_SKIP = Edit("vma.c", "if (vma->vm_userfaultfd_ctx.ctx)", "if (false)")

MUTATIONS = (
    Mutation(
        "mmap write lock against smaps",
        FOR_READING,
        "upstream.smaps_pte_range_walks_without_rcu",
        kernels=("6.1",),
        elsewhere="since 6.6 walks that hold the mmap lock for reading are under RCU as well",
    ),
    Mutation(
        "mmap write lock against MADV_COLLAPSE",
        FOR_READING,
        "collapse.of_a_file",
        kernels=("6.12",),
        elsewhere="6.1 needs it for smaps already; 7.3 needs the mmap lock for reading only",
    ),
    Mutation(
        "mmap write lock, upper levels",
        [
            Edit(
                "hold.c",
                "hold_begin(call, PGTC_MMAP_WRITE || call->exclusive)",
                "hold_begin(call, false)",
            )
        ],
        "faults.no_write_is_lost_below_an_upper_table",
    ),
    Mutation(
        "VMA locks",
        [
            Edit(
                "reclaim.c",
                "if (call->hold.writing)\n\t\tto = lock_vmas(call, from);",
                "",
            )
        ],
        "faults.no_write_is_lost_below_an_upper_table",
        kernels=("6.12", "7.3"),
        elsewhere="6.4 brought VMA locks",
    ),
    Mutation(
        "VMA locks, PTE tables",
        [NO_VMA_LOCKS_FOR_PTE_TABLES],
        "userfaultfd_move.table_of_the_source_stays",
        kernels=("6.12",),
        elsewhere="6.8 brought UFFDIO_MOVE, and 7.3's tolerates that the table of its source goes",
    ),
    Mutation(
        "anon_vma lock",
        [Edit("locks.c", "(upper || PGTC_LOCK_ANON_VMA) && vma->anon_vma", "false")],
        "rmap.anonymous",
    ),
    Mutation(
        "i_mmap lock",
        [Edit("locks.c", "(upper || PGTC_LOCK_I_MMAP) && vma->vm_file", "false")],
        "rmap.file",
    ),
    Mutation(
        "locks of every VMA",
        [
            Edit(
                "locks.c",
                "vma = pgtc_vma_next_within(call->mm, vma, end)) {\n"
                "\t\tif (pgtc_vma_forbids_table(vma))",
                "vma = NULL) {\n\t\tif (pgtc_vma_forbids_table(vma))",
            )
        ],
        "rmap.second_vma_of_a_table",
    ),
    Mutation(
        "recheck under the pte lock",
        [
            Edit(
                "reclaim.c",
                "else if (found != PGTC_EMPTY)\n\t\treturn PGTABLE_CLEANUP_SKIP_REFILLED;",
                "",
            )
        ],
        "faults.no_write_is_lost",
    ),
    Mutation(
        "freeing after RCU",
        [
            # Call pte_free_now() directly; pte_free_defer() has RCU call it after a grace period.
            Edit(
                "compat/unexported.c",
                "\treturn PGTC_FIND(pgtc_pte_free_defer, pte_free_defer);\n",
                '\tunsigned long addr = pgtc_find_symbol("pte_free_now");\n\n'
                "\tif (addr)\n\t\tstatic_call_update(pgtc_pte_free_defer,\n"
                "\t\t\t\t   (typeof(pte_free_defer) *)addr);\n"
                "\treturn addr != 0;\n",
            ),
            Edit(
                "compat/protocol.h",
                "static_call(pgtc_pte_free_defer)(mm, table);",
                "static_call(pgtc_pte_free_defer)((void *)&table->rcu_head, NULL);",
            ),
        ],
        "rmap.table_stays_for_who_has_seen_it",
        kernels=("6.12", "7.3"),
        elsewhere="on 6.1 whoever walks holds a lock or disables interrupts, and the flush waits "
        "for the latter",
    ),
    Mutation(
        "userfaultfd skip",
        [NO_USERFAULTFD_SKIP],
        "userfaultfd_move.table_of_the_target_stays",
        kernels=("7.3",),
        elsewhere="6.8 brought UFFDIO_MOVE, and VMA locks keep 6.12's out as well",
    ),
    Mutation(
        "userfaultfd skip, and VMA locks of PTE tables",
        [NO_USERFAULTFD_SKIP, NO_VMA_LOCKS_FOR_PTE_TABLES],
        "userfaultfd_move.moved_page_arrives",
        kernels=("6.12",),
        elsewhere="6.8 brought UFFDIO_MOVE, and 7.3's looks at the pmd again",
    ),
    Mutation(
        "hugetlb skip",
        # A hugetlb VMA is VM_DONTEXPAND, too, which alone would keep its tables.
        [
            Edit(
                "vma.c",
                "is_vm_hugetlb_page(vma) || pgtc_vma_forbids",
                "!is_vm_hugetlb_page(vma) && pgtc_vma_forbids",
            )
        ],
        "shared_hugetlb.table_of_another_process_stays",
    ),
    Mutation(
        "mmu notifiers",
        [Edit("reclaim.c", "if (!mm_has_notifiers(call->mm))", "if (true)")],
        "notifier.sees_what_is_written_after",
    ),
    Mutation(
        "flush of dropped zero pages",
        [Edit("reclaim.c", "call->dropped_in_hold ? PAGE_SHIFT : PMD_SHIFT", "PMD_SHIFT")],
        "zero_pages.no_stale_zero_is_read",
    ),
    Mutation(
        "flush of zero pages before a fault",
        [
            Edit(
                "reclaim.c",
                "if (call->nr_detached)\n\t\tflush_detached(call, start, end);\n",
                "(void)start;\n",
            ),
            Edit(
                "reclaim.c",
                "\t\tfree_detached(call);\n",
                "\t\tif (call->nr_detached)\n\t\t\tflush_detached(call, 0, TLB_FLUSH_ALL);\n"
                "\t\tfree_detached(call);\n",
            ),
        ],
        "zero_pages.nothing_is_mapped_before_the_flush",
    ),
    Mutation(
        "pin of the mm",
        [
            Edit(
                "device.c",
                "err = pgtc_run(call, ranges);",
                "mmput(call->mm);\n\terr = pgtc_run(call, ranges);",
            ),
            Edit(
                "device.c",
                "put_mm:\n\tmmput(call->mm);\nfree_ranges:",
                "\tgoto free_ranges;\nput_mm:\n\tmmput(call->mm);\nfree_ranges:",
            ),
            Edit("run.c", "atomic_read(&call->mm->mm_users) == 1 ||", ""),
        ],
        "exits.may_come_any_time",
    ),
    Mutation(
        "rcu_barrier at unload",
        [Edit("device.c", "rcu_barrier();", "")],
        "unload.right_after_a_reclaim",
        kernels=("6.1",),
        elsewhere="the kernel's own callback frees the tables since 6.6",
    ),
)
