/* SPDX-License-Identifier: MIT */
/*
 * Deferred, batched calls for what a program released.
 *
 * Everything here may be called with an allocator's locks held, in a signal
 * handler, between vfork() and exec(), before main() and after it: it allocates
 * nothing, waits for nobody, and leaves errno alone.  A forked child begins
 * anew, whatever call forked it.  A child of vfork() goes on in its parent's
 * memory.
 */
#ifndef PGTC_SHIM_H
#define PGTC_SHIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "pgtable_cleanup_shim.h"

/*
 * Read the conf and open the device.  A constructor does so once; all that is
 * released before is ignored.
 * @told: the process that started this one has already said what is wrong
 */
void shim_start(const char *conf, bool told);

/* Make the state this process's.  Call this at the start, and in the child of a fork. */
void shim_forked(void);

/*
 * Say whether the state is this process's own.  A child of vfork() has its parent's
 * until it calls exec().  It only notes releases, and leaves the rest to its parent.
 */
bool shim_is_own_process(void);

/* Stop for good.  If @why is not NULL and the conf allows it, say so once. */
void shim_stop(const char *why);

/*
 * Drain, and switch off: the program is about to set a seccomp filter, which may kill
 * it for an ioctl that the filter does not know.
 *
 * Return: whether the shim was on until now.
 */
bool shim_before_filter(void);

/* After each shim_before_filter(): switch on again, unless the filter was set. */
void shim_after_filter(bool set);

/* Say whether the program has set a filter, so that no system call is known to be safe. */
bool shim_is_filtered(void);

/*
 * How many reasons there are for the shim to be off.  The first is that it was not
 * started.  Each seccomp filter that the program sets is another, and so is each attempt
 * to set one, while the attempt lasts.
 */
extern _Atomic int shim_off;

/* Say whether the shim is at work: it was started, and nothing has switched it off. */
static inline bool shim_is_on(void)
{
	return !atomic_load(&shim_off);
}

/*
 * Note that pages of a range may have gone.
 */
enum shim_release {
	SHIM_PAGES, /* some pages went: the tables stay */
	SHIM_PAGES_AND_TABLES, /* DONTNEED: the kernel may free whole units' tables */
	SHIM_LATER, /* FREE: the pages go at some later time */
	SHIM_MAPPING, /* unmapped: all tables went but those shared with neighbours */
};
void shim_released(const void *addr, size_t length, enum shim_release what);

/*
 * Have the module look at all noted units now.  This does nothing while another
 * thread does so, or in a signal handler that has interrupted this function.
 */
void shim_drain(void);

/* Drain if the threshold is reached or the interval is over. */
void shim_drain_if_due(void);

/*
 * Do what the proposed madvise(addr, length, MADV_CLEANUP_PGTABLE) does.
 *
 * Return: 0 or a negative errno.  Without the device this is -EINVAL, as from a
 * kernel that does not know the advice.
 */
long shim_cleanup_pgtable(const void *addr, size_t length);

struct pgtable_cleanup_stats shim_stats(void);
const struct shim_conf *shim_conf(void);

#endif
