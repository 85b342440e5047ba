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

/*
 * The keys, in the order in which they are written:
 * - NUMBER(key, value by default, least, most, what the value must be)
 * - WORD(key, value by default, other value, what the value must be)
 *
 * threshold: how many units are noted before a drain
 * interval_ms: when the first note is this old, the next release causes a
 *	drain, whatever the threshold
 * zero_pages: whether drains drop zero-page entries, too
 * thread: whether a thread of the shim's own keeps to the interval
 * hooks: the allocator to install extent hooks in
 * backend: who frees the tables: the module, or nobody (null)
 * verbose: 0 to say nothing, 1 to say why the shim stops, 2 to say also what it
 *	found at the start
 * stats: when to print the counts
 */
#define SHIM_CONF_KEYS(NUMBER, WORD)                                    \
	NUMBER(threshold, 64, 1, 1 << 20, "1 to 1048576 (units)")       \
	NUMBER(interval_ms, 1000, 1, 24 * 3600 * 1000, "1 to 86400000 (milliseconds)") \
	WORD(zero_pages, "false", "true", "true or false")              \
	WORD(thread, "false", "true", "true or false")                  \
	WORD(hooks, "none", "jemalloc", "jemalloc or none")             \
	WORD(backend, "module", "null", "module or null")               \
	NUMBER(verbose, 1, 0, 2, "0, 1 or 2")                           \
	WORD(stats, "none", "exit", "exit or none")

#define SHIM_CONF_MEMBER(key, ...) uint32_t key;

/* struct shim_conf - a user's settings; a WORD is 0 by default, 1 for its other value */
struct shim_conf {
	SHIM_CONF_KEYS(SHIM_CONF_MEMBER, SHIM_CONF_MEMBER)
};

#define SHIM_CONF_NUMBER(key, value, ...) .key = value,
#define SHIM_CONF_WORD(key, ...)
#define SHIM_CONF_DEFAULT { SHIM_CONF_KEYS(SHIM_CONF_NUMBER, SHIM_CONF_WORD) }

/*
 * Read a conf.  An entry with an unknown key or value changes nothing, and
 * @complain, unless it is NULL, is told why, and given @data.
 *
 * Return: how many such entries there are.
 */
unsigned int shim_conf_parse(struct shim_conf *conf, const char *text,
			     void (*complain)(const struct shim_text *why,
					      void *data),
			     void *data);

/*
 * Read a conf as shim_conf_parse() does, and complain on stderr, unless @told says
 * that another process has done so.
 */
unsigned int shim_conf_read(struct shim_conf *conf, const char *text,
			    bool told);

/* Write all keys in the form in which shim_conf_read() takes them. */
void shim_conf_write(const struct shim_conf *conf, struct shim_text *text);

#endif
