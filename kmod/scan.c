// SPDX-License-Identifier: GPL-2.0
/*
 * Find empty tables, under mmap read.  What is found here is a candidate: the
 * reclaim rechecks it under its own locks.
 */
#include "scan.h"

#include "hold.h"
#include "tree.h"
#include "verdict.h"
#include "vma.h"

#include <linux/hugetlb.h>
#include <linux/mmap_lock.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>

/**
 * struct rules - what the VMAs that overlap a unit of 2 MiB ask for
 * @table: the reason to leave its table alone, or PGTC_ALLOWED
 * @zero_pages: the reason to keep a table of zero pages, or PGTC_ALLOWED
 */
struct rules {
	int table;
	int zero_pages;
};

static const struct rules no_rules = { PGTC_ALLOWED, PGTC_ALLOWED };

static void add_rules_of_vma(struct rules *rules,
			     const struct vm_area_struct *vma)
{
	if (rules->table == PGTC_ALLOWED)
		rules->table = pgtc_vma_forbids(vma);
	if (rules->zero_pages == PGTC_ALLOWED)
		rules->zero_pages = pgtc_vma_keeps_zero_pages(vma);
}

static void scan_table(struct pgtc_call *call, pmd_t *pmd, unsigned long unit,
		       const struct rules *rules)
{
	pmd_t entry;
	int found;

	/*
	 * The mmap lock for reading does not keep retract_page_tables() (6.12)
	 * and PT_RECLAIM (7.3) from freeing this table, but RCU does.
	 */
	rcu_read_lock();
	entry = READ_ONCE(*pmd);
	if (!pgtc_pmd_is_table(entry)) {
		rcu_read_unlock();
		return;
	}
	found = pgtc_classify((pte_t *)pmd_page_vaddr(entry),
			      pgtc_drops_zero_pages(call));
	rcu_read_unlock();

	call->args.tables[PGTC_PTE]++;
	if (found == PGTC_ZERO_PAGES && rules->zero_pages != PGTC_ALLOWED)
		found = rules->zero_pages;
	if (found != PGTC_EMPTY && found != PGTC_ZERO_PAGES) {
		pgtc_skip(call, found);
		return;
	}
	call->args.empty[PGTC_PTE]++;
	if (call->args.flags & PGTABLE_CLEANUP_SCAN_ONLY)
		return;
	call->candidate[call->nr_candidates++] = unit;
	if (found == PGTC_ZERO_PAGES)
		call->exclusive = true;
}

static void scan_unit(struct pgtc_call *call, pmd_t *pmd, unsigned long unit,
		      const struct rules *rules)
{
	pmd_t entry = READ_ONCE(*pmd);

	if (pmd_none(entry))
		return;
	if (pgtc_is_huge_zero(entry)) {
		pgtc_skip(call, PGTABLE_CLEANUP_SKIP_HUGE_ZERO);
	} else if (!pmd_present(entry) || pmd_leaf(entry)) {
		pgtc_skip(call, PGTABLE_CLEANUP_SKIP_THP);
	} else if (pmd_bad(entry)) {
		call->args.tables[PGTC_PTE]++;
		pgtc_skip(call, PGTABLE_CLEANUP_SKIP_OTHER);
	} else if (rules->table != PGTC_ALLOWED) {
		call->args.tables[PGTC_PTE]++;
		pgtc_skip(call, rules->table);
	} else {
		scan_table(call, pmd, unit, rules);
	}
}

static unsigned int batch_room(const struct pgtc_call *call)
{
	const struct pgtable_cleanup_args *args = &call->args;
	u64 left = call->level == PGTC_PTE ? PGTC_BATCH : PGTC_UPPER_BATCH;

	if (args->max_tables)
		left = min(left, args->max_tables - pgtc_sum(args->freed));
	return left;
}

/**
 * pgtc_batch_full() - are there as many candidates as are reclaimed at once?
 * @call: its candidates, or under SCAN_ONLY its tables, are counted
 */
bool pgtc_batch_full(const struct pgtc_call *call)
{
	const struct pgtable_cleanup_args *args = &call->args;

	if (args->flags & PGTABLE_CLEANUP_SCAN_ONLY)
		return args->max_tables &&
		       pgtc_sum(args->tables) >= args->max_tables;
	return call->nr_candidates >= batch_room(call);
}

/* Must this hold end?  Enough is found, or others want the lock or the CPU. */
static bool hold_must_end(struct pgtc_call *call)
{
	return pgtc_batch_full(call) || need_resched() ||
	       mmap_lock_is_contended(call->mm) || pgtc_hold_expired(call);
}

/* Scan the units that lie wholly inside one VMA, where they have tables. */
static void scan_inside(struct pgtc_call *call,
			const struct vm_area_struct *vma)
{
	unsigned long end =
		min(ALIGN_DOWN(vma->vm_end, PMD_SIZE), call->walk_end);
	struct rules rules = no_rules;

	add_rules_of_vma(&rules, vma);
	while (call->pos < end) {
		unsigned long next;
		pmd_t *pmd = pgtc_find_pmd(call->mm, call->pos, &next);

		/* next wraps to 0 past the last entry of the top level. */
		if (!next || next > end)
			next = end;
		if (!pmd) {
			call->pos = next;
			if (hold_must_end(call))
				return;
			continue;
		}
		while (call->pos < next) {
			unsigned long unit = call->pos;

			if (pmd_none(READ_ONCE(*pmd))) {
				call->pos =
					min(pgtc_past_none(pmd, unit, PMD_SIZE),
					    next);
				pmd += (call->pos - unit) >> PMD_SHIFT;
				continue;
			}
			scan_unit(call, pmd++, unit, &rules);
			call->pos += PMD_SIZE;
			if (hold_must_end(call))
				return;
		}
	}
}

