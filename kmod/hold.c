// SPDX-License-Identifier: GPL-2.0
/* One hold of the target's mmap lock, and how long it may last. */
#include "hold.h"

#include "compat/protocol.h"

#include <linux/ktime.h>
#include <linux/mmap_lock.h>

/*
 * Reading the clock takes a twentieth of the time that is spent on a table.  If
 * a few tables more in a hold don't matter, it is read once in eight tables.
 */
#define TABLES_A_CLOCK_READING 8
#define LONG_HOLD_NS (50 * NSEC_PER_USEC)

/* Only SIGKILL ends the wait for the lock. */
static int hold_begin(struct pgtc_call *call, bool writing)
{
	int err = writing ? mmap_write_lock_killable(call->mm) :
			    mmap_read_lock_killable(call->mm);

	if (err)
		return err;
	call->hold = (struct pgtc_hold){
		.writing = writing,
		.start = ktime_get_ns(),
	};
	return 0;
}

/**
 * pgtc_hold_to_scan() - take the mmap lock for reading
 * @call: names the target whose lock is taken
 *
 * Return: 0, or -EINTR when the caller is being killed.
 */
int pgtc_hold_to_scan(struct pgtc_call *call)
{
	return hold_begin(call, false);
}

/**
 * pgtc_hold_to_reclaim() - take the mmap lock for reading or writing, as this
 * kernel and the candidates require
 * @call: names the target whose lock is taken, and the candidates
 *
 * Return: 0, or -EINTR when the caller is being killed.
 */
int pgtc_hold_to_reclaim(struct pgtc_call *call)
{
	return hold_begin(call, PGTC_MMAP_WRITE || call->exclusive);
}

/**
 * pgtc_hold_expired() - has this hold lasted as long as it may?
 * @call: has the hold
 *
 * Call this once for each table.
 */
bool pgtc_hold_expired(struct pgtc_call *call)
{
	u64 bound = call->args.max_hold_ns ?: PGTC_DEFAULT_MAX_HOLD_NS;

	if (bound >= LONG_HOLD_NS &&
	    ++call->hold.nr_asked % TABLES_A_CLOCK_READING)
		return false;
	return ktime_get_ns() - call->hold.start >= bound;
}

/**
 * pgtc_hold_end() - release the mmap lock, and every VMA lock with it
 * @call: has the hold; the length of its longest one is noted
 */
void pgtc_hold_end(struct pgtc_call *call)
{
	u64 held;

	if (call->hold.writing)
		mmap_write_unlock(call->mm);
	else
		mmap_read_unlock(call->mm);
	held = ktime_get_ns() - call->hold.start;
	call->args.longest_hold_ns = max(call->args.longest_hold_ns, held);
}
