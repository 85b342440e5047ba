// SPDX-License-Identifier: MIT
/* Note what the program's successful calls have released. */

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "files.h"
#include "proc.h"
#include "release.h"
#include "shim.h"
#include "syscalls.h"
#include "text.h"

/* Older headers lack MADV_GUARD_REMOVE. */
#ifndef MADV_GUARD_REMOVE
#define MADV_GUARD_REMOVE 103
#endif

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
	case MADV_GUARD_REMOVE:
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

void release_unmapped(const void *addr, size_t length)
{
	if (!shim_is_on())
		return;
	files_unmapped(addr, length);
	shim_released(addr, length, SHIM_MAPPING);
}

void release_moved(const void *old, size_t old_length, const void *at,
		   size_t length, int flags)
{
	if (!shim_is_on())
		return;
	if (at == old) {
		if (length < old_length)
			shim_released((char *)old + length, old_length - length,
				      SHIM_MAPPING);
		else if (length > old_length)
			files_moved(old, old_length, at, length, false);
		return;
	}
	if (flags & MREMAP_FIXED)
		files_unmapped(at, length);
	/* An old length of 0 makes a second mapping of the same shared memory. */
	files_moved(old, old_length, at, length,
		    flags & MREMAP_DONTUNMAP || !old_length);
	if (flags & MREMAP_DONTUNMAP) {
		/* The old mapping stays, but its pages have moved. */
		shim_released(old, old_length, SHIM_PAGES);
	} else {
		files_unmapped(old, old_length);
		shim_released(old, old_length, SHIM_MAPPING);
	}
}

void release_mapped_over(const void *addr, size_t length, int flags, int fd,
			 uint64_t offset)
{
	bool replaces = flags & MAP_FIXED && !(flags & MAP_FIXED_NOREPLACE);
	/* MAP_SHARED_VALIDATE contains the bit MAP_SHARED, so this finds both. */
	bool shares = flags & MAP_SHARED && !(flags & MAP_ANONYMOUS);

	if (!shim_is_on())
		return;
	if (replaces) {
		files_unmapped(addr, length);
		shim_released(addr, length, SHIM_MAPPING);
	}
	if (shares)
		files_mapped(fd, addr, length, offset);
}

void release_allocated(int fd, int mode, uint64_t offset, uint64_t length)
{
	if (mode & FALLOC_FL_PUNCH_HOLE && shim_is_on())
		files_punched(fd, offset, length);
}

void release_truncated(int fd, uint64_t length)
{
	if (shim_is_on())
		files_punched(fd, length, UINT64_MAX - length);
}
