// SPDX-License-Identifier: MIT
/* Decide when to call the module for what was released, and call it for all of it at once. */

#include <errno.h>
#include <time.h>

#include "clock.h"
#include "device.h"
#include "kernel.h"
#include "maps.h"
#include "paging.h"
#include "shim.h"
#include "state.h"
#include "syscalls.h"

/* Drains get rarer while they free fewer tables than this for a hundred units. */
#define LOW_YIELD 5
#define BACKOFF_MAX 6

/*
 * Kernels take addresses with a tag in the top byte: on aarch64, and on x86-64 with linear
 * address masking.  The tag is no part of the address.
 */
#define ADDRESS_MASK (UINTPTR_MAX >> 8)

/*
 * Return the time, coarsely.  Each release asks for it, so it must cost next to nothing.
 * clock_gettime() is in the vdso: it makes no system call, and takes no lock.
 */
static uint64_t cheap_time(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
	return time.tv_sec * NSEC_PER_SEC + time.tv_nsec;
}

/*
 * Note the units from @first up to @end, which is not noted itself.
 * @counts_now: whether the units bring the threshold nearer
 */
static void note(uint64_t first, uint64_t end, bool counts_now)
{
	int64_t fresh;

	if (first >= end)
		return;
	fresh = shim_units_mark(&shim_own->units, first, end - first);
	if (fresh < 0) {
		/* The table of runs is full: a drain makes room in it. */
		shim_drain();
		fresh = shim_units_mark(&shim_own->units, first, end - first);
	}
	if (fresh < 0) {
		shim_count(SHIM_COUNT_lost, 1);
		return;
	}
	shim_count(SHIM_COUNT_units, fresh);
	if (counts_now)
		atomic_fetch_add_explicit(&shim_own->pending, fresh,
					  memory_order_relaxed);
}

void shim_drain_if_due(void)
{
	uint64_t units, begun, time;
	unsigned int rarer;

	if (!shim_is_on())
		return;
	units = atomic_load_explicit(&shim_own->pending, memory_order_relaxed);
	if (!units &&
	    !atomic_load_explicit(&shim_own->has_whole, memory_order_relaxed))
		return;
	rarer = atomic_load_explicit(&shim_own->backoff, memory_order_relaxed);
	if (units >> rarer >= shim_conf()->threshold) {
		shim_drain();
		return;
	}
	if (shim_conf()->thread &&
	    !atomic_load_explicit(&shim_own->interval.thread,
				  memory_order_relaxed))
		shim_interval_begin();
	time = cheap_time();
	begun = atomic_load_explicit(&shim_own->since, memory_order_relaxed);
	if (!begun)
		atomic_compare_exchange_strong(&shim_own->since, &begun, time);
	else if (time - begun >= shim_conf()->interval_ms * NSEC_PER_MSEC)
		shim_drain();
}

/*
 * Remember units that MADV_DONTNEED released whole.  The kernel frees their tables, but
 * it goes mapping by mapping, so the table of a unit that two mappings share stays.
 * The next drain finds out which units are shared.
 */
static void remember_whole(uint64_t first, uint64_t end)
{
	if (shim_units_mark(&shim_own->whole, first, end - first) < 0) {
		shim_drain();
		shim_units_mark(&shim_own->whole, first, end - first);
	}
	if (!atomic_load_explicit(&shim_own->has_whole, memory_order_relaxed))
		atomic_store(&shim_own->has_whole, true);
}

/* Note those remembered units that two mappings share. */
static void note_shared(void)
{
	struct shim_maps maps;
	size_t nr, i;

	if (!atomic_exchange(&shim_own->has_whole, false))
		return;
	maps = shim_maps_open();
	nr = shim_units_take(&shim_own->whole, shim_own->runs);
	for (i = 0; i < nr; i++) {
		uint64_t first = shim_own->runs[i].first;
		uint64_t at = first << SHIM_UNIT_SHIFT;
		uint64_t to = (first + shim_own->runs[i].count)
			      << SHIM_UNIT_SHIFT;

		while ((at = shim_maps_border(&maps, at, to)) < to) {
			uint64_t unit = at >> SHIM_UNIT_SHIFT;

			if (at & (SHIM_UNIT_SIZE - 1))
				note(unit, unit + 1, true);
		}
	}
	shim_maps_close(&maps);
}

