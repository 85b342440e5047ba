// SPDX-License-Identifier: MIT
/* Deferred, batched calls of the module for memory that a program released. */

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "device.h"
#include "kernel.h"
#include "shim.h"
#include "syscalls.h"
#include "text.h"
#include "units.h"

#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_SEC UINT64_C(1000000000)

/* Drains get rarer while they free fewer tables than this for a hundred units. */
#define LOW_YIELD 5
#define BACKOFF_MAX 6

#define PAGE_MASK 4095UL

static struct shim_conf conf = SHIM_CONF_DEFAULT;
static _Atomic bool on;

/*
 * The state that belongs to one address space.  The kernel clears it in the child of
 * a fork: the child has pages of its own, and none of its parent's other threads,
 * one of which may have been draining.
 */
static struct process {
	_Atomic bool draining;
	/* Units noted since the last drain, and the time of the first of them (0: none). */
	_Atomic uint64_t pending, since;
	/* Drains that the threshold causes are 2^backoff times rarer than at first. */
	_Atomic unsigned int backoff;
	struct shim_units units;
	struct {
		_Atomic uint64_t notes, units, lost, drains, tried, freed[3];
		_Atomic uint64_t zero_pages_dropped, contended, ns;
	} counts;
	/* Only the thread that drains uses these two arrays. */
	struct shim_run runs[SHIM_RUNS_ROOM];
	struct pgtable_cleanup_range ranges[SHIM_RUNS_ROOM];
} *own;

static void say_stopped(const char *why)
{
	struct shim_text text = { 0 };

	if (!conf.verbose)
		return;
	shim_text_add(&text, why);
	shim_text_add(&text, conf.hooks == SHIM_HOOKS_JEMALLOC ?
				     "; that leaves jemalloc's hooks" :
				     "; empty page tables stay where they are");
	shim_text_say(&text);
}

static void count(_Atomic uint64_t *counter, uint64_t by)
{
	if (by)
		atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

/* clock_gettime() is in the vdso: it takes no lock, and costs next to nothing. */
static uint64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * NSEC_PER_SEC + time.tv_nsec;
}

/* Make the state of this address space.  Return: whether that worked. */
static bool make_process(void)
{
	long made = shim_map(sizeof(*own));

	if (shim_failed(made))
		return false;
	own = (struct process *)made;
	return !shim_syscall3(__NR_madvise, made, sizeof(*own),
			      MADV_WIPEONFORK);
}

void shim_start(const char *text, bool told)
{
	const char *why = NULL;

	if (text)
		shim_conf_read(&conf, text, told);
	if (conf.backend == SHIM_BACKEND_MODULE)
		why = shim_device_open();
	if (!why && !make_process())
		why = "no memory";
	if (why) {
		if (!told)
			say_stopped(why);
		return;
	}
	atomic_store(&on, true);
	if (!told && conf.verbose >= 2)
		shim_say(conf.backend == SHIM_BACKEND_NULL ?
				 "backend null: nothing is freed" :
				 "on");
}

void shim_stop(const char *why)
{
	if (atomic_exchange(&on, false) && why)
		say_stopped(why);
}

void shim_before_filter(void)
{
	shim_drain();
	shim_stop(NULL);
}

bool shim_is_on(void)
{
	return atomic_load_explicit(&on, memory_order_relaxed);
}

/* Note the units from one boundary to another. */
static void note(uint64_t first, uint64_t end, bool counts_now)
{
	int64_t fresh;

	if (first >= end)
		return;
	fresh = shim_units_mark(&own->units, first, end - first);
	if (fresh < 0) {
		/* The table of runs is full: a drain makes room in it. */
		shim_drain();
		fresh = shim_units_mark(&own->units, first, end - first);
	}
	if (fresh < 0) {
		count(&own->counts.lost, 1);
		return;
	}
	count(&own->counts.units, fresh);
	if (counts_now)
		count(&own->pending, fresh);
}

void shim_drain_if_due(void)
{
	uint64_t units, begun, time;
	unsigned int rarer;

	if (!shim_is_on())
		return;
	units = atomic_load_explicit(&own->pending, memory_order_relaxed);
	if (!units)
		return;
	rarer = atomic_load_explicit(&own->backoff, memory_order_relaxed);
	if (units >> rarer >= conf.threshold) {
		shim_drain();
		return;
	}
	time = now(CLOCK_MONOTONIC_COARSE);
	begun = atomic_load_explicit(&own->since, memory_order_relaxed);
	if (!begun)
		atomic_compare_exchange_strong(&own->since, &begun, time);
	else if (time - begun >= conf.interval_ms * NSEC_PER_MSEC)
		shim_drain();
}

