/* SPDX-License-Identifier: MIT */
/*
 * Deferred, batched calls for what a program released.
 *
 * Everything here may be called with an allocator's locks held, in a signal
 * handler, between vfork() and exec(), before main() and after it: it allocates
 * nothing, waits for nobody, and leaves errno alone.  A child of fork() begins
 * anew, however it was made; one of vfork() goes on in its parent's memory.
 */
#ifndef PGTC_SHIM_H
#define PGTC_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "pgtable_cleanup_shim.h"

/*
 * Read the conf, open the device: once, in a constructor.  Before, all is ignored.
 * @told: what is wrong was said already, by the process that started this one
 */
void shim_start(const char *conf, bool told);

/* For good; said once where @why is not NULL and the conf lets it. */
void shim_stop(const char *why);

/*
 * A filter that does not know of our ioctl may kill the program for it: the last
 * drain is before it.
 */
void shim_before_filter(void);

/* Whether drains do anything. */
bool shim_is_on(void);

/*
 * Pages of a range may have gone.
 * @whole_units_too: the kernel may have freed the tables of whole units itself
 */
enum shim_release {
	SHIM_PAGES, /* some pages: tables stay */
	SHIM_PAGES_AND_TABLES, /* DONTNEED: tables of whole units may go as well */
	SHIM_LATER, /* FREE: pages go at some time; nothing to look at yet */
	SHIM_MAPPING, /* unmapped: tables go, but those it shared with a neighbour */
};
void shim_released(const void *addr, size_t length, enum shim_release what);

/*
 * Look at all noted units now.  Where another thread does already, or this one
 * in what a signal handler interrupted: nothing.
 */
void shim_drain(void);

/* Drain if that is due by time. */
void shim_drain_if_due(void);

/*
 * The proposed madvise(addr, length, MADV_CLEANUP_PGTABLE).
 * Return: 0 or a negative errno, -EINVAL where there is no device, as a kernel
 * that does not know the advice.
 */
long shim_cleanup_pgtable(const void *addr, size_t length);

struct pgtable_cleanup_stats shim_stats(void);
const struct shim_conf *shim_conf(void);

#endif
