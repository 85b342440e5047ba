/* SPDX-License-Identifier: MIT */
/* PGTABLE_CLEANUP_CONF=key:value,... */
#ifndef PGTC_CONF_H
#define PGTC_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "text.h"

#define SHIM_CONF_VARIABLE "PGTABLE_CLEANUP_CONF"

enum { SHIM_BACKEND_MODULE, SHIM_BACKEND_NULL };
enum { SHIM_STATS_NONE, SHIM_STATS_EXIT };
enum { SHIM_HOOKS_NONE, SHIM_HOOKS_JEMALLOC };

/**
 * struct shim_conf - what a user may choose
 * @threshold: drain once so many 2 MiB units were touched
 * @interval_ms: or once the first of them is so old, at the next call
 * @zero_pages: drop zero-page entries too
 * @thread: a thread of the shim's own sees to the interval
 * @hooks: an allocator to install extent hooks in
 * @backend: who frees the tables; null: nobody, all else as usual
 * @verbose: 0 says nothing, 1 why it stops, 2 what it found at the start
 * @stats: when to say the counts
 */
struct shim_conf {
	uint32_t threshold;
	uint32_t interval_ms;
	uint32_t zero_pages;
	uint32_t thread;
	uint32_t hooks;
	uint32_t backend;
	uint32_t verbose;
	uint32_t stats;
};

#define SHIM_CONF_DEFAULT { .threshold = 64, .interval_ms = 1000, .verbose = 1 }

/*
 * Read a conf.  A key or a value that is not known changes nothing, and is told
 * to stderr, by name, unless it was @told already.  Return: how many there were.
 */
unsigned int shim_conf_read(struct shim_conf *conf, const char *text,
			    bool told);

/* All keys, as they could be read. */
void shim_conf_write(const struct shim_conf *conf, struct shim_text *text);

#endif
