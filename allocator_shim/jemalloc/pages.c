// SPDX-License-Identifier: MIT
/* The pages that jemalloc has got through the hooks, by unit. */

#include <linux/futex.h>
#include <limits.h>
#include <stdatomic.h>
#include <time.h>

#include "pages.h"
#include "paging.h"
#include "syscalls.h"

#define BITS 64

/* The tests define PAGES_PAUSE(), to let another thread run where it is called. */
#ifndef PAGES_PAUSE
#define PAGES_PAUSE() ((void)0)
#endif

/* The unit is being given back: a thread that wants to use it waits. */
#define BUSY (1u << 31)
/* A thread waits, by a futex, until the unit is no longer BUSY. */
#define WAITED (1u << 30)

/*
 * One unit.
 * @used: how many of the pages are in use, or BUSY, perhaps with WAITED
 * @known: how many of the pages are recorded
 * @map: a bit for each page: whether it is recorded
 */
struct unit {
	_Atomic uint32_t used;
	_Atomic uint32_t known;
	_Atomic uint64_t map[];
};

/*
 * A table has a record for each of 1024 units in a row, and the directory has all tables.
 * Memory at addresses that a program gets only if it asks for them is not recorded.
 */
#define TABLE_SHIFT 10
#define TABLES (1UL << (ARCH_ADDRESS_BITS - SHIM_UNIT_SHIFT - TABLE_SHIFT))

/* How many bytes a record takes, with the map of as many pages as a unit has here. */
static size_t record_size;

/* A table is known by its first record. */
static struct unit *_Atomic *directory;

static _Atomic uint64_t known, units, waits;

/* How many threads are giving a unit back, and how many want no thread to begin. */
static _Atomic uint32_t giving;
static _Atomic uint32_t still;

/* How often a thread has stopped giving. */
static _Atomic uint64_t stops;

/*
 * How many units is this thread giving back?  A signal handler may interrupt that, and
 * must not wait for its own thread.  glibc may allocate memory at the first use of a
 * variable of the general model, from within jemalloc.  musl never does, and loads no
 * extension that has the other model.
 */
#ifdef __GLIBC__
#define NO_LAZY_TLS __attribute__((tls_model("initial-exec")))
#else
#define NO_LAZY_TLS
#endif
static _Thread_local volatile uint32_t own_giving NO_LAZY_TLS;

/*
 * Map memory for the records, and unlock it.  Where a program locks its future memory,
 * all of the records would take memory otherwise, and not only those that are used.
 */
static void *map_records(size_t bytes)
{
	long made = shim_map(bytes);

	if (shim_failed(made))
		return NULL;
	if (!shim_syscall2(__NR_munlock, made, bytes))
		shim_syscall3(__NR_madvise, made, bytes, MADV_DONTNEED);
	return (void *)made;
}

bool pages_start(void)
{
	record_size = sizeof(struct unit) +
		      SHIM_PAGES_A_UNIT / BITS * sizeof(uint64_t);
	directory = map_records(TABLES * sizeof(*directory));
	return directory;
}

static struct unit *_Atomic *entry_of(uintptr_t addr)
{
	return &directory[addr >> SHIM_UNIT_SHIFT >> TABLE_SHIFT];
}

/* Return the record of an address's unit, or NULL if nothing there was recorded. */
static struct unit *unit_of(uintptr_t addr)
{
	size_t number = addr >> SHIM_UNIT_SHIFT & ((1 << TABLE_SHIFT) - 1);
	struct unit *table;

	if (addr >> ARCH_ADDRESS_BITS)
		return NULL;
	table = atomic_load_explicit(entry_of(addr), memory_order_acquire);
	return table ? (struct unit *)((char *)table + number * record_size) :
		       NULL;
}

/* Make the table of an address if there is none.  Return: whether there is one now. */
static bool make_table(uintptr_t addr)
{
	const size_t size = record_size << TABLE_SHIFT;
	struct unit *made, *other = NULL;

	if (unit_of(addr))
		return true;
	made = map_records(size);
	if (!made)
		return false;
	if (!atomic_compare_exchange_strong(entry_of(addr), &other, made))
		shim_syscall2(__NR_munmap, made, size);
	return true;
}

