// SPDX-License-Identifier: GPL-2.0
/*
 * Recheck, detach, flush and free the tables that a scan found empty, in as few
 * holds of the mmap lock as other locks and time allow.
 */
#include "reclaim.h"

#include "compat/mm.h"
#include "compat/protocol.h"
#include "hold.h"
#include "locks.h"
#include "tree.h"
#include "verdict.h"
#include "vma.h"

#include <linux/sched.h>

/* This replaces a candidate that the call won't free: no table begins at 1. */
#define GIVEN_UP	1UL

static void give_up_candidate(struct pgtc_call *call, unsigned int i, int err)
{
	if (err == -EBUSY)
		pgtc_skip(call, PGTABLE_CLEANUP_SKIP_CONTENDED);
	else if (err == -ENOSPC)
		pgtc_skip(call, PGTABLE_CLEANUP_SKIP_TOO_MANY_LOCKS);
	else
		pgtc_skip(call, PGTABLE_CLEANUP_SKIP_CHANGED);
	call->candidate[i] = GIVEN_UP;
}

/*
 * Lock the VMAs of candidates from @from on, until time is up, before any rmap lock
 * is taken: VMA locks may not be taken under rmap locks.
 * Return: index of the first that is left for the next hold.
 */
static unsigned int lock_vmas(struct pgtc_call *call, unsigned int from)
{
	unsigned int i, locked = 0;

	for (i = from; i < call->nr_candidates; i++) {
		int err;

		if (call->candidate[i] == GIVEN_UP)
			continue;
		if (locked && pgtc_hold_expired(call))
			break;
		err = pgtc_lock_vmas(call, call->candidate[i]);
		if (err)
			give_up_candidate(call, i, err);
		else
			locked++;
	}
	return i;
}

/*
 * Lock candidates from @from on, until time is up or one must wait for the next
 * hold.  What is locked and not reclaimed has made others wait for nothing.  Those
 * that can't be locked are counted and given up.
 * Return: index of the first that is left for the next hold.
 */
static unsigned int lock_candidates(struct pgtc_call *call, unsigned int from)
{
	unsigned int to = call->nr_candidates, i, locked = 0;

	if (call->hold.writing)
		to = lock_vmas(call, from);
	for (i = from; i < to; i++) {
		int err;

		if (call->candidate[i] == GIVEN_UP)
			continue;
		/* lock_vmas() has looked at the clock for its candidates. */
		if (!call->hold.writing && locked && pgtc_hold_expired(call))
			break;
		err = pgtc_lock_rmap(call, call->candidate[i]);
		if (!err) {
			locked++;
			continue;
		}
		/* Try it again later, when no other candidate is locked. */
		if ((err == -EBUSY || err == -ENOSPC) && locked)
			break;
		give_up_candidate(call, i, err);
	}
	return i;
}

/*
 * Secondary MMUs (KVM, IOMMU SVA) must drop what they derived from the tables.
 * They are told of runs of candidates only: a wide range would zap their mappings
 * of live data in between.  This may sleep, so it comes before the spinlocks.
 */
static void notifiers_begin(struct pgtc_call *call, unsigned int from,
			    unsigned int to)
{
	struct mmu_notifier_range *range;
	unsigned int i = from, run;

	call->nr_notifier = 0;
	if (!mm_has_notifiers(call->mm))
		return;
	while (i < to) {
		unsigned long start = call->candidate[i];

		if (start == GIVEN_UP) {
			i++;
			continue;
		}
		for (run = 1; i + run < to; run++)
			if (call->candidate[i + run] !=
			    start + run * call->span)
				break;
		range = &call->notifier[call->nr_notifier++];
		pgtc_notifier_init(range, call->mm, start,
				   start + run * call->span);
		pgtc_notifier_begin(range);
		i += run;
	}
}

static void notifiers_finish(struct pgtc_call *call)
{
	unsigned int i;

	for (i = 0; i < call->nr_notifier; i++)
		pgtc_notifier_finish(&call->notifier[i]);
}

/*
 * May zero-page entries of this table be dropped?  That takes an exclusive hold:
 * until the flush other CPUs may still read zeros through their TLBs.  If a
 * fault could map a page meanwhile, they would not see what is written to it.
 */
