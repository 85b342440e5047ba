/* SPDX-License-Identifier: MIT */
/*
 * What libpgtable_cleanup.so answers the program that it is preloaded into.
 * Weak, so that the program runs without it, too:
 *
 *	if (pgtable_cleanup_drain)
 *		pgtable_cleanup_drain();
 */
#ifndef PGTABLE_CLEANUP_SHIM_H
#define PGTABLE_CLEANUP_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct pgtable_cleanup_stats - what the library did in this process so far
 * @notes: calls of the program that released something
 * @units: units of 2 MiB noted, each once until it was looked at
 * @lost: stretches of units not noted for want of room
 * @drains: calls of the module that looked at what was noted
 * @tried: units that they looked at
 * @freed: PTE, PMD and PUD tables that they freed
 * @zero_pages_dropped: zero-page entries that they dropped
 * @contended: drains that found every lock taken
 * @ns: time that they took
 * @backoff: drains are so many times rarer, as they freed little; 1: are not
 * @hook_units: units that jemalloc's hooks gave back whole, with hooks:jemalloc
 */
struct pgtable_cleanup_stats {
	uint64_t notes;
	uint64_t units;
	uint64_t lost;
	uint64_t drains;
	uint64_t tried;
	uint64_t freed[3];
	uint64_t zero_pages_dropped;
	uint64_t contended;
	uint64_t ns;
	uint64_t backoff;
	uint64_t hook_units;
};

/*
 * Look at everything noted so far, now.  Nothing where another thread is about
 * it.  Async-signal-safe.
 */
void pgtable_cleanup_drain(void) __attribute__((weak));

/*
 * @size: sizeof(*stats) as the program knows it.
 * Return: 0, or -1 if that is longer than what the library knows.
 */
int pgtable_cleanup_stats(struct pgtable_cleanup_stats *stats, size_t size)
	__attribute__((weak));

/*
 * What is in force, as PGTABLE_CLEANUP_CONF would say it: all keys.
 * Return: its length, as of snprintf().
 */
size_t pgtable_cleanup_conf(char *conf, size_t size) __attribute__((weak));

#ifdef __cplusplus
}
#endif

#endif /* PGTABLE_CLEANUP_SHIM_H */
