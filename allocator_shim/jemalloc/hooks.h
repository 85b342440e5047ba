/* SPDX-License-Identifier: MIT */
/*
 * jemalloc's extent hooks that know what each unit still holds: the
 * moment that it holds nothing, its page table goes along with its pages.
 */
#ifndef PGTC_HOOKS_H
#define PGTC_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the table of a unit that holds nothing is freed. */
enum hooks_way {
	HOOKS_NOTHING, /* the table stays: only the pages go */
	HOOKS_ZAP, /* the kernel frees the table at one MADV_DONTNEED of the unit */
	HOOKS_REMAP, /* mremap() moves the table away, and it goes with its new mapping */
	HOOKS_MODULE, /* the module frees the table at the shim's next drain */
};

/* jemalloc/jemalloc.h has declared the hooks like this since 5.0. */
struct extent_hooks {
	void *(*alloc)(struct extent_hooks *hooks, void *addr, size_t size,
		       size_t alignment, bool *zero, bool *commit,
		       unsigned int arena);
	bool (*dalloc)(struct extent_hooks *hooks, void *addr, size_t size,
		       bool committed, unsigned int arena);
	void (*destroy)(struct extent_hooks *hooks, void *addr, size_t size,
			bool committed, unsigned int arena);
	bool (*commit)(struct extent_hooks *hooks, void *addr, size_t size,
		       size_t offset, size_t length, unsigned int arena);
	bool (*decommit)(struct extent_hooks *hooks, void *addr, size_t size,
			 size_t offset, size_t length, unsigned int arena);
	bool (*purge_lazy)(struct extent_hooks *hooks, void *addr, size_t size,
			   size_t offset, size_t length, unsigned int arena);
	bool (*purge_forced)(struct extent_hooks *hooks, void *addr,
			     size_t size, size_t offset, size_t length,
			     unsigned int arena);
	bool (*split)(struct extent_hooks *hooks, void *addr, size_t size,
		      size_t size_a, size_t size_b, bool committed,
		      unsigned int arena);
	bool (*merge)(struct extent_hooks *hooks, void *addr_a, size_t size_a,
		      void *addr_b, size_t size_b, bool committed,
		      unsigned int arena);
};

extern struct extent_hooks hooks_in_front;

/* Choose, before these hooks are used, whose hooks serve memory, and how tables go. */
void hooks_stand_before(struct extent_hooks *jemallocs, enum hooks_way way);

const char *hooks_way_name(enum hooks_way way);

struct hooks_stats {
	uint64_t mapped; /* bytes that jemalloc has got through the hooks */
	uint64_t units; /* units whose pages and table were given back */
	uint64_t waits; /* waits of commits for a unit that was being given back */
	uint64_t foreign; /* extents that the hooks leave alone */
};

struct hooks_stats hooks_stats(void);

#endif
