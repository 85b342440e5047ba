// SPDX-License-Identifier: MIT
/* The functions that this library's stand in front of. */

#undef _FILE_OFFSET_BITS

#include <dlfcn.h>
#include <errno.h>

#include "next.h"
#include "syscalls.h"

long next_answer(long result)
{
	if (!shim_failed(result))
		return result;
	errno = -result;
	return -1;
}

static int own_madvise(void *addr, size_t length, int advice)
{
	return next_answer(shim_syscall3(__NR_madvise, addr, length, advice));
}

static ssize_t own_process_madvise(int pidfd, const struct iovec *ranges,
				   size_t nr, int advice, unsigned int flags)
{
	return next_answer(shim_syscall5(__NR_process_madvise, pidfd, ranges,
					 nr, advice, flags));
}

static int own_munmap(void *addr, size_t length)
{
	return next_answer(shim_syscall2(__NR_munmap, addr, length));
}

static void *own_mremap(void *old, size_t old_length, size_t length, int flags,
			void *wanted)
{
	return (void *)next_answer(shim_syscall5(__NR_mremap, old, old_length,
						 length, flags, wanted));
}

static void *own_mmap(void *addr, size_t length, int prot, int flags, int fd,
		      off_t offset)
{
	return (void *)next_answer(shim_syscall6(__NR_mmap, addr, length, prot,
						 flags, fd, offset));
}

static int own_fallocate(int fd, int mode, off_t offset, off_t length)
{
	return next_answer(
		shim_syscall4(__NR_fallocate, fd, mode, offset, length));
}

static int own_ftruncate(int fd, off_t length)
{
	return next_answer(shim_syscall2(__NR_ftruncate, fd, length));
}

static int own_prctl(int option, unsigned long a, unsigned long b,
		     unsigned long c, unsigned long d)
{
	return next_answer(shim_syscall5(__NR_prctl, option, a, b, c, d));
}

static int own_mlock(const void *addr, size_t length)
{
	return next_answer(shim_syscall2(__NR_mlock, addr, length));
}

static int own_mlock2(const void *addr, size_t length, unsigned int flags)
{
	return next_answer(shim_syscall3(__NR_mlock2, addr, length, flags));
}

static int own_mlockall(int flags)
{
	return next_answer(shim_syscall1(__NR_mlockall, flags));
}

static long own_syscall(long number, long a, long b, long c, long d, long e,
			long f)
{
	return next_answer(shim_syscall6(number, a, b, c, d, e, f));
}

struct next next = {
	.madvise = own_madvise,
	.process_madvise = own_process_madvise,
	.munmap = own_munmap,
	.mremap = own_mremap,
	.mmap = own_mmap,
	.fallocate = own_fallocate,
	.ftruncate = own_ftruncate,
	.prctl = own_prctl,
	.mlock = own_mlock,
	.mlock2 = own_mlock2,
	.mlockall = own_mlockall,
};

long (*next_syscall)(long number, long a, long b, long c, long d, long e,
		     long f) = own_syscall;

void next_find(void)
{
	void *found;

	/* An older libc lacks process_madvise(). */
#define FIND(name)                                          \
	do {                                                \
		found = dlsym(RTLD_NEXT, #name);            \
		if (found)                                  \
			next.name = (typeof(next.name))found; \
	} while (0)
	FIND(madvise);
	FIND(process_madvise);
	FIND(munmap);
	FIND(mremap);
	FIND(mmap);
	FIND(fallocate);
	FIND(ftruncate);
	FIND(prctl);
	FIND(mlock);
	FIND(mlock2);
	FIND(mlockall);
	FIND(pthread_create);
#undef FIND
	found = dlsym(RTLD_NEXT, "syscall");
	if (found)
		next_syscall = (typeof(next_syscall))found;
}
