// SPDX-License-Identifier: MIT
/* Keep note of units whose pages were released, until a drain takes them. */

#include "units.h"

/* A word holds a unit's number, at most 36 bits of a 57-bit address, and a count; 0 is no run. */
#define COUNT_BITS 28
#define COUNT_MAX ((UINT64_C(1) << COUNT_BITS) - 1)
#define PROBES 16

static uint64_t packed(uint64_t first, uint64_t count)
{
	return first << COUNT_BITS | count;
}

static uint64_t first_of(uint64_t run)
{
	return run >> COUNT_BITS;
}

static uint64_t count_of(uint64_t run)
{
	return run & COUNT_MAX;
}

/* Put neighbours in the address space side by side, to use few cache lines. */
static size_t home_of(uint64_t first)
{
	return (first ^ first >> 10 ^ first >> 20) % SHIM_RUNS_ROOM;
}

int64_t shim_units_mark(struct shim_units *units, uint64_t first,
			uint64_t count)
{
	uint64_t run = packed(first, count < COUNT_MAX ? count : COUNT_MAX);
	size_t i;

	if (!count)
		return 0;
	for (i = 0; i < PROBES; i++) {
		_Atomic uint64_t *slot =
			&units->runs[(home_of(first) + i) % SHIM_RUNS_ROOM];
		uint64_t seen =
			atomic_load_explicit(slot, memory_order_relaxed);

		/* Try while the slot is free, or its run begins like ours. */
		while (!seen || first_of(seen) == first) {
			if (count_of(seen) >= count_of(run))
				return 0;
			if (atomic_compare_exchange_weak(slot, &seen, run))
				return count_of(run) - count_of(seen);
		}
	}
	return -1;
}

/* Sort by Shell's method, in place: qsort() may call malloc(). */
static void sort(uint64_t *runs, size_t nr)
{
	static const size_t gaps[] = { 701, 301, 132, 57, 23, 10, 4, 1 };
	size_t g, i, j;

	for (g = 0; g < sizeof(gaps) / sizeof(*gaps); g++)
		for (i = gaps[g]; i < nr; i++) {
			uint64_t moved = runs[i];

			for (j = i; j >= gaps[g] && runs[j - gaps[g]] > moved;
			     j -= gaps[g])
				runs[j] = runs[j - gaps[g]];
			runs[j] = moved;
		}
}

size_t shim_units_take(struct shim_units *units, struct shim_run *runs)
{
	/* This may be static: only one caller drains at a time. */
	static uint64_t taken[SHIM_RUNS_ROOM];
	size_t i, nr = 0, made = 0;

	for (i = 0; i < SHIM_RUNS_ROOM; i++)
		if (atomic_load_explicit(&units->runs[i],
					 memory_order_relaxed)) {
			uint64_t run = atomic_exchange(&units->runs[i], 0);

			if (run)
				taken[nr++] = run;
		}
	sort(taken, nr);
	for (i = 0; i < nr; i++) {
		struct shim_run *last = made ? &runs[made - 1] : NULL;
		uint64_t first = first_of(taken[i]), count = count_of(taken[i]);

		if (last && first <= last->first + last->count) {
			if (first + count > last->first + last->count)
				last->count = first + count - last->first;
		} else {
			runs[made++] = (struct shim_run){ first, count };
		}
	}
	return made;
}