static bool zero_pages_may_go(const struct pgtc_call *call, unsigned long unit)
{
	unsigned long end = unit + PMD_SIZE;
	struct vm_area_struct *vma;

	if (!call->exclusive)
		return false;
	for (vma = pgtc_vma_within(call->mm, unit, end); vma;
	     vma = pgtc_vma_next_within(call->mm, vma, end))
		if (pgtc_vma_keeps_zero_pages(vma) != PGTC_ALLOWED)
			return false;
	return true;
}

/* Zero pages are in no rss counter and no rmap: to clear entries is enough. */
static void drop_zero_pages(struct pgtc_call *call, unsigned long unit,
			    pte_t *table)
{
	unsigned int i;

	for (i = 0; i < PTRS_PER_PTE; i++) {
		if (pte_none(READ_ONCE(table[i])))
			continue;
		ptep_get_and_clear(call->mm, unit + i * PAGE_SIZE, &table[i]);
		call->args.zero_pages_dropped++;
		call->dropped_in_hold++;
	}
}

/*
 * Clear the pmd entry if its table is still empty, or holds nothing but zero
 * pages that may go.  The pmd and pte locks are held: whoever fills an entry
 * holds the latter.
 * Return: PGTC_EMPTY if it was cleared, or the skip reason.
 */
static int clear_pmd_if_empty(struct pgtc_call *call, unsigned long unit,
			      pmd_t *pmd, pmd_t entry, bool zero_pages)
{
	pte_t *table = (pte_t *)pmd_page_vaddr(entry);
	int found = pgtc_classify(table, zero_pages);

	if (found == PGTC_ZERO_PAGES)
		drop_zero_pages(call, unit, table);
	else if (found != PGTC_EMPTY)
		return PGTABLE_CLEANUP_SKIP_REFILLED;
	pmd_clear(pmd);
	return PGTC_EMPTY;
}

/*
 * Take one PTE table out of the tree if it is still empty.
 * Return: PGTC_EMPTY, with the cleared pmd entry in @entry, or the skip reason.
 */
static int detach_pte_table(struct pgtc_call *call, unsigned long unit,
			    pmd_t *entry)
{
	int found = PGTABLE_CLEANUP_SKIP_CHANGED;
	bool zero_pages = zero_pages_may_go(call, unit);
	struct mm_struct *mm = call->mm;
	spinlock_t *pmd_ptl, *pte_ptl;
	unsigned long next;
	pmd_t *pmd;

	pmd = pgtc_find_pmd(mm, unit, &next);
	if (!pmd)
		return found;
	pmd_ptl = pmd_lock(mm, pmd);
	*entry = READ_ONCE(*pmd);
	if (pgtc_pmd_is_table(*entry)) {
		pte_ptl = pte_lockptr(mm, pmd);
		if (pte_ptl == pmd_ptl) {
			found = clear_pmd_if_empty(call, unit, pmd, *entry,
						   zero_pages);
		} else {
			spin_lock_nested(pte_ptl, SINGLE_DEPTH_NESTING);
			found = clear_pmd_if_empty(call, unit, pmd, *entry,
						   zero_pages);
			spin_unlock(pte_ptl);
		}
	}
	spin_unlock(pmd_ptl);
	return found;
}

/*
 * All CPUs, those in lazy TLB mode too, must forget the detached tables before
 * these are freed: their paging-structure caches may still point there.  So
 * freed_tables, the last argument, is true.  Empty tables have no translations:
 * one address in 2 MiB is enough.  Dropped zero pages are flushed page by page.
 */
static void flush_detached(struct pgtc_call *call, unsigned long start,
			   unsigned long end)
{
	unsigned int stride = call->dropped_in_hold ? PAGE_SHIFT : PMD_SHIFT;

	static_call(pgtc_flush_tlb_mm_range)(call->mm, start, end, stride,
					     true);
	call->args.flushes++;
}

/*
 * Detach what is still empty among the locked candidates, until time is up.
 * Return: index of the first that is left for the next hold.
 */
