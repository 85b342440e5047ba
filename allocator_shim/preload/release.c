// SPDX-License-Identifier: MIT
/* Note what madvise() and process_madvise() have released. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "proc.h"
#include "release.h"
#include "shim.h"
#include "syscalls.h"
#include "text.h"

/* Older kernel headers lack these special pidfds. */
#define PIDFD_SELF_THREAD_GROUP (-10001)
#define PIDFD_SELF_THREAD (-10000)

void release_advised(const void *addr, size_t length, int advice)
{
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
		shim_released(addr, length, SHIM_PAGES_AND_TABLES);
		break;
	case MADV_FREE:
		shim_released(addr, length, SHIM_LATER);
		break;
	case MADV_REMOVE:
	case MADV_PAGEOUT:
		shim_released(addr, length, SHIM_PAGES);
		break;
	}
}

/* Say whether a pidfd is this process's.  Old kernels tell it only in /proc. */
static bool is_own(int pidfd)
{
	struct shim_text path = { 0 };
	unsigned long pid;

	if (pidfd == PIDFD_SELF_THREAD_GROUP || pidfd == PIDFD_SELF_THREAD)
		return true;
	if (pidfd < 0)
		return false;
	shim_text_add(&path, "/proc/self/fdinfo/");
	shim_text_add_number(&path, pidfd);
	path.bytes[path.length] = '\0';
	return shim_proc_number(path.bytes, "Pid:", &pid) &&
	       pid == (unsigned long)shim_syscall0(__NR_getpid);
}

void release_process_advised(int pidfd, const struct iovec *ranges, size_t nr,
			     int advice, long result)
{
	size_t left, i;

	if (result <= 0 || !shim_is_on() || !is_own(pidfd))
		return;
	left = result;
	for (i = 0; i < nr && left; i++) {
		size_t length = ranges[i].iov_len < left ? ranges[i].iov_len :
							   left;

		release_advised(ranges[i].iov_base, length, advice);
		left -= length;
	}
}