void shim_released(const void *addr, size_t length, enum shim_release what)
{
	uintptr_t from = (uintptr_t)addr & ADDRESS_MASK;
	uintptr_t to = (from + length + SHIM_PAGE_SIZE - 1) & -SHIM_PAGE_SIZE;
	uint64_t first = from >> SHIM_UNIT_SHIFT;
	uint64_t end = (to + SHIM_UNIT_SIZE - 1) >> SHIM_UNIT_SHIFT;
	/* inner_first to inner_end are the units that lie entirely in the range. */
	uint64_t inner_first = (from + SHIM_UNIT_SIZE - 1) >> SHIM_UNIT_SHIFT;
	uint64_t inner_end = to >> SHIM_UNIT_SHIFT;

	if (!length || !shim_is_on())
		return;
	shim_count(SHIM_COUNT_notes, 1);
	if (inner_first < inner_end &&
	    (what == SHIM_MAPPING ||
	     (what == SHIM_PAGES_AND_TABLES && shim_kernel_frees_units()))) {
		note(first, inner_first, true);
		note(inner_end, end, true);
		/* munmap() does free the table of a unit that two mappings shared. */
		if (what == SHIM_PAGES_AND_TABLES)
			remember_whole(inner_first, inner_end);
	} else {
		note(first, end, what != SHIM_LATER);
	}
	shim_drain_if_due();
}

/*
 * Have the threshold cause drains more rarely after a drain that freed little, and
 * more often again after one that freed more.  Drains that the interval causes are
 * rare anyway.  They stay as frequent as they are, and free what the others left.
 */
static void adapt(uint64_t tried, uint64_t freed)
{
	unsigned int rarer = atomic_load(&shim_own->backoff);

	if (freed * 100 < tried * LOW_YIELD)
		rarer += rarer < BACKOFF_MAX;
	else
		rarer -= rarer > 0;
	atomic_store(&shim_own->backoff, rarer);
}

/* Call the module for some ranges.  Return: false if that stopped the shim. */
static bool clean(struct pgtable_cleanup_range *ranges, unsigned int nr,
		  uint64_t tried)
{
	struct pgtable_cleanup_args args = {
		.flags = shim_conf()->zero_pages ? PGTABLE_CLEANUP_ZERO_PAGES :
						   0,
		.levels = PGTABLE_CLEANUP_LEVEL_PTE |
			  PGTABLE_CLEANUP_LEVEL_PMD | PGTABLE_CLEANUP_LEVEL_PUD,
		.nr_ranges = nr,
		.ranges = (uintptr_t)ranges,
	};
	unsigned int i;
	long err;

	if (shim_conf()->backend == SHIM_BACKEND_NULL) {
		/* backend:null makes a system call that does nothing in place of the ioctl. */
		shim_syscall0(__NR_getppid);
		return true;
	}
	err = shim_device_call(&args);
	if (err && err != -ENOMEM && err != -EAGAIN) {
		shim_stop(err == -ENODEV ? PGTABLE_CLEANUP_DEVICE
				  " was closed, and can't be opened again" :
					   "the module refuses");
		return false;
	}
	for (i = 0; i < PGTABLE_CLEANUP_NR_LEVELS; i++)
		shim_count(SHIM_COUNT_freed_pte + i, args.freed[i]);
	shim_count(SHIM_COUNT_zero_pages_dropped, args.zero_pages_dropped);
	shim_count(SHIM_COUNT_contended, err == -EAGAIN);
	/* While others hold the locks, few tables are freed, however many are empty. */
	if (err != -EAGAIN)
		adapt(tried, args.freed[0]);
	return true;
}

static void drain(void)
{
	uint64_t tried = 0, begun = shim_clock(CLOCK_MONOTONIC);
	size_t nr, i;

	_Static_assert(SHIM_RUNS_ROOM <= PGTABLE_CLEANUP_MAX_RANGES,
		       "one call takes them all");
	note_shared();
	/* Reset pending and since first: units noted from now on count for the next drain. */
	atomic_store(&shim_own->pending, 0);
	atomic_store(&shim_own->since, 0);
	nr = shim_units_take(&shim_own->units, shim_own->runs);
	if (!nr)
		return;
	for (i = 0; i < nr; i++) {
		shim_own->ranges[i].addr = shim_own->runs[i].first
					   << SHIM_UNIT_SHIFT;
		shim_own->ranges[i].len = shim_own->runs[i].count
					  << SHIM_UNIT_SHIFT;
		tried += shim_own->runs[i].count;
	}
	if (clean(shim_own->ranges, nr, tried)) {
		shim_count(SHIM_COUNT_drains, 1);
		shim_count(SHIM_COUNT_tried, tried);
	}
	shim_count(SHIM_COUNT_ns, shim_clock(CLOCK_MONOTONIC) - begun);
}

void shim_drain(void)
{
	uint64_t ticket;

	if (!shim_is_on() || !shim_is_own_process())
		return;
	ticket = shim_claim_take(&shim_own->draining);
	if (!ticket)
		return;
	/* Look again: the shim may have been switched off before the claim was taken. */
	if (shim_is_on()) {
		if (shim_conf()->backend == SHIM_BACKEND_MODULE)
			shim_kernel_probe();
		drain();
	}
	shim_claim_drop(&shim_own->draining, ticket);
}
