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
	HOOKS_NOTHING, /* not at all: pages alone go */
	HOOKS_ZAP, /* one MADV_DONTNEED of the unit: this kernel frees it then */
	HOOKS_REMAP, /* a new mapping in its place */
	HOOKS_MODULE, /* by the module, at the shim's next drain */
};

/* Bytes of address space, not of memory, unless told otherwise. */
#define HOOKS_RESERVE (1UL << 40)

struct hooks_stats {
	uint64_t reserved; /* bytes of address space in use so far */
	uint64_t units; /* whose pages and table were given back */
	uint64_t waits; /* commits that met a unit in the middle of that */
	uint64_t foreign; /* extents that had no room in the reservation */
};

/*
 * Have all arenas, those to come too, get memory from a reservation of @bytes
 * and give it back by units.  Once in a process, by whatever copy of this, and not
 * where the program has hooks of its own.
 *
 * Return: NULL, or why not, in which case nothing was changed.
 */
const char *hooks_install(const struct jemalloc *jemalloc, size_t bytes,
			  enum hooks_way way);

/*
 * What is best here: the kernel itself; then the module, where the shim has been
 * started and has it; then a new mapping.
 */
enum hooks_way hooks_best_way(void);
const char *hooks_way_name(enum hooks_way way);

struct hooks_stats hooks_stats(void);

#endif