/* Remember up to where the range has been checked for holes, and count them. */
static void note_mapped(struct pgtc_call *call,
			const struct vm_area_struct *vma)
{
	if (call->mapped_to >= call->range_end)
		return;
	if (vma->vm_start > call->mapped_to)
		call->args.holes++;
	call->mapped_to = max(call->mapped_to, vma->vm_end);
}

/*
 * A call that goes on from where this scan stops assumes that all before is
 * checked for holes.  So a hole that ends just there is counted now.
 */
static void note_mapped_at_stop(struct pgtc_call *call)
{
	const struct vm_area_struct *vma =
		pgtc_vma_within(call->mm, call->pos, call->pos + 1);

	if (vma && call->pos < call->walk_end)
		note_mapped(call, vma);
}

/* Scan a unit that several VMAs share, or that its only VMA does not fill. */
static void scan_shared_unit(struct pgtc_call *call)
{
	unsigned long unit = call->pos, end = unit + PMD_SIZE, next;
	struct rules rules = no_rules;
	struct vm_area_struct *vma;
	pmd_t *pmd;

	for (vma = pgtc_vma_within(call->mm, unit, end); vma;
	     vma = pgtc_vma_next_within(call->mm, vma, end)) {
		note_mapped(call, vma);
		add_rules_of_vma(&rules, vma);
	}
	pmd = pgtc_find_pmd(call->mm, unit, &next);
	if (pmd)
		scan_unit(call, pmd, unit, &rules);
	call->pos += PMD_SIZE;
}

static void skip_hugetlb(struct pgtc_call *call,
			 const struct vm_area_struct *vma)
{
	unsigned long end = min(ALIGN(vma->vm_end, PMD_SIZE), call->walk_end);

	call->args.skipped[PGTABLE_CLEANUP_SKIP_HUGETLB] += (end - call->pos) >>
							    PMD_SHIFT;
	call->pos = end;
}

static void scan_pte_tables(struct pgtc_call *call)
{
	bool look = call->args.levels & PGTABLE_CLEANUP_LEVEL_PTE;

	while (call->pos < call->walk_end) {
		struct vm_area_struct *vma =
			pgtc_vma_within(call->mm, call->pos, call->walk_end);

		if (!vma) {
			call->pos = call->walk_end;
			return;
		}
		call->pos = max(call->pos, ALIGN_DOWN(vma->vm_start, PMD_SIZE));
		note_mapped(call, vma);
		if (!look)
			call->pos = min(vma->vm_end, call->walk_end);
		else if (is_vm_hugetlb_page(vma))
			skip_hugetlb(call, vma);
		else if (call->pos < vma->vm_start ||
			 vma->vm_end - call->pos < PMD_SIZE)
			scan_shared_unit(call);
		else
			scan_inside(call, vma);
		if (hold_must_end(call)) {
			note_mapped_at_stop(call);
			return;
		}
	}
}

/* Does any VMA that overlaps the span at pos forbid that its table is freed? */
static bool span_forbidden(const struct pgtc_call *call)
{
	unsigned long end = call->pos + call->span;
	struct vm_area_struct *vma;

	for (vma = pgtc_vma_within(call->mm, call->pos, end); vma;
	     vma = pgtc_vma_next_within(call->mm, vma, end))
		if (pgtc_vma_forbids_table(vma))
			return true;
	return false;
}

static void scan_upper_table(struct pgtc_call *call,
			     const struct pgtc_upper *upper)
{
	struct pgtable_cleanup_args *args = &call->args;

	args->tables[call->level]++;
	if (!pgtc_upper_empty(upper))
		return;
	args->empty[call->level]++;
	if (span_forbidden(call))
		pgtc_skip(call, PGTABLE_CLEANUP_SKIP_VMA);
	else if (!(args->flags & PGTABLE_CLEANUP_SCAN_ONLY))
		call->candidate[call->nr_candidates++] = call->pos;
}

static void scan_upper_tables(struct pgtc_call *call)
{
	while (call->pos < call->walk_end) {
		struct vm_area_struct *vma =
			pgtc_vma_within(call->mm, call->pos, call->walk_end);
		struct pgtc_upper upper;
		unsigned long next;

		if (!vma) {
			call->pos = call->walk_end;
			return;
		}
		call->pos =
			max(call->pos, ALIGN_DOWN(vma->vm_start, call->span));
		if (pgtc_find_upper(call->mm, call->level, call->pos, &upper,
				    &next))
			scan_upper_table(call, &upper);
		/* next wraps to 0 past the last entry of the top level. */
		call->pos = next ? min(next, call->walk_end) : call->walk_end;
		if (hold_must_end(call))
			return;
	}
}

/**
 * pgtc_batch_begin() - forget the candidates of the batch before
 * @call: its level is set
 */
void pgtc_batch_begin(struct pgtc_call *call)
{
	call->nr_candidates = 0;
	call->exclusive = call->level != PGTC_PTE;
}

/**
 * pgtc_scan() - look for empty tables of one level from the call's position on
 * @call: mmap read lock held; candidates are added, counts and position written
 *
 * The walk goes by VMA and by populated pud, so that its cost follows the
 * number of tables and not the length of the range.
 */
void pgtc_scan(struct pgtc_call *call)
{
	if (call->level == PGTC_PTE)
		scan_pte_tables(call);
	else
		scan_upper_tables(call);
}
