// SPDX-License-Identifier: MIT
/*
 * libpgtable_cleanup.so stands in front of the libc functions by which a program gives
 * memory back.  Each function here has libc's do the work, and notes what was released.
 *
 * syscall() is in syscall.c.  These are left out on purpose:
 * - posix_madvise(): glibc ignores POSIX_MADV_DONTNEED, so nothing is released
 * - calls that libc itself makes, for its malloc, say: these can't be seen
 */

/* With this macro headers would turn mmap() into mmap64(); both are defined here. */
#undef _FILE_OFFSET_BITS

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "filter.h"
#include "next.h"
#include "pgtable_cleanup.h"
#include "release.h"
#include "shim.h"

/* musl's headers have macros of these names. */
#undef mmap64
#undef fallocate64
#undef ftruncate64

#define INTERPOSED __attribute__((visibility("default")))

/* Put a function of a fixed type in the place of a variadic one: next.h says why. */
#define IN_PLACE_OF(name) __asm__(#name) INTERPOSED

INTERPOSED int madvise(void *addr, size_t length, int advice)
{
	int result;

	if (advice == MADV_CLEANUP_PGTABLE)
		return next_answer(shim_cleanup_pgtable(addr, length));
	result = next.madvise(addr, length, advice);
	if (!result)
		release_advised(addr, length, advice);
	return result;
}

INTERPOSED ssize_t process_madvise(int pidfd, const struct iovec *ranges,
				   size_t nr, int advice, unsigned int flags)
{
	ssize_t result = next.process_madvise(pidfd, ranges, nr, advice, flags);

	release_process_advised(pidfd, ranges, nr, advice, result);
	return result;
}

INTERPOSED int munmap(void *addr, size_t length)
{
	int result = next.munmap(addr, length);

	if (!result)
		release_unmapped(addr, length);
	return result;
}

void *moving(void *old, size_t old_length, size_t length, int flags,
	     void *wanted) IN_PLACE_OF(mremap);

void *moving(void *old, size_t old_length, size_t length, int flags,
	     void *wanted)
{
	void *result = next.mremap(old, old_length, length, flags, wanted);

	if (result != MAP_FAILED)
		release_moved(old, old_length, result, length, flags);
	return result;
}

INTERPOSED void *mmap(void *addr, size_t length, int prot, int flags, int fd,
		      off_t offset)
{
	void *result = next.mmap(addr, length, prot, flags, fd, offset);

	if (result != MAP_FAILED)
		release_mapped_over(result, length, flags, fd, offset);
	return result;
}

INTERPOSED void *mmap64(void *addr, size_t length, int prot, int flags, int fd,
			off_t offset) __attribute__((alias("mmap")));

INTERPOSED int fallocate(int fd, int mode, off_t offset, off_t length)
{
	int result = next.fallocate(fd, mode, offset, length);

	if (!result)
		release_allocated(fd, mode, offset, length);
	return result;
}

INTERPOSED int fallocate64(int fd, int mode, off_t offset, off_t length)
	__attribute__((alias("fallocate")));

INTERPOSED int ftruncate(int fd, off_t length)
{
	int result = next.ftruncate(fd, length);

	if (!result)
		release_truncated(fd, length);
	return result;
}

INTERPOSED int ftruncate64(int fd, off_t length)
	__attribute__((alias("ftruncate")));

int controlling(int option, unsigned long a, unsigned long b, unsigned long c,
		unsigned long d) IN_PLACE_OF(prctl);

int controlling(int option, unsigned long a, unsigned long b, unsigned long c,
		unsigned long d)
{
	bool is_own;
	int result;

	if (!filter_by_prctl(option, a, b))
		return next.prctl(option, a, b, c, d);
	is_own = filter_before();
	result = next.prctl(option, a, b, c, d);
	if (is_own)
		filter_after_prctl(result);
	return result;
}
