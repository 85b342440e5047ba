/* SPDX-License-Identifier: MIT */
/* Find the borders of this process's mappings. */
#ifndef PGTC_MAPS_H
#define PGTC_MAPS_H

#include <stdint.h>

/* A look at the mappings.  Whichever function begins a look ends it before it returns. */
struct shim_maps {
	long fd;
};

/*
 * Begin a look.  It needs /proc, and a kernel that answers questions about one mapping
 * (Linux 6.11 and later).  Without these no border is found.
 */
struct shim_maps shim_maps_open(void);
void shim_maps_close(struct shim_maps *maps);

/* Return the first border of a mapping after @from, or @to if there is none before @to. */
uint64_t shim_maps_border(struct shim_maps *maps, uint64_t from, uint64_t to);

#endif
