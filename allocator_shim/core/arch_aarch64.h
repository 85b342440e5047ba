/* SPDX-License-Identifier: MIT */
/* aarch64, as arch.h asks for it. */
#ifndef PGTC_ARCH_AARCH64_H
#define PGTC_ARCH_AARCH64_H

#include <asm/unistd.h>
#include <stdint.h>

/* Where addresses may have 52 bits, too: only a hint above this gets memory there. */
#define ARCH_ADDRESS_BITS 48

static inline long shim_syscall(long number, long a, long b, long c, long d,
				long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}

/*
 * Make a thread on a stack whose end is @stack.  The kernel keeps the thread's id in
 * @thread, and makes the register for thread-local memory point to @local.
 *
 * Return: the id of the new thread, or a negative errno.
 */
static inline long shim_spawn(unsigned long flags, char *stack, void *thread,
			      uint64_t *local, void (*begin)(void))
{
	register long x8 __asm__("x8") = __NR_clone;
	register long x0 __asm__("x0") = (long)flags;
	register long x1 __asm__("x1") = (long)stack;
	register long x2 __asm__("x2") = (long)thread;
	/* The last two arguments are in another order than on x86-64. */
	register long x3 __asm__("x3") = (long)local;
	register long x4 __asm__("x4") = (long)thread;
	register long x5 __asm__("x5") = (long)begin;

	/* A frame whose link is zero is the last that an unwinder sees. */
	__asm__ volatile("svc #0\n"
			 "cbnz x0, 1f\n"
			 "mov x29, xzr\n"
			 "mov x30, xzr\n"
			 "blr x5\n"
			 "brk #0\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "x30", "memory");
	return x0;
}

#endif
