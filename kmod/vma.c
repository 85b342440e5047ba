// SPDX-License-Identifier: GPL-2.0
/* The reasons for which a VMA forbids freeing a table that it overlaps. */
#include "vma.h"

#include "compat/mm.h"

#include <linux/fs.h>
#include <linux/hugetlb.h>

/**
 * pgtc_vma_forbids() - does this VMA forbid freeing any table it overlaps?
 * @vma: under the mmap lock
 *
 * hugetlb VMAs are not asked about: they are aligned to 2 MiB at least, and never
 * share a PTE table.
 *
 * Return: the reason, or PGTC_ALLOWED.
 */
int pgtc_vma_forbids(const struct vm_area_struct *vma)
{
	/*
	 * UFFDIO_MOVE (6.8+) finds the table of its target, which is registered,
	 * before it locks that table.  If the table is freed in between, the
	 * move fails on 7.3; on 6.12 it would move a page into the freed table,
	 * were it not for the VMA lock.
	 */
	if (vma->vm_userfaultfd_ctx.ctx)
		return PGTABLE_CLEANUP_SKIP_UFFD;
	/*
	 * A driver fills such a VMA, and may go down the tree by a list of VMAs
	 * of its own, under no lock that we could take: 6.12's BPF arena does so
	 * to zap user memory, in VMAs that only VM_DONTEXPAND tells from others.
	 * Drivers may also keep pointers to the entries, and do_fault() answers
	 * SIGBUS where a VMA without a fault handler has no table.
	 */
	if (vma->vm_flags & VM_SPECIAL)
		return PGTABLE_CLEANUP_SKIP_PFNMAP;
	/*
	 * A DAX fault gets its entry from get_locked_pte(), which makes sure of
	 * a table and then maps it.  On 7.3 the table may vanish in between: the
	 * fault takes that for a lack of memory, and fails.
	 */
	if (vma_is_dax(vma))
		return PGTABLE_CLEANUP_SKIP_PFNMAP;
	return PGTC_ALLOWED;
}

/**
 * pgtc_vma_forbids_table() - pgtc_vma_forbids() for any VMA and any level
 * @vma: under the mmap lock
 *
 * Return: true also for hugetlb, whose PMD tables processes may share.
 */
bool pgtc_vma_forbids_table(struct vm_area_struct *vma)
{
	return is_vm_hugetlb_page(vma) || pgtc_vma_forbids(vma) != PGTC_ALLOWED;
}

/**
 * pgtc_vma_keeps_zero_pages() - do zero-page entries mean something here?
 * @vma: under the mmap lock
 *
 * Return: the reason to keep a table that holds them, or PGTC_ALLOWED.
 */
int pgtc_vma_keeps_zero_pages(const struct vm_area_struct *vma)
{
	/*
	 * Only anonymous memory reads as zero where nothing is mapped: over a
	 * file (UFFDIO_ZEROPAGE on a private memfd) such an entry is data.
	 */
	if (!vma_is_anonymous((struct vm_area_struct *)vma) ||
	    vma->vm_flags & VM_SHARED)
		return PGTABLE_CLEANUP_SKIP_MAPPED;
	/* mlock() promises that no access faults. */
	if (vma->vm_flags & VM_LOCKED)
		return PGTABLE_CLEANUP_SKIP_LOCKED;
	if (pgtc_ksm_may_hide(vma))
		return PGTABLE_CLEANUP_SKIP_KSM_ZERO;
	return PGTC_ALLOWED;
}
