/* SPDX-License-Identifier: MIT */
/* Find the borders of this process's mappings. */
#ifndef PGTC_MAPS_H
#define PGTC_MAPS_H

#include <stdint.h>

/* A look at the mappings.  It ends with the function that began it. */
struct shim_maps {
	long fd;
};

/*
 * Begin a look.  It takes a kernel that answers questions about one mapping, since
 * Linux 6.11, and /proc.  Otherwise no border is found.
 */
struct shim_maps shim_maps_open(void);
void shim_maps_close(struct shim_maps *maps);

/* Return the next border after an address, or @to if there is none before. */
uint64_t shim_maps_border(struct shim_maps *maps, uint64_t from, uint64_t to);

#endif
