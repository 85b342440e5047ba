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

/* mallctl() of the jemalloc that the process allocates by. */
typedef int hooks_mallctl(const char *name, void *old, size_t *old_length,
			  void *new, size_t new_length);

/* How the table of a unit that holds nothing is freed. */
enum hooks_way {
	HOOKS_NOTHING, /* not at all: pages alone go */
	HOOKS_ZAP, /* one MADV_DONTNEED of the unit: this kernel frees it then */
	HOOKS_REMAP, /* a new mapping in its place */
};

struct hooks_stats {
	uint64_t reserved; /* bytes of address space in use so far */
	uint64_t units; /* whose pages and table were given back */
	uint64_t waits; /* commits that met a unit in the middle of that */
	uint64_t foreign; /* extents that had no room in the reservation */
};

/*
 * Have all arenas, those to come too, get memory from a reservation of @bytes
 * and give it back by units.  Once in a process.
 *
 * Return: NULL, or why not, in which case nothing was changed.
 */
const char *hooks_install(hooks_mallctl *mallctl, size_t bytes,
			  enum hooks_way way);

struct hooks_stats hooks_stats(void);

/*
 * Does one MADV_DONTNEED of a whole unit free its table here?  Tried on memory of
 * its own, and told by VmPTE.
 */
bool hooks_kernel_frees_units(void);

#endif