/* The part of a range that is in its first unit. */
struct part {
	struct unit *unit;
	uintptr_t addr;
	size_t length;
	uint32_t first, pages;
};

/* Take the first part off a range.  Return: whether there was one. */
static bool next_part(uintptr_t *addr, size_t *length, struct part *part)
{
	size_t left = SHIM_UNIT_SIZE - (*addr & (SHIM_UNIT_SIZE - 1));

	if (!*length)
		return false;
	part->addr = *addr;
	part->length = *length < left ? *length : left;
	part->unit = unit_of(*addr);
	part->first = (*addr & (SHIM_UNIT_SIZE - 1)) >> SHIM_PAGE_SHIFT;
	part->pages = part->length >> SHIM_PAGE_SHIFT;
	*addr += part->length;
	*length -= part->length;
	return true;
}

/* Return the bits of a part's pages that are in a word of the map. */
static uint64_t bits_of(const struct part *part, uint32_t word)
{
	uint32_t from = word * BITS, to = from + BITS;
	uint32_t first = part->first, end = part->first + part->pages;

	if (first < from)
		first = from;
	if (end > to)
		end = to;
	if (first >= end)
		return 0;
	return ~UINT64_C(0) >> (BITS - (end - first)) << (first - from);
}

static void set_bits(const struct part *part, bool value)
{
	uint32_t word;

	for (word = part->first / BITS;
	     word <= (part->first + part->pages - 1) / BITS; word++) {
		uint64_t bits = bits_of(part, word);

		if (value)
			atomic_fetch_or(&part->unit->map[word], bits);
		else
			atomic_fetch_and(&part->unit->map[word], ~bits);
	}
}

bool pages_known(uintptr_t addr)
{
	struct unit *unit = unit_of(addr);
	uint32_t page = (addr & (SHIM_UNIT_SIZE - 1)) >> SHIM_PAGE_SHIFT;

	return unit && atomic_load_explicit(&unit->map[page / BITS],
					    memory_order_relaxed) >>
				       page % BITS &
			       1;
}

bool pages_add(uintptr_t addr, size_t length)
{
	uintptr_t end = addr + length, at;
	struct part part;

	if ((end - 1) >> ARCH_ADDRESS_BITS)
		return false;
	for (at = addr; at < end;
	     at = (at |
		   (((uintptr_t)1 << (SHIM_UNIT_SHIFT + TABLE_SHIFT)) - 1)) +
		  1)
		if (!make_table(at))
			return false;
	atomic_fetch_add(&known, length);
	while (next_part(&addr, &length, &part)) {
		set_bits(&part, true);
		atomic_fetch_add(&part.unit->known, part.pages);
	}
	return true;
}

/* Wait until a unit that was seen BUSY is not.  Return: what its count is then. */
static uint32_t wait_for(struct unit *unit, uint32_t seen)
{
	atomic_fetch_add(&waits, 1);
	while (seen & BUSY) {
		if (seen & WAITED || atomic_compare_exchange_strong(
					     &unit->used, &seen, seen | WAITED))
			shim_syscall4(__NR_futex, &unit->used,
				      FUTEX_WAIT_PRIVATE, BUSY | WAITED, 0);
		seen = atomic_load(&unit->used);
	}
	return seen;
}

/* Add to the count of a unit's pages in use; @by may be less than 0. */
static void count(struct unit *unit, int32_t by)
{
	uint32_t seen = atomic_load(&unit->used);

	do
		seen = seen & BUSY ? wait_for(unit, seen) : seen;
	while (!atomic_compare_exchange_weak(&unit->used, &seen, seen + by));
}

void pages_use(uintptr_t addr, size_t length)
{
	struct part part;

	while (next_part(&addr, &length, &part))
		count(part.unit, part.pages);
}

/*
 * This first lowers the number of a unit's recorded pages: units that are not recorded
 * whole are not given back.  Then count() waits for a thread that has begun before.
 */
