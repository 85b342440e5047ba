/* SPDX-License-Identifier: MIT */
/*
 * System calls without libc's errno, cancellation or interposed wrappers.  The shim
 * runs when the program calls madvise(): the program may hold locks then, or
 * handle a signal.
 */
#ifndef PGTC_SYSCALLS_H
#define PGTC_SYSCALLS_H

#include <sys/mman.h>

#include "arch.h"

/* Old headers of the kernel or the C library lack these, whose kernels may have them. */
#ifndef __NR_process_madvise
#define __NR_process_madvise 440
#endif
#ifndef __NR_landlock_restrict_self
#define __NR_landlock_restrict_self 446
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* All arguments are longs, and the result may be a negative errno. */
#define shim_syscall6(n, a, b, c, d, e, f)                                     \
	shim_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), \
		     (long)(f))
#define shim_syscall5(n, a, b, c, d, e) shim_syscall6(n, a, b, c, d, e, 0)
#define shim_syscall4(n, a, b, c, d) shim_syscall6(n, a, b, c, d, 0, 0)
#define shim_syscall3(n, a, b, c) shim_syscall6(n, a, b, c, 0, 0, 0)
#define shim_syscall2(n, a, b) shim_syscall6(n, a, b, 0, 0, 0, 0)
#define shim_syscall1(n, a) shim_syscall6(n, a, 0, 0, 0, 0, 0)
#define shim_syscall0(n) shim_syscall6(n, 0, 0, 0, 0, 0, 0)

/* Say whether a result of shim_syscall() is an errno. */
#define shim_failed(result) ((unsigned long)(result) > -4096UL)

/* Map memory for which no swap is reserved.  The result is as shim_syscall()'s. */
#define shim_map(length)                                                    \
	shim_syscall6(__NR_mmap, 0, length, PROT_READ | PROT_WRITE,         \
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)

#endif
