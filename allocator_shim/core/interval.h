/* SPDX-License-Identifier: MIT */
/*
 * A thread that drains when the interval is over, even if the program releases nothing.
 *
 * A system call makes this thread, and libc does not know of it.  It calls no function
 * of libc but those that only compute.  So it can be started whatever locks of libc or
 * of the allocator are held, also in the child of a fork.  pthread_create() would
 * allocate memory.  A program whose last own thread calls pthread_exit() ends as ever.
 * In a program with one thread of its own, stdio and malloc() still do without locks.
 */
#ifndef PGTC_INTERVAL_H
#define PGTC_INTERVAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The stack need not hold a signal's frame, which can be large: all signals are blocked,
 * those of libc included.
 */
#define SHIM_INTERVAL_STACK (32 << 10)

/* The thread of one address space.  It must be all zero at first. */
struct shim_interval {
	/* The thread's id, which the kernel clears when the thread has ended; 0: no thread */
	_Atomic int32_t thread;
	/* The thread ends once this is not 0. */
	_Atomic int32_t end;
	/* How many calls of the program keep a new thread from starting meanwhile. */
	_Atomic int32_t held;
	/* What the register for thread-local memory points to. */
	uint64_t local[64];
	char stack[SHIM_INTERVAL_STACK] __attribute__((aligned(64)));
};

/* Start the thread, if the conf asks for it and there is none yet. */
void shim_interval_begin(void);

/*
 * End the thread, and wait until it is gone.
 *
 * Return: whether there was a thread.
 */
bool shim_interval_end(void);

/*
 * End the thread likewise, and start none until shim_interval_go_on().  This is for
 * calls of the program that only a process with one thread can make, or that are to
 * hold for all threads: a thread that another one started meanwhile would still have
 * the old user, say.
 */
bool shim_interval_hold(void);
void shim_interval_go_on(bool was_there);

#endif