void pages_remove(uintptr_t addr, size_t length, bool used)
{
	struct part part;

	atomic_fetch_sub(&known, length);
	while (next_part(&addr, &length, &part)) {
		atomic_fetch_sub(&part.unit->known, part.pages);
		count(part.unit, used ? -(int32_t)part.pages : 0);
		set_bits(&part, false);
	}
}

static void stop_giving(void)
{
	atomic_fetch_add(&stops, 1);
	atomic_fetch_sub(&giving, 1);
	/* Not at the last alone: a signal handler waits for all but those of its thread. */
	if (atomic_load(&still))
		shim_syscall3(__NR_futex, &giving, FUTEX_WAKE_PRIVATE, INT_MAX);
	own_giving--;
}

/* Say whether units may be given back now; if so, stop_giving() must follow. */
static bool start_giving(void)
{
	own_giving++;
	atomic_fetch_add(&giving, 1);
	if (!atomic_load(&still))
		return true;
	stop_giving();
	return false;
}

/*
 * Take a part's pages out of use.  The count goes down first, and decides whether to
 * give back the whole unit in place of the part.  Were that decided before, another
 * thread could begin to use the unit meanwhile: the unit would not be given back, and
 * the old bytes of the part would pass for zeros.
 *
 * Return: whether the unit is BUSY now, and this thread is to give it back.
 */
static bool unuse(const struct part *part)
{
	uint32_t seen = atomic_load(&part->unit->used);

	for (;;) {
		/* start_giving() before BUSY: a fork must not leave BUSY set in the child. */
		bool whole = seen == part->pages && start_giving();

		if (atomic_compare_exchange_strong(&part->unit->used, &seen,
						   whole ? BUSY :
							   seen - part->pages))
			return whole;
		if (whole)
			stop_giving();
	}
}

static bool give_back(const struct part *part,
		      const struct pages_release *release)
{
	/* Read ->known while BUSY: pages_remove() lowers it, and then waits while BUSY. */
	bool is_zero = atomic_load(&part->unit->known) == SHIM_PAGES_A_UNIT &&
		       release->unit(part->addr & -SHIM_UNIT_SIZE);

	atomic_fetch_add(&units, is_zero);
	/* On failure release just the part: the unit's rest is zero already. */
	is_zero = is_zero || release->part(part->addr, part->length);
	if (atomic_exchange(&part->unit->used, 0) & WAITED)
		shim_syscall3(__NR_futex, &part->unit->used, FUTEX_WAKE_PRIVATE,
			      INT_MAX);
	stop_giving();
	return is_zero;
}

bool pages_unuse(uintptr_t addr, size_t length,
		 const struct pages_release *release)
{
	bool all_zero = true;
	struct part part;

	while (next_part(&addr, &length, &part)) {
		bool whole = unuse(&part), is_zero;

		PAGES_PAUSE();
		is_zero = whole ? give_back(&part, release) :
				  release->part(part.addr, part.length);
		all_zero = all_zero && is_zero;
	}
	return all_zero;
}

void pages_stand_still(void)
{
	uint32_t seen, own = own_giving;

	atomic_fetch_add(&still, 1);
	while ((seen = atomic_load(&giving)) > own)
		shim_syscall4(__NR_futex, &giving, FUTEX_WAIT_PRIVATE, seen, 0);
}

void pages_go_on(bool is_child)
{
	/* The child has none of the threads that may have asked for standing still. */
	if (is_child) {
		atomic_store(&giving, own_giving);
		atomic_store(&still, 0);
	} else {
		atomic_fetch_sub(&still, 1);
	}
}

/* May a unit have been moved since @stops was @before? */
static bool may_have_moved(uint64_t before)
{
	return atomic_load(&giving) || atomic_load(&stops) != before;
}

bool pages_try_lock(struct pages_locking *locking, long result)
{
	switch (locking->tries++) {
	case 0:
		locking->stops = atomic_load(&stops);
		return true;
	case 1:
		if (result || !may_have_moved(locking->stops))
			return false;
		pages_stand_still();
		return true;
	default:
		pages_go_on(false);
		return false;
	}
}

struct pages_stats pages_stats(void)
{
	return (struct pages_stats){
		.known = atomic_load(&known),
		.units = atomic_load(&units),
		.waits = atomic_load(&waits),
	};
}
