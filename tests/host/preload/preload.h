/* SPDX-License-Identifier: MIT */
/* What the programs share that are run under libpgtable_cleanup.so. */
#ifndef TEST_PRELOAD_H
#define TEST_PRELOAD_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arch.h"
#include "pgtable_cleanup_shim.h"

#define PAGE 4096UL
#define UNIT (2UL << 20)

/* End the program, and say where, unless a condition holds. */
#define CHECK(condition)                                               \
	do {                                                           \
		if (!(condition)) {                                    \
			printf("line %d: %s\n", __LINE__, #condition); \
			fflush(stdout);                                \
			_exit(1);                                      \
		}                                                      \
	} while (0)

/* Make a system call that the library does not see. */
static inline long unseen(long number, long a, long b, long c, long d)
{
	return shim_syscall(number, a, b, c, d, 0, 0);
}

static inline struct pgtable_cleanup_stats counts(void)
{
	struct pgtable_cleanup_stats stats;

	CHECK(pgtable_cleanup_stats &&
	      !pgtable_cleanup_stats(&stats, sizeof(stats)));
	return stats;
}

/* Map whole units of 2 MiB, at an address that is a multiple of 2 MiB. */
static inline char *map_units(size_t units)
{
	char *at = mmap(NULL, (units + 1) * UNIT, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(at != MAP_FAILED);
	return at + -(uintptr_t)at % UNIT;
}

/* Release a page.  With threshold:1 the library drains then. */
static inline void release(char *page)
{
	*page = 1;
	CHECK(!madvise(page, PAGE, MADV_DONTNEED) && !*page);
}

/* Say whether the library drains at a release. */
static inline int drains_at(char *page)
{
	uint64_t before = counts().drains;

	release(page);
	return counts().drains > before;
}

#endif
