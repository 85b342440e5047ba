// SPDX-License-Identifier: MIT
/*
 * libc's syscall().  libseccomp loads its filters by it, and allocators call madvise()
 * and process_madvise() by it.  The function itself is in syscall_ARCHITECTURE.S.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

#include "actions.h"
#include "filter.h"
#include "interval.h"
#include "locks.h"
#include "next.h"
#include "pgtable_cleanup.h"
#include "release.h"
#include "shim.h"
#include "syscalls.h"

/* What syscall_seen() does about a call. */
enum { NOTHING, NOTE, FILTER, ALONE, LOCK };

const unsigned char syscall_actions[SYSCALL_ACTIONS] = {
	[__NR_madvise] = NOTE,
	[__NR_process_madvise] = NOTE,
	[__NR_munmap] = NOTE,
	[__NR_mremap] = NOTE,
	[__NR_mmap] = NOTE,
	[__NR_fallocate] = NOTE,
	[__NR_ftruncate] = NOTE,
	[__NR_mlock] = LOCK,
	[__NR_mlock2] = LOCK,
	[__NR_mlockall] = LOCK,
	[__NR_prctl] = FILTER,
	[__NR_seccomp] = FILTER,
	[__NR_setuid] = ALONE,
	[__NR_setgid] = ALONE,
	[__NR_setreuid] = ALONE,
	[__NR_setregid] = ALONE,
	[__NR_setresuid] = ALONE,
	[__NR_setresgid] = ALONE,
	[__NR_setgroups] = ALONE,
	[__NR_capset] = ALONE,
	[__NR_unshare] = ALONE,
	[__NR_setns] = ALONE,
	[__NR_landlock_restrict_self] = ALONE,
	/* A process ends with its last thread, which must not be the library's. */
	[__NR_exit] = ALONE,
};

/* Make a call without the library's thread, which would be in the way: see alone.c. */
static long call_alone(long number, long a, long b, long c, long d)
{
	bool was;
	long result;

	/* This never returns, and would hold the thread for good. */
	if (number == __NR_exit) {
		shim_interval_end();
		return next_syscall(number, a, b, c, d, 0, 0);
	}
	was = shim_interval_hold();
	result = next_syscall(number, a, b, c, d, 0, 0);
	shim_interval_go_on(was);
	return result;
}

static long lock(long number, long a, long b, long c)
{
	struct pages_locking locking = { 0 };
	long result = 0;

	while (locks_try(&locking, result))
		result = next_syscall(number, a, b, c, 0, 0, 0);
	return result;
}

static long filter(long number, long a, long b, long c, long d, long e, long f)
{
	bool is_own = filter_before();
	long result = next_syscall(number, a, b, c, d, e, f);

	if (!is_own)
		return result;
	if (number == __NR_prctl)
		filter_after_prctl(result);
	else
		filter_after_seccomp(b, result);
	return result;
}

static void note(long number, long a, long b, long c, long d, long e, long f,
		 long result)
{
	switch (number) {
	case __NR_madvise:
		release_advised((void *)a, b, c);
		break;
	case __NR_process_madvise:
		release_process_advised(a, (const struct iovec *)b, c, d,
					result);
		break;
	case __NR_munmap:
		release_unmapped((void *)a, b);
		break;
	case __NR_mremap:
		release_moved((void *)a, b, (void *)result, c, d);
		break;
	case __NR_mmap:
		release_mapped_over((void *)result, b, d, e, f);
		break;
	case __NR_fallocate:
		release_allocated(a, b, c, d);
		break;
	case __NR_ftruncate:
		release_truncated(a, b);
		break;
	}
}

/* Make a call, and do what the function of its name does in the other files. */
long syscall_seen(long number, long a, long b, long c, long d, long e, long f)
{
	long result;

	if (number == __NR_madvise && (int)c == MADV_CLEANUP_PGTABLE)
		return next_answer(shim_cleanup_pgtable((void *)a, b));
	if (syscall_actions[number] == ALONE)
		return call_alone(number, a, b, c, d);
	if (syscall_actions[number] == LOCK)
		return lock(number, a, b, c);
	if ((number == __NR_prctl && filter_by_prctl(a, b, c)) ||
	    (number == __NR_seccomp && filter_by_seccomp(a, c)))
		return filter(number, a, b, c, d, e, f);
	result = next_syscall(number, a, b, c, d, e, f);
	if (result != -1)
		note(number, a, b, c, d, e, f, result);
	return result;
}
