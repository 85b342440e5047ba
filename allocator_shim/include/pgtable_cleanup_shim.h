/* SPDX-License-Identifier: MIT */
/*
 * Functions of libpgtable_cleanup.so for the program that it is preloaded into.
 * They are weak symbols, so that the program runs without the library, too:
 *
 *	if (pgtable_cleanup_drain)
 *		pgtable_cleanup_drain();
 *
 * Nothing needs to be linked, whether the program is position-independent or not.
 */
#ifndef PGTABLE_CLEANUP_SHIM_H
#define PGTABLE_CLEANUP_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * In a program that is not position-independent, gcc takes the address of a
 * function as the linker knows it, which is 0 for a weak symbol that nothing
 * defines yet.  The attribute noplt has gcc get the address from the loader.  A
 * compiler without this attribute gets it from there under -fpie or -fno-plt.
 */
#define PGTC_WEAK __attribute__((weak))
#ifdef __has_attribute
#if __has_attribute(noplt)
#undef PGTC_WEAK
#define PGTC_WEAK __attribute__((weak, noplt))
#endif
#endif

/* The version of this header: it grows with each function, count or key. */
#define PGTABLE_CLEANUP_SHIM_VERSION	1

/* Get the version of the header that the library was built with. */
int pgtable_cleanup_version(void) PGTC_WEAK;

/**
 * struct pgtable_cleanup_stats - what the library did in this process so far
 * @notes: calls of the program that released something
 * @units: units noted, each the memory that one PTE table maps (2 MiB where pages
 *	have 4 KiB); each counts once until a drain looks at it
 * @lost: stretches of units that were not noted for want of room
 * @drains: calls of the module, each of which looked at all that was noted
 * @tried: units that the drains looked at
 * @freed: PTE, PMD and PUD tables that the drains freed
 * @zero_pages_dropped: zero-page entries that the drains dropped
 * @contended: drains that found every lock taken
 * @ns: time that the drains took, in nanoseconds
 * @backoff: how many times rarer drains are than at first, because they freed
 *	little
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
 * Look now at all units that were noted so far.  This does nothing while another
 * thread does the same.  It is async-signal-safe.
 *
 * Return: 1 if units were looked at meanwhile, by this thread or another; 0 if
 * nothing was noted, or the library is not at work.
 */
int pgtable_cleanup_drain(void) PGTC_WEAK;

/*
 * Get what the library did so far.  @size is sizeof(*stats) as the program knows
 * it.  Counts that an older library does not have are set to 0.
 *
 * Return: 0.
 */
int pgtable_cleanup_stats(struct pgtable_cleanup_stats *stats,
			  size_t size) PGTC_WEAK;

/*
 * Get the configuration in force: all keys, written as in PGTABLE_CLEANUP_CONF.
 *
 * Return: the length of the whole text, as snprintf() does.
 */
size_t pgtable_cleanup_conf(char *conf, size_t size) PGTC_WEAK;

#ifdef __cplusplus
}
#endif

#endif /* PGTABLE_CLEANUP_SHIM_H */
