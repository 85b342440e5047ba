// SPDX-License-Identifier: MIT
/* Get out of the way of a seccomp filter. */

#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "filter.h"
#include "interval.h"
#include "shim.h"
#include "start.h"

bool filter_by_prctl(int option, unsigned long mode, unsigned long filter)
{
	return option == PR_SET_SECCOMP &&
	       (mode == SECCOMP_MODE_STRICT ||
		(mode == SECCOMP_MODE_FILTER && filter));
}

bool filter_by_seccomp(unsigned long operation, unsigned long filter)
{
	operation = (unsigned int)operation;
	return operation == SECCOMP_SET_MODE_STRICT ||
	       (operation == SECCOMP_SET_MODE_FILTER && filter);
}

bool filter_before(void)
{
	bool was_on = shim_is_on();

	if (was_on && !shim_is_own_process())
		return false;
	was_on = shim_before_filter();
	/* The library's thread makes calls that the filter may forbid, if only to end. */
	shim_interval_end();
	/* At the program's end the filter may forbid what it takes to print the counts. */
	if (was_on)
		start_print_stats();
	return true;
}

static void go_on(bool set)
{
	shim_after_filter(set);
	shim_interval_begin();
}

void filter_after_prctl(long result)
{
	go_on(!result);
}

void filter_after_seccomp(unsigned long flags, long result)
{
	/*
	 * With NEW_LISTENER the result is a descriptor.  With TSYNC alone it may be
	 * the id of a thread that can't have the filter: then no thread has it.
	 */
	go_on(flags & SECCOMP_FILTER_FLAG_NEW_LISTENER ? result >= 0 : !result);
}
