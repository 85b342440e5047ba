/* SPDX-License-Identifier: MIT */
/*
 * System calls without libc's errno, cancellation or interposed wrappers.  The shim
 * runs when the program calls madvise(): the program may hold locks then, or
 * handle a signal.
 */
#ifndef PGTC_SYSCALLS_H
#define PGTC_SYSCALLS_H

#include <asm/unistd.h>
#include <sys/mman.h>

/* Linux has had this since 5.18; older headers of the C library lack it. */
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

/* Return the result, or the negative errno. */
static inline long shim_syscall(long number, long a, long b, long c, long d,
				long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10),
			   "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

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
