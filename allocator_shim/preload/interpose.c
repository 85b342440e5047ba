// SPDX-License-Identifier: MIT
/*
 * libpgtable_cleanup.so stands in front of the libc functions by which a program gives
 * memory back.  Each function here does what libc's does, and notes what was released.
 *
 * These are left out on purpose:
 * - posix_madvise(): glibc ignores POSIX_MADV_DONTNEED, so nothing is released
 * - syscall(): only libpgtable_cleanup_syscall.so has it, see syscall.c
 * - calls that libc itself makes, for its malloc, say: these can't be seen
 */

/* With this macro headers would turn mmap() into mmap64(); both are defined here. */
#undef _FILE_OFFSET_BITS

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "files.h"
#include "pgtable_cleanup.h"
#include "release.h"
#include "shim.h"
#include "syscalls.h"

#define INTERPOSED __attribute__((visibility("default")))

/* Return a system call's result as libc does. */
static long answered(long result)
{
	if (!shim_failed(result))
		return result;
	errno = -result;
	return -1;
}

INTERPOSED int madvise(void *addr, size_t length, int advice)
{
	long result;

	if (advice == MADV_CLEANUP_PGTABLE)
		return answered(shim_cleanup_pgtable(addr, length));
	result = shim_syscall3(__NR_madvise, addr, length, advice);
	if (!result)
		release_advised(addr, length, advice);
	return answered(result);
}

INTERPOSED ssize_t process_madvise(int pidfd, const struct iovec *ranges,
				   size_t nr, int advice, unsigned int flags)
{
	long result = shim_syscall5(__NR_process_madvise, pidfd, ranges, nr,
				    advice, flags);

	release_process_advised(pidfd, ranges, nr, advice, result);
	return answered(result);
}

INTERPOSED int munmap(void *addr, size_t length)
{
	long result = shim_syscall2(__NR_munmap, addr, length);

	if (!result && shim_is_on()) {
		files_unmapped(addr, length);
		shim_released(addr, length, SHIM_MAPPING);
	}
	return answered(result);
}

INTERPOSED void *mremap(void *old, size_t old_length, size_t length, int flags,
			...)
{
	void *wanted = NULL;
	va_list more;
	long result;

	if (flags & MREMAP_FIXED) {
		va_start(more, flags);
		wanted = va_arg(more, void *);
		va_end(more);
	}
	result = shim_syscall5(__NR_mremap, old, old_length, length, flags,
			       wanted);
	if (!shim_failed(result) && shim_is_on()) {
		if ((void *)result != old) {
			/* The old mapping stays, but its pages have moved. */
			if (flags & MREMAP_DONTUNMAP) {
				shim_released(old, old_length, SHIM_PAGES);
			} else {
				files_unmapped(old, old_length);
				shim_released(old, old_length, SHIM_MAPPING);
			}
		} else if (length < old_length) {
			shim_released((char *)old + length, old_length - length,
				      SHIM_MAPPING);
		}
	}
	return (void *)answered(result);
}

INTERPOSED void *mmap(void *addr, size_t length, int prot, int flags, int fd,
		      off_t offset)
{
	long result =
		shim_syscall6(__NR_mmap, addr, length, prot, flags, fd, offset);

	if (!shim_failed(result) && shim_is_on()) {
		bool replaces = flags & MAP_FIXED &&
				!(flags & MAP_FIXED_NOREPLACE);
		/* MAP_SHARED_VALIDATE contains the bit MAP_SHARED, so this finds both. */
		bool shares = flags & MAP_SHARED && !(flags & MAP_ANONYMOUS);

		if (replaces) {
			files_unmapped(addr, length);
			shim_released(addr, length, SHIM_MAPPING);
		}
		if (shares)
			files_mapped(fd, (void *)result, length, offset);
	}
	return (void *)answered(result);
}

INTERPOSED void *mmap64(void *addr, size_t length, int prot, int flags, int fd,
			off_t offset) __attribute__((alias("mmap")));

INTERPOSED int fallocate(int fd, int mode, off_t offset, off_t length)
{
	long result = shim_syscall4(__NR_fallocate, fd, mode, offset, length);

	if (!result && mode & FALLOC_FL_PUNCH_HOLE && shim_is_on())
		files_punched(fd, offset, length);
	return answered(result);
}

INTERPOSED int fallocate64(int fd, int mode, off_t offset, off_t length)
	__attribute__((alias("fallocate")));

INTERPOSED int prctl(int option, ...)
{
	unsigned long arguments[4];
	va_list more;
	int i;

	va_start(more, option);
	for (i = 0; i < 4; i++)
		arguments[i] = va_arg(more, unsigned long);
	va_end(more);
	if (option == PR_SET_SECCOMP)
		shim_before_filter();
	return answered(shim_syscall5(__NR_prctl, option, arguments[0],
				      arguments[1], arguments[2],
				      arguments[3]));
}
