/* SPDX-License-Identifier: MIT */
/*
 * The pages that jemalloc has got through the hooks, and how many of them each unit
 * has in use.
 *
 * jemalloc splits and merges its extents at will, so that the records go by address.
 * They begin empty, and take memory only for parts of the address space that are used.
 */
#ifndef PGTC_PAGES_H
#define PGTC_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Make the records.  Return: whether there was memory for them. */
bool pages_start(void);

/* Record pages, none of them in use.  Return: whether there was memory for that. */
bool pages_add(uintptr_t addr, size_t length);

/* Forget pages that are about to be unmapped; @used says if they were in use. */
void pages_remove(uintptr_t addr, size_t length, bool used);

/* Say whether a page is recorded. */
bool pages_known(uintptr_t addr);

/* Take pages into use.  This waits while any of their units is being given back. */
void pages_use(uintptr_t addr, size_t length);

/*
 * The functions that give pages back which are no longer in use.  Each returns whether
 * all of its range is zero then.
 * @unit: gives back a whole unit that holds recorded pages alone, none of them in use
 * @part: gives back any other range
 */
struct pages_release {
	bool (*unit)(uintptr_t unit);
	bool (*part)(uintptr_t addr, size_t length);
};

/*
 * Take pages out of use, and release them, or the whole unit with the last of its
 * pages.
 *
 * Return: whether all of the pages are zero now.
 */
bool pages_unuse(uintptr_t addr, size_t length,
		 const struct pages_release *release);

/*
 * Between these two calls no unit is being given back.  A fork needs this, as its child
 * has none of the threads that would finish.
 */
void pages_stand_still(void);
void pages_go_on(bool is_child);

/* A call that locks memory; all zero at first. */
struct pages_locking {
	uint64_t stops;
	unsigned int tries;
};

/*
 * Say whether to make a call that locks memory, or to make it once more: a unit may have
 * been moved meanwhile, which unlocks all of its mapping.  Nothing is moved during the
 * second call, and whoever gives a unit back afterwards sees that it is locked.  This is
 * asked until it says no.
 *
 * A signal handler does not wait for what its own thread is moving.  Memory that it locks
 * can lose its lock.
 *
 * @result: what the call returned, the last time that it was made
 */
bool pages_try_lock(struct pages_locking *locking, long result);

struct pages_stats {
	uint64_t known; /* bytes recorded now */
	uint64_t units; /* units that were given back whole */
	uint64_t waits; /* waits for a unit that was being given back */
};

struct pages_stats pages_stats(void);

#endif
