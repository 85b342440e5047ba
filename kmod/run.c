// SPDX-License-Identifier: GPL-2.0
/* Run one call: walk its ranges from its cursor on, within its limits. */
#include "run.h"

#include "compat/mm.h"
#include "hold.h"
#include "reclaim.h"
#include "scan.h"

#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

/* How many bytes one table of each level maps. */
static const unsigned long spans[] = {
	[PGTC_PTE] = PMD_SIZE,
	[PGTC_PMD] = PUD_SIZE,
	[PGTC_PUD] = P4D_SIZE,
};

static bool limit_reached(const struct pgtc_call *call)
{
	const struct pgtable_cleanup_args *args = &call->args;
	u64 done = pgtc_sum(args->flags & PGTABLE_CLEANUP_SCAN_ONLY ?
				    args->tables :
				    args->freed);

	return args->max_tables && done >= args->max_tables;
}

/*
 * Have all others gone who used the address space, or has the OOM reaper begun?
 * Then this call must not keep the memory from being freed.
 */
static bool target_gone(const struct pgtc_call *call)
{
	return call->mm != current->mm &&
	       (atomic_read(&call->mm->mm_users) == 1 ||
		pgtc_mm_unstable(call->mm));
}

/*
 * Scan until a batch of candidates is found, in as many holds as it takes.  Where
 * others want the mmap lock a hold ends after one table.  Were that reclaimed at
 * once, each table would have a flush of its own, and interrupt the CPUs of just
 * those others.
 * Return: 0, or an error.
 */
static int scan_batch(struct pgtc_call *call)
{
	pgtc_batch_begin(call);
	do {
		int err;

		if (target_gone(call))
			return -ESRCH;
		err = pgtc_hold_to_scan(call);
		if (err)
			return err;
		pgtc_scan(call);
		pgtc_hold_end(call);
		cond_resched();
	} while (call->pos < call->walk_end && !pgtc_batch_full(call) &&
		 !signal_pending(current));
	return 0;
}

/*
 * Scan up to a batch of candidates, then reclaim them.
 * Return: 0 to go on, 1 to end the call early, or an error.
 */
static int one_batch(struct pgtc_call *call)
{
	int err = scan_batch(call);

	if (err)
		return err;
	err = pgtc_reclaim(call);
	if (err)
		return err;
	cond_resched();
	return signal_pending(current) || limit_reached(call);
}

/* Walk one level of one range.  Return: as one_batch(). */
static int one_walk(struct pgtc_call *call, unsigned long start,
		    unsigned long end, bool holes_count)
{
	struct pgtable_cleanup_args *args = &call->args;
	unsigned long from = args->next_addr ?: start;
	int ret = 0;

	call->level = args->next_level;
	call->span = spans[call->level];
	call->pos = ALIGN_DOWN(from, call->span);
	call->walk_end = ALIGN(end, call->span);
	call->range_end = end;
	/* The walk of the PTE tables counts the holes: it meets every VMA. */
	call->mapped_to = holes_count && call->level == PGTC_PTE ? from : end;
	while (call->pos < call->walk_end && !ret)
		ret = one_batch(call);

	if (call->pos < call->walk_end) {
		/*
		 * A call that goes on from next_addr counts no table or hole
		 * twice: the scan has counted a hole that ends there, if any.
		 */
		args->next_addr = clamp(call->pos, start, end);
		return ret;
	}
	if (call->mapped_to < end)
		args->holes++;
	args->next_level++;
	args->next_addr = 0;
	return ret;
}

static int one_range(struct pgtc_call *call, unsigned long start,
		     unsigned long end, bool holes_count)
{
	struct pgtable_cleanup_args *args = &call->args;
	int ret = 0;

	while (args->next_level < PGTABLE_CLEANUP_NR_LEVELS && !ret) {
		/* The PTE level is never left out: its walk finds the holes. */
		if (start < end && (args->next_level == PGTC_PTE ||
				    args->levels & BIT(args->next_level))) {
			ret = one_walk(call, start, end, holes_count);
		} else {
			args->next_level++;
			/* The caller's cursor may be in a level that is left out. */
			args->next_addr = 0;
		}
	}
	if (args->next_level == PGTABLE_CLEANUP_NR_LEVELS) {
		args->next_range++;
		args->next_level = 0;
	}
	return ret;
}

/* Return the result of a call that has walked everything. */
static int verdict(const struct pgtable_cleanup_args *args)
{
	if (args->holes)
		return -ENOMEM;
	if (args->skipped[PGTABLE_CLEANUP_SKIP_CONTENDED] &&
	    !pgtc_sum(args->freed))
		return -EAGAIN;
	return 0;
}

/**
 * pgtc_run() - walk the ranges from the cursor on
 * @call: target and arguments; counts and cursor are written
 * @ranges: validated, @call->args.nr_ranges of them; unused under WHOLE_MM
 *
 * Return: 0 when done or ended early by a signal or a limit, -ENOMEM, -EAGAIN,
 * -ESRCH, or -EINTR when the caller is being killed.
 */
int pgtc_run(struct pgtc_call *call, const struct pgtable_cleanup_range *ranges)
{
	struct pgtable_cleanup_args *args = &call->args;
	bool whole = args->flags & PGTABLE_CLEANUP_WHOLE_MM;
	u32 nr = whole ? 1 : args->nr_ranges;

	while (args->next_range < nr) {
		unsigned long start = 0, end = call->mm->task_size;
		int ret;

		if (!whole) {
			start = ranges[args->next_range].addr;
			end = start + ranges[args->next_range].len;
		}
		ret = one_range(call, start, end, !whole);
		if (ret < 0)
			return ret;
		if (ret && args->next_range < nr)
			return 0;
	}
	return verdict(args);
}
