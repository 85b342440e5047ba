// SPDX-License-Identifier: MIT
/* A library that stands in front of libc, behind libpgtable_cleanup.so, as a profiler does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <sys/types.h>

unsigned int calls_behind;

#define FORWARD(type, name, parameters, ...)                            \
	type name parameters                                            \
	{                                                               \
		type(*next) parameters = dlsym(RTLD_NEXT, #name);       \
                                                                        \
		calls_behind++;                                         \
		return next(__VA_ARGS__);                               \
	}

FORWARD(int, madvise, (void *addr, size_t length, int advice), addr, length,
	advice)
FORWARD(int, munmap, (void *addr, size_t length), addr, length)
FORWARD(void *, mremap,
	(void *old, size_t old_length, size_t length, int flags, void *wanted),
	old, old_length, length, flags, wanted)
FORWARD(void *, mmap,
	(void *addr, size_t length, int prot, int flags, int fd, off_t offset),
	addr, length, prot, flags, fd, offset)
FORWARD(int, fallocate, (int fd, int mode, off_t offset, off_t length), fd,
	mode, offset, length)
FORWARD(int, ftruncate, (int fd, off_t length), fd, length)
FORWARD(int, prctl, (int option, long a, long b, long c, long d), option, a, b,
	c, d)
FORWARD(long, syscall,
	(long number, long a, long b, long c, long d, long e, long f), number,
	a, b, c, d, e, f)
