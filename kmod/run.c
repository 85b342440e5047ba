// SPDX-License-Identifier: GPL-2.0
/* One call: its ranges, its cursor, its limits. */
#include "internal.h"

#include "compat/mm.h"

#include <linux/ktime.h>
#include <linux/mmap_lock.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

/** pgtc_hold_begin() - the target's mmap lock has just been taken */
void pgtc_hold_begin(struct pgtc_call *call)
{
	call->hold_start = ktime_get_ns();
	call->clock_turn = 0;
}

/*
 * Reading the clock costs as much as a twentieth of a table: where a few tables
 * more don't matter, it is read for some of them only.
 */
#define TABLES_A_CLOCK_READING 8
#define LONG_HOLD_NS (50 * NSEC_PER_USEC)

/**
 * pgtc_hold_expired() - has this hold done its time?
 * @call: asked once a table
 */
bool pgtc_hold_expired(struct pgtc_call *call)
{
	u64 bound = call->args.max_hold_ns ?: PGTC_DEFAULT_MAX_HOLD_NS;

	if (bound >= LONG_HOLD_NS &&
	    ++call->clock_turn % TABLES_A_CLOCK_READING)
		return false;
	return ktime_get_ns() - call->hold_start >= bound;
}

/** pgtc_hold_end() - the target's mmap lock has just been released */
void pgtc_hold_end(struct pgtc_call *call)
{
	u64 held = ktime_get_ns() - call->hold_start;

	call->args.longest_hold_ns = max(call->args.longest_hold_ns, held);
}

/* What one table of each level maps. */
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
 * All others who used the address space have gone: go too, so that its memory
 * does not wait for us.
 */
static bool target_gone(const struct pgtc_call *call)
{
	return call->mm != current->mm &&
	       (atomic_read(&call->mm->mm_users) == 1 ||
		pgtc_mm_unstable(call->mm));
}

/*
 * Scan up to a batch of candidates, then reclaim them.
 * Return: 0 to go on, 1 to end the call early, or an error.
 */
static int one_batch(struct pgtc_call *call)
{
	int err;

	if (target_gone(call))
		return -ESRCH;
	if (mmap_read_lock_killable(call->mm))
		return -EINTR;
	pgtc_hold_begin(call);
	pgtc_scan(call);
	mmap_read_unlock(call->mm);
	pgtc_hold_end(call);

	err = pgtc_reclaim(call);
	if (err)
		return err;
	cond_resched();
	return signal_pending(current) || limit_reached(call);
}

/* One level of one range.  Return: as one_batch(). */
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
	/* The walk of the PTE tables is the one that meets every VMA. */
	call->mapped_to = holes_count && call->level == PGTC_PTE ? from : end;
	while (call->pos < call->walk_end && !ret)
		ret = one_batch(call);

	if (call->pos < call->walk_end) {
		/*
		 * Where nothing is looked at nor checked for holes twice: holes
		 * are known up to the VMA that made us stop at pos.
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
		/* The first walk also looks for holes. */
		if (start < end && (args->next_level == PGTC_PTE ||
				    args->levels & BIT(args->next_level))) {
			ret = one_walk(call, start, end, holes_count);
		} else {
			args->next_level++;
			/* A caller's cursor may be there: it ends with its range. */
			args->next_addr = 0;
		}
	}
	if (args->next_level == PGTABLE_CLEANUP_NR_LEVELS) {
		args->next_range++;
		args->next_level = 0;
	}
	return ret;
}

/* The call has walked everything: what is there to tell? */
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
