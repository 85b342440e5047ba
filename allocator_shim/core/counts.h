/* SPDX-License-Identifier: MIT */
/* What the shim counts: the one list that all else in C is made from. */
#ifndef PGTC_COUNTS_H
#define PGTC_COUNTS_H

#include <stdint.h>

/* COUNT(name as printed, member of struct pgtable_cleanup_stats), in the struct's order */
#define SHIM_COUNTS(COUNT)                          \
	COUNT(notes, notes)                         \
	COUNT(units, units)                         \
	COUNT(lost, lost)                           \
	COUNT(drains, drains)                       \
	COUNT(tried, tried)                         \
	COUNT(freed_pte, freed[0])                  \
	COUNT(freed_pmd, freed[1])                  \
	COUNT(freed_pud, freed[2])                  \
	COUNT(zero_pages_dropped, zero_pages_dropped) \
	COUNT(contended, contended)                 \
	COUNT(ns, ns)

/* All figures: the counts above, and those that are not kept by shim_count(). */
#define SHIM_FIGURES(FIGURE)      \
	SHIM_COUNTS(FIGURE)       \
	FIGURE(backoff, backoff)  \
	FIGURE(hook_units, hook_units)

enum shim_count {
#define COUNT(name, member) SHIM_COUNT_##name,
	SHIM_COUNTS(COUNT)
#undef COUNT
		SHIM_NR_COUNTS
};

#endif
