// SPDX-License-Identifier: GPL-2.0
/*
 * Recheck, detach, flush, free: the candidates of one scan, in as few holds of
 * the mmap lock as locks and time allow.
 */
#include "internal.h"

#include "compat/mm.h"
#include "compat/protocol.h"

#include <linux/sched.h>
#include <linux/sched/signal.h>

/* In place of a candidate that this call won't free. Not a 2 MiB address. */
#define STRUCK_OUT	1UL

/*
 * Lock candidates from @from on, until one must wait for the next hold; those
 * that can't be had are counted and struck out.
 * Return: index of the first that was left for the next hold.
 */
static unsigned int lock_candidates(struct pgtc_call *call, unsigned int from)
{
	unsigned int i, locked = 0;

	for (i = from; i < call->nr_candidates; i++) {
		int err = pgtc_lock_unit(call, call->candidate[i]);

		if (!err) {
			locked++;
			continue;
		}
		/* Alone in a hold of its own it may still be had. */
		if ((err == -EBUSY || err == -ENOSPC) && locked)
			break;
		if (err == -EBUSY)
			pgtc_skip(call, PGTABLE_CLEANUP_SKIP_CONTENDED);
		else if (err == -ENOSPC)
			pgtc_skip(call, PGTABLE_CLEANUP_SKIP_TOO_MANY_LOCKS);
		else
			pgtc_skip(call, PGTABLE_CLEANUP_SKIP_CHANGED);
		call->candidate[i] = STRUCK_OUT;
	}
	return i;
}

/*
 * Secondary MMUs (KVM, IOMMU SVA) must drop what they derived from the tables.
 * On runs of candidates only: a wide range would zap their mappings of live
 * data in between.  May sleep, hence before the spinlocks.
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

		if (start == STRUCK_OUT) {
			i++;
			continue;
		}
		for (run = 1; i + run < to; run++)
			if (call->candidate[i + run] != start + run * PMD_SIZE)
				break;
		range = &call->notifier[call->nr_notifier++];
		pgtc_notifier_init(range, call->mm, start,
				   start + run * PMD_SIZE);
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

/* Under the pmd and pte locks: whoever fills an entry holds the latter. */
static int clear_if_empty(pmd_t *pmd, pmd_t entry)
{
	int found = pgtc_classify((pte_t *)pmd_page_vaddr(entry));

	if (found == PGTC_EMPTY)
		pmd_clear(pmd);
	else
		found = PGTABLE_CLEANUP_SKIP_REFILLED;
	return found;
}

/*
 * Take one table out of the tree if it is still empty.
 * Return: PGTC_EMPTY if it was, with the pmd entry in @entry; or why not.
 */
static int detach(struct mm_struct *mm, unsigned long unit, pmd_t *entry)
{
	int found = PGTABLE_CLEANUP_SKIP_CHANGED;
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
			found = clear_if_empty(pmd, *entry);
		} else {
			spin_lock_nested(pte_ptl, SINGLE_DEPTH_NESTING);
			found = clear_if_empty(pmd, *entry);
			spin_unlock(pte_ptl);
		}
	}
	spin_unlock(pmd_ptl);
	return found;
}

/*
 * CPUs, lazy ones too, must forget the detached tables before those are freed:
 * their paging-structure caches may still point there, hence freed_tables.
 */
static void flush(struct pgtc_call *call, unsigned long start,
		  unsigned long end)
{
	static_call(pgtc_flush_tlb_mm_range)(call->mm, start, end, PMD_SHIFT,
					     true);
	call->args.flushes++;
}

/*
 * Detach what is still empty among the locked candidates, until time is up.
 * Return: index of the first that was left for the next hold.
 */
static unsigned int detach_candidates(struct pgtc_call *call, unsigned int from,
				      unsigned int to)
{
	unsigned long start = 0, end = 0;
	unsigned int i;

	call->nr_detached = 0;
	for (i = from; i < to; i++) {
		unsigned long unit = call->candidate[i];
		pmd_t entry;
		int found;

		if (unit == STRUCK_OUT)
			continue;
		if (end && pgtc_hold_expired(call))
			break;
		found = detach(call->mm, unit, &entry);
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
		flush(call, start, end);
	return i;
}

static void free_detached(struct pgtc_call *call)
{
	unsigned int i;

	for (i = 0; i < call->nr_detached; i++)
		pgtc_free_pte_table(call->mm, call->detached[i]);
	call->args.freed[PGTC_PTE] += call->nr_detached;
}

/**
 * pgtc_reclaim() - free the candidates of the scan that are still empty
 * @call: no lock held
 *
 * Return: 0, or -EINTR when the caller is being killed.
 */
int pgtc_reclaim(struct pgtc_call *call)
{
	unsigned int from = 0, to;

	while (from < call->nr_candidates) {
		if (pgtc_mmap_lock_killable(call->mm))
			return -EINTR;
		pgtc_hold_begin(call);
		to = lock_candidates(call, from);
		notifiers_begin(call, from, to);
		from = detach_candidates(call, from, to);
		notifiers_finish(call);
		pgtc_unlock_all(call);
		pgtc_mmap_unlock(call->mm);
		pgtc_hold_end(call);
		free_detached(call);
		cond_resched();
	}
	return 0;
}
