/* SPDX-License-Identifier: MIT */
/* x86-64, as arch.h asks for it. */
#ifndef PGTC_ARCH_X86_64_H
#define PGTC_ARCH_X86_64_H

#include <asm/unistd.h>
#include <stdint.h>

/* With five levels of tables, too: only a hint above this gets memory there. */
#define ARCH_ADDRESS_BITS 47

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

/*
 * Make a thread on a stack whose end is @stack.  The kernel keeps the thread's id in
 * @thread, and makes the register for thread-local memory point to @local.
 *
 * Return: the id of the new thread, or a negative errno.
 */
static inline long shim_spawn(unsigned long flags, char *stack, void *thread,
			      uint64_t *local, void (*begin)(void))
{
	register long r10 __asm__("r10") = (long)thread;
	register long r8 __asm__("r8") = (long)local;
	long result;

	/* Compilers and libc may read these two words: they hold their block's address. */
	local[0] = (uintptr_t)local;
	local[2] = (uintptr_t)local;
	__asm__ volatile("syscall\n"
			 "test %%rax, %%rax\n"
			 "jnz 1f\n"
			 "xor %%ebp, %%ebp\n"
			 "call *%[begin]\n"
			 "ud2\n"
			 "1:"
			 : "=a"(result)
			 : "0"(__NR_clone), "D"(flags), "S"(stack), "d"(thread),
			   "r"(r10), "r"(r8), [begin] "b"(begin)
			 : "rcx", "r11", "memory");
	return result;
}

#endif
