// SPDX-License-Identifier: MIT
/*
 * libpgtable_cleanup_syscall.so: the same library, which also stands in front of
 * libc's syscall(), for programs that release memory by it.  It is a library of its
 * own because looking at the number makes each call of syscall() slower.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "shim.h"
#include "syscalls.h"

#define INTERPOSED __attribute__((visibility("default")))

INTERPOSED long syscall(long number, ...)
{
	long a, b, c, d, e, f, result;
	va_list more;

	va_start(more, number);
	a = va_arg(more, long);
	b = va_arg(more, long);
	c = va_arg(more, long);
	d = va_arg(more, long);
	e = va_arg(more, long);
	f = va_arg(more, long);
	va_end(more);
	switch (number) {
	case __NR_madvise:
		return madvise((void *)a, b, c);
	case __NR_process_madvise:
		return process_madvise(a, (const struct iovec *)b, c, d, e);
	case __NR_munmap:
		return munmap((void *)a, b);
	case __NR_mremap:
		return (long)mremap((void *)a, b, c, d, (void *)e);
	case __NR_mmap:
		return (long)mmap((void *)a, b, c, d, e, f);
	case __NR_fallocate:
		return fallocate(a, b, c, d);
	case __NR_prctl:
		return prctl(a, b, c, d, e);
	case __NR_seccomp:
		shim_before_filter();
		break;
	}
	result = shim_syscall6(number, a, b, c, d, e, f);
	if (!shim_failed(result))
		return result;
	errno = -result;
	return -1;
}