static unsigned int detach_pte_tables(struct pgtc_call *call, unsigned int from,
				      unsigned int to)
{
	unsigned long start = 0, end = 0;
	unsigned int i;

	call->nr_detached = 0;
	call->dropped_in_hold = 0;
	for (i = from; i < to; i++) {
		unsigned long unit = call->candidate[i];
		pmd_t entry;
		int found;

		if (unit == GIVEN_UP)
			continue;
		if (end && (pgtc_hold_expired(call) ||
			    call->dropped_in_hold >= PGTC_MAX_DROPPED_IN_HOLD))
			break;
		found = detach_pte_table(call, unit, &entry);
		if (found != PGTC_EMPTY) {
			pgtc_skip(call, found);
			continue;
		}
		mm_dec_nr_ptes(call->mm);
		call->detached[call->nr_detached++] = pmd_pgtable(entry);
		if (!end)
			start = unit;
		end = unit + PMD_SIZE;
	}
	if (call->nr_detached)
		flush_detached(call, start, end);
	return i;
}

/*
 * Take one PMD or PUD table out of the tree if it is still empty, and hand it to
 * the mmu_gather.  Every walker is locked out but gup_fast() and hardware: the
 * gather deals with them as it does when a process exits.
 * Return: PGTC_EMPTY if it was taken out, or the skip reason.
 */
static int detach_upper_table(struct pgtc_call *call, unsigned long addr,
			      struct mmu_gather *tlb)
{
	struct mm_struct *mm = call->mm;
	int found = PGTABLE_CLEANUP_SKIP_CHANGED;
	struct pgtc_upper upper;
	unsigned long next;

	/* pud_alloc() and pmd_alloc() fill entries under page_table_lock. */
	spin_lock(&mm->page_table_lock);
	if (pgtc_find_upper(mm, call->level, addr, &upper, &next)) {
		found = PGTABLE_CLEANUP_SKIP_REFILLED;
		if (pgtc_upper_empty(&upper)) {
			found = PGTC_EMPTY;
			/* p4d_clear() clears PTI's copy of the pgd too. */
			if (call->level == PGTC_PMD)
				pud_clear(upper.pud);
			else
				p4d_clear(upper.p4d);
		}
	}
	spin_unlock(&mm->page_table_lock);
	if (found == PGTC_EMPTY)
		pgtc_gather_upper(tlb, mm, &upper, addr);
	return found;
}

/* Like detach_pte_tables(), but flush and free the tables as well. */
static unsigned int free_upper_tables(struct pgtc_call *call, unsigned int from,
				      unsigned int to)
{
	unsigned int i, freed = 0;
	struct mmu_gather tlb;

	static_call(pgtc_tlb_gather_mmu)(&tlb, call->mm);
	for (i = from; i < to; i++) {
		int found;

		if (call->candidate[i] == GIVEN_UP)
			continue;
		if (freed && pgtc_hold_expired(call))
			break;
		found = detach_upper_table(call, call->candidate[i], &tlb);
		if (found == PGTC_EMPTY)
			freed++;
		else
			pgtc_skip(call, found);
	}
	static_call(pgtc_tlb_finish_mmu)(&tlb);
	call->args.freed[call->level] += freed;
	call->args.flushes += !!freed;
	return i;
}

static void free_detached(struct pgtc_call *call)
{
	unsigned int i;

	for (i = 0; i < call->nr_detached; i++)
		pgtc_free_pte_table(call->mm, call->detached[i]);
	call->args.freed[PGTC_PTE] += call->nr_detached;
	call->nr_detached = 0;
}

/**
 * pgtc_reclaim() - free the candidates of the scan that are still empty
 * @call: holds no lock; its freed and skipped tables are counted
 *
 * Return: 0, or -EINTR when the caller is being killed.
 */
int pgtc_reclaim(struct pgtc_call *call)
{
	unsigned int from = 0, to;

	while (from < call->nr_candidates) {
		int err = pgtc_hold_to_reclaim(call);

		if (err)
			return err;
		to = lock_candidates(call, from);
		notifiers_begin(call, from, to);
		if (call->level != PGTC_PTE)
			from = free_upper_tables(call, from, to);
		else
			from = detach_pte_tables(call, from, to);
		notifiers_finish(call);
		pgtc_unlock_rmap(call);
		pgtc_hold_end(call);
		free_detached(call);
		cond_resched();
	}
	return 0;
}
