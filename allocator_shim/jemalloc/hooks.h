/* SPDX-License-Identifier: MIT */
/*
 * jemalloc's extent hooks that know what each 2 MiB unit still holds: the
 * moment that it holds nothing, its page table goes along with its pages.
 */
#ifndef PGTC_HOOKS_H
#define PGTC_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "find.h"

/* How the table of a unit that holds nothing is freed. */
enum hooks_way {
	HOOKS_NOTHING, /* the table stays: only the pages go */
	HOOKS_ZAP, /* the kernel frees the table at one MADV_DONTNEED of the unit */
	HOOKS_REMAP, /* the table goes when a new mapping takes the unit's place */
	HOOKS_MODULE, /* the module frees the table at the shim's next drain */
};

/* Bytes of address space that the hooks reserve by default; it takes no memory. */
#define HOOKS_RESERVE (1UL << 40)

struct hooks_stats {
	uint64_t reserved; /* bytes of address space in use so far */
	uint64_t units; /* units whose pages and table were given back */
	uint64_t waits; /* waits of commits for a unit that was being given back */
	uint64_t foreign; /* extents that had no room in the reservation */
};

/*
 * Have all present and future arenas get their memory from a reservation of
 * @bytes, and give it back by units.  This can be done once in a process, whichever
 * copy of this code does it, and not if the program has hooks of its own.
 *
 * Return: NULL, or why it could not be done; then nothing was changed.
 */
const char *hooks_install(const struct jemalloc *jemalloc, size_t bytes,
			  enum hooks_way way);

/*
 * Choose the best way that works here: the kernel itself; else the module, if the
 * shim has been started and can call it; else a new mapping.
 */
enum hooks_way hooks_best_way(void);
const char *hooks_way_name(enum hooks_way way);

struct hooks_stats hooks_stats(void);

#endif
