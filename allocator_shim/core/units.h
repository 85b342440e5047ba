/* SPDX-License-Identifier: MIT */
/*
 * Keep note of units whose pages were released, until a drain takes them.
 *
 * The notes are a fixed table of runs, each a word that is set and taken atomically:
 * there is no lock that a signal handler or a forked child could find taken.
 */
#ifndef PGTC_UNITS_H
#define PGTC_UNITS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "paging.h"

#define SHIM_RUNS_ROOM 1024

/* The table of noted units, which must be all zero at first. */
struct shim_units {
	_Atomic uint64_t runs[SHIM_RUNS_ROOM];
};

/* Units in a row; their numbers are addresses without the lower SHIM_UNIT_SHIFT bits. */
struct shim_run {
	uint64_t first;
	uint64_t count;
};

/*
 * Note units, some of which may be noted already.
 *
 * Return: how many of them are new, or -1 if there is no room.
 */
int64_t shim_units_mark(struct shim_units *units, uint64_t first,
			uint64_t count);

/*
 * Take all units out.  Only one caller may do so at a time.  @runs has room for
 * SHIM_RUNS_ROOM.
 *
 * Return: how many runs there are.  They are in the order of their addresses, and
 * no two overlap or are adjacent.
 */
size_t shim_units_take(struct shim_units *units, struct shim_run *runs);

#endif