void shim_released(const void *addr, size_t length, enum shim_release what)
{
	uintptr_t from = (uintptr_t)addr;
	uintptr_t to = (from + length + PAGE_MASK) & ~PAGE_MASK;
	uint64_t first = from >> SHIM_UNIT_SHIFT;
	uint64_t end = (to + SHIM_UNIT_SIZE - 1) >> SHIM_UNIT_SHIFT;
	/* inner_first to inner_end are the units that lie entirely in the range. */
	uint64_t inner_first = (from + SHIM_UNIT_SIZE - 1) >> SHIM_UNIT_SHIFT;
	uint64_t inner_end = to >> SHIM_UNIT_SHIFT;

	if (!length || !shim_is_on())
		return;
	count(&own->counts.notes, 1);
	if (inner_first < inner_end &&
	    (what == SHIM_MAPPING ||
	     (what == SHIM_PAGES_AND_TABLES && shim_kernel_frees_units()))) {
		note(first, inner_first, true);
		note(inner_end, end, true);
	} else {
		note(first, end, what != SHIM_LATER);
	}
	shim_drain_if_due();
}

/*
 * A drain that frees little makes those that the threshold causes rarer, and
 * one that frees more makes them more frequent again.  Drains that the interval
 * causes are rare anyway.  They stay as frequent as they are, and free what the
 * others left.
 */
static void adapt(uint64_t tried, uint64_t freed)
{
	unsigned int rarer = atomic_load(&own->backoff);

	if (freed * 100 < tried * LOW_YIELD)
		rarer += rarer < BACKOFF_MAX;
	else
		rarer -= rarer > 0;
	atomic_store(&own->backoff, rarer);
}

/* Call the module for some ranges.  Return: false if that stopped the shim. */
static bool clean(struct pgtable_cleanup_range *ranges, unsigned int nr,
		  uint64_t tried)
{
	struct pgtable_cleanup_args args = {
		.flags = conf.zero_pages ? PGTABLE_CLEANUP_ZERO_PAGES : 0,
		.levels = PGTABLE_CLEANUP_LEVEL_PTE |
			  PGTABLE_CLEANUP_LEVEL_PMD | PGTABLE_CLEANUP_LEVEL_PUD,
		.nr_ranges = nr,
		.ranges = (uintptr_t)ranges,
	};
	unsigned int i;
	long err;

	if (conf.backend == SHIM_BACKEND_NULL) {
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
		count(&own->counts.freed[i], args.freed[i]);
	count(&own->counts.zero_pages_dropped, args.zero_pages_dropped);
	count(&own->counts.contended, err == -EAGAIN);
	adapt(tried, args.freed[0]);
	return true;
}

static void drain(void)
{
	uint64_t tried = 0, begun = now(CLOCK_MONOTONIC);
	size_t nr, i;

	_Static_assert(SHIM_RUNS_ROOM <= PGTABLE_CLEANUP_MAX_RANGES,
		       "one call takes them all");
	/* Reset pending and since first: units noted from now on count for the next drain. */
	atomic_store(&own->pending, 0);
	atomic_store(&own->since, 0);
	nr = shim_units_take(&own->units, own->runs);
	if (!nr)
		return;
	for (i = 0; i < nr; i++) {
		own->ranges[i].addr = own->runs[i].first << SHIM_UNIT_SHIFT;
		own->ranges[i].len = own->runs[i].count << SHIM_UNIT_SHIFT;
		tried += own->runs[i].count;
	}
	if (clean(own->ranges, nr, tried)) {
		count(&own->counts.drains, 1);
		count(&own->counts.tried, tried);
	}
	count(&own->counts.ns, now(CLOCK_MONOTONIC) - begun);
}

void shim_drain(void)
{
	if (!shim_is_on() || atomic_exchange(&own->draining, true))
		return;
	if (conf.backend == SHIM_BACKEND_MODULE)
		shim_kernel_probe();
	drain();
	atomic_store(&own->draining, false);
}

long shim_cleanup_pgtable(const void *addr, size_t length)
{
	uintptr_t from = (uintptr_t)addr;
	size_t rounded = (length + PAGE_MASK) & ~PAGE_MASK;
	struct pgtable_cleanup_range range = { from, rounded };
	struct pgtable_cleanup_args args = {
		.levels = PGTABLE_CLEANUP_LEVEL_PTE |
			  PGTABLE_CLEANUP_LEVEL_PMD | PGTABLE_CLEANUP_LEVEL_PUD,
		.nr_ranges = 1,
		.ranges = (uintptr_t)&range,
	};
	long err;

	if (!shim_is_on() || from & PAGE_MASK || (length && !rounded) ||
	    from + rounded < from)
		return -EINVAL;
	if (!length)
		return 0;
	if (conf.backend == SHIM_BACKEND_NULL)
		return 0;
	err = shim_device_call(&args);
	return err == -ENODEV ? -EINVAL : err;
}

struct pgtable_cleanup_stats shim_stats(void)
{
	struct pgtable_cleanup_stats stats = { .backoff = 1 };
	unsigned int i;

	if (!own)
		return stats;
#define GET(name) stats.name = atomic_load(&own->counts.name)
	GET(notes);
	GET(units);
	GET(lost);
	GET(drains);
	GET(tried);
	for (i = 0; i < PGTABLE_CLEANUP_NR_LEVELS; i++)
		GET(freed[i]);
	GET(zero_pages_dropped);
	GET(contended);
	GET(ns);
#undef GET
	stats.backoff = UINT64_C(1) << atomic_load(&own->backoff);
	return stats;
}

const struct shim_conf *shim_conf(void)
{
	return &conf;
}
