/* SPDX-License-Identifier: GPL-2.0 */
/* The VMAs that overlap a table, and whether they allow that it is freed. */
#ifndef PGTC_VMA_H
#define PGTC_VMA_H

#include <linux/mm.h>

#include "verdict.h"

int pgtc_vma_forbids(const struct vm_area_struct *vma);
bool pgtc_vma_forbids_table(struct vm_area_struct *vma);
int pgtc_vma_keeps_zero_pages(const struct vm_area_struct *vma);

/*
 * Return the first VMA that overlaps [@addr, @end), or NULL.  vma_find() won't
 * do: on 6.1 its end is inclusive.
 */
static inline struct vm_area_struct *
pgtc_vma_within(struct mm_struct *mm, unsigned long addr, unsigned long end)
{
	struct vm_area_struct *vma = find_vma(mm, addr);

	return vma && vma->vm_start < end ? vma : NULL;
}

/*
 * Return the next VMA after @vma that starts before @end, or NULL.  With
 * pgtc_vma_within() this finds all VMAs that share a table.
 */
static inline struct vm_area_struct *
pgtc_vma_next_within(struct mm_struct *mm, const struct vm_area_struct *vma,
		     unsigned long end)
{
	return vma->vm_end < end ? pgtc_vma_within(mm, vma->vm_end, end) : NULL;
}

/* Does this VMA, which may be NULL, fill [@addr, @end)? */
static inline bool pgtc_vma_covers(const struct vm_area_struct *vma,
				   unsigned long addr, unsigned long end)
{
	return vma && vma->vm_start <= addr && end <= vma->vm_end;
}

#endif /* PGTC_VMA_H */
