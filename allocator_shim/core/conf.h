/* SPDX-License-Identifier: MIT */
/* The settings in PGTABLE_CLEANUP_CONF=key:value,... */
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
 * struct shim_conf - the settings that a user may choose
 * @threshold: how many units of 2 MiB are noted before a drain
 * @interval_ms: when the first note is this old, the next release causes a
 *	drain, whatever the threshold
 * @zero_pages: whether drains drop zero-page entries, too
 * @thread: whether a thread of the shim's own keeps to the interval
 * @hooks: the allocator to install extent hooks in
 * @backend: who frees the tables: the module, or nobody (null)
 * @verbose: 0 to say nothing, 1 to say why the shim stops, 2 to say also what it
 *	found at the start
 * @stats: when to print the counts
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
 * Read a conf.  An entry with an unknown key or value changes nothing.  It is named
 * on stderr, unless @told says that another process has done so.
 *
 * Return: how many such entries there are.
 */
unsigned int shim_conf_read(struct shim_conf *conf, const char *text,
			    bool told);

/* Write all keys in the form in which shim_conf_read() takes them. */
void shim_conf_write(const struct shim_conf *conf, struct shim_text *text);

#endif
