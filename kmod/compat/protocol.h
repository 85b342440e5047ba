/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which locks make it safe to take an empty PTE table out of the tree, and how
 * to free it: the part of the protocol that differs by kernel.
 *
 * On every kernel the pmd lock is taken after these locks, and the pte lock
 * after that.  Under both, all 512 entries are checked again.  On every kernel
 * upper tables and zero pages need the mmap lock for writing, to keep every
 * fault out.  A hold that has the mmap lock for writing write-locks each VMA as
 * well: since 6.4 the mmap lock alone keeps nobody out who has a VMA lock.
 */
#ifndef PGTC_COMPAT_PROTOCOL_H
#define PGTC_COMPAT_PROTOCOL_H

#include <linux/version.h>

#include "../symbols.h"
#include "../tree.h"

#include <asm/pgalloc.h>
#include <asm/tlb.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0) && \
	LINUX_VERSION_CODE < KERNEL_VERSION(7, 4, 0)
/*
 * Every walker maps tables under RCU and rechecks the pmd under the pte lock:
 * PT_RECLAIM (6.14) frees under mmap read or a VMA lock, and khugepaged's
 * collapse_pte_mapped_thp() and retract_page_tables() recheck since then.
 * UFFDIO_MOVE answers EINVAL and moves nothing where the table of its source
 * vanishes, whether PT_RECLAIM or this module has freed that.
 */
#define PGTC_MMAP_WRITE	false
#define PGTC_LOCK_I_MMAP false
#define PGTC_LOCK_ANON_VMA false
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0) && \
	LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
/*
 * mmap write: collapse_pte_mapped_thp() clears the pmd under mmap read without
 * a recheck, so both it and this module could free the same table.
 * VMA locks: UFFDIO_MOVE warns where the table of its source vanishes, and that
 * source needn't be registered with userfaultfd.
 * i_mmap write: retract_page_tables() takes pte_lockptr(*pmd) under i_mmap read
 * without looking whether the pmd still points to a table.
 * All other rmap walks are under RCU and tolerate a vanished table.
 */
#define PGTC_MMAP_WRITE true
#define PGTC_LOCK_I_MMAP true
#define PGTC_LOCK_ANON_VMA false
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0) && \
	LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
/*
 * No walker expects a table to vanish.
 * mmap write: faults, smaps and MGLRU use pte_offset_map() without RCU.
 * i_mmap and anon_vma write: the rmap walks (page_vma_mapped_walk()) do, too.
 */
#define PGTC_MMAP_WRITE true
#define PGTC_LOCK_I_MMAP true
#define PGTC_LOCK_ANON_VMA true
#else
#error "only Linux 6.1, 6.12 and 7.3: no other kernel's walkers have been proved"
#endif

/*
 * Free a detached and flushed table once every lockless walker is done with it.
 * An RCU grace period waits for RCU readers (pte_offset_map() since 6.6, faults
 * under a VMA lock) and for gup_fast(), which disables interrupts.  x86's own
 * ___pte_free_tlb() does not wait for RCU before 6.14.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
static inline void pgtc_free_pte_table(struct mm_struct *mm, pgtable_t table)
{
	static_call(pgtc_pte_free_defer)(mm, table);
}
#else
static inline void pgtc_free_pte_table_rcu(struct rcu_head *head)
{
	pte_free(NULL, container_of(head, struct page, rcu_head));
}

static inline void pgtc_free_pte_table(struct mm_struct *mm, pgtable_t table)
{
	call_rcu(&table->rcu_head, pgtc_free_pte_table_rcu);
}
#endif

/*
 * Queue a detached PMD or PUD table in the gather, as free_pgtables() does.  The
 * gather flushes, and waits for gup_fast() by IPI or RCU, whichever this kernel
 * relies on.
 */
static inline void pgtc_gather_upper(struct mmu_gather *tlb,
				     struct mm_struct *mm,
				     const struct pgtc_upper *upper,
				     unsigned long addr)
{
	tlb->freed_tables = 1;
	if (upper->level == PGTC_PMD) {
		tlb_flush_pud_range(tlb, addr, PAGE_SIZE);
		static_call(pgtc_pmd_free_tlb)(tlb, upper->pmd_table);
		mm_dec_nr_pmds(mm);
	} else {
		tlb_flush_p4d_range(tlb, addr, PAGE_SIZE);
		static_call(pgtc_pud_free_tlb)(tlb, upper->pud_table);
		mm_dec_nr_puds(mm);
	}
}

#endif /* PGTC_COMPAT_PROTOCOL_H */
