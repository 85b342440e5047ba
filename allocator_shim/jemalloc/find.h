/* SPDX-License-Identifier: MIT */
/* The jemalloc that a running process allocates by. */
#ifndef PGTC_FIND_H
#define PGTC_FIND_H

#include <stdbool.h>
#include <stddef.h>

/* Its own functions, by which a build with a prefix is reached, too. */
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
	JEMALLOC_NOT_MALLOC, /* a mallctl(), and a malloc() of another's */
};

/*
 * Linked to nothing, which would load a second allocator: looked up by name among
 * what the process has loaded.  The prefix is set where there is a mallctl().
 */
enum jemalloc_found jemalloc_find(struct jemalloc *found);

/*
 * Whether an address is in the object that this jemalloc is in, a library or a
 * program that is linked with it.  The file is that of the address, NULL for none.
 */
bool jemalloc_holds(const struct jemalloc *jemalloc, const void *address,
		    const char **file);

#endif
