/* SPDX-License-Identifier: MIT */
/* The state that the shim's own files share.  All other files use shim.h. */
#ifndef PGTC_STATE_H
#define PGTC_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "claim.h"
#include "conf.h"
#include "counts.h"
#include "interval.h"
#include "pgtable_cleanup.h"
#include "units.h"

/*
 * The state that belongs to one address space.  The kernel clears it in the child of
 * a fork: the child has pages of its own, and none of its parent's other threads,
 * one of which may have been draining.
 */
struct shim_state {
	/* The process whose state this is: a child of vfork() uses its parent's. */
	_Atomic int32_t process;
	struct shim_claim draining, listing;
	/* Units noted since the last drain, and the time of the first of them (0: none). */
	_Atomic uint64_t pending, since;
	/* Drains that the threshold causes are 2^backoff times rarer than at first. */
	_Atomic unsigned int backoff;
	struct shim_interval interval;
	struct shim_units units;
	/* Units that a release covered whole, on a kernel that frees their tables. */
	struct shim_units whole;
	_Atomic bool has_whole;
	_Atomic uint64_t counts[SHIM_NR_COUNTS];
	/* Only the thread that drains uses these two arrays. */
	struct shim_run runs[SHIM_RUNS_ROOM];
	struct pgtable_cleanup_range ranges[SHIM_RUNS_ROOM];
};

/* This is NULL until the shim has started. */
extern struct shim_state *shim_own;

static inline void shim_count(enum shim_count count, uint64_t by)
{
	if (by)
		atomic_fetch_add_explicit(&shim_own->counts[count], by,
					  memory_order_relaxed);
}

#endif
