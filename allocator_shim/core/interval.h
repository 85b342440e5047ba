/* SPDX-License-Identifier: MIT */
/*
 * A thread that keeps to the interval where the program releases nothing.
 *
 * It is the kernel's alone: libc does not know of it, and it calls no function of libc
 * but those that only compute.  So it can be started whatever locks of libc or of
 * the allocator are held, in the child of a fork, too.  pthread_create() allocates.
 * A program whose last own thread calls pthread_exit() ends as ever, and stdio and
 * malloc() go on without locks in a program that has one thread.
 */
#ifndef PGTC_INTERVAL_H
#define PGTC_INTERVAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * No signal frame is ever on this stack, whatever its size: all signals are blocked,
 * those of libc included.
 */
#define SHIM_INTERVAL_STACK (32 << 10)

/* The thread of one address space.  It must be all zero at first. */
struct shim_interval {
	/* Its id, which the kernel clears when it has ended; 0: there is none. */
	_Atomic int32_t thread;
	/* Not 0 to have it end. */
	_Atomic int32_t end;
	/* What the register for thread-local memory points to. */
	uint64_t local[64];
	char stack[SHIM_INTERVAL_STACK] __attribute__((aligned(64)));
};

/* Start the thread, if the conf asks for it and there is none yet. */
void shim_interval_begin(void);

/*
 * End the thread, and wait until it is gone.  The program is about to do what it can
 * do only with a single thread, or what is to hold for all threads.
 *
 * Return: whether there was a thread.
 */
bool shim_interval_end(void);

#endif
