/* SPDX-License-Identifier: MIT */
/* Find the jemalloc that a running process allocates by. */
#ifndef PGTC_FIND_H
#define PGTC_FIND_H

#include <stdbool.h>
#include <stddef.h>

/* jemalloc's own functions, whose names may have a prefix. */
struct jemalloc {
	const char *prefix;
	int (*mallctl)(const char *name, void *old, size_t *old_length,
		       void *new, size_t new_length);
	void *(*malloc)(size_t size);
	void (*free)(void *at);
};

enum jemalloc_found {
	JEMALLOC_FOUND,
	JEMALLOC_NONE,
	JEMALLOC_NOT_MALLOC, /* there is a mallctl(), but malloc() is not jemalloc's */
};

/*
 * Look the functions up by name in what the process has loaded.  Linking to
 * jemalloc would load a second allocator.  Unless none is found, the prefix
 * becomes the one of the mallctl() that was found.
 */
enum jemalloc_found jemalloc_find(struct jemalloc *found);

#endif
