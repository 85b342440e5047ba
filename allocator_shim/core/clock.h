/* SPDX-License-Identifier: MIT */
/* Ask for the time by a system call: the thread of interval.c can't call libc. */
#ifndef PGTC_CLOCK_H
#define PGTC_CLOCK_H

#include <stdint.h>
#include <time.h>

#include "syscalls.h"

#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_SEC UINT64_C(1000000000)

static inline uint64_t shim_clock(clockid_t clock)
{
	struct timespec time = { 0, 0 };

	shim_syscall2(__NR_clock_gettime, clock, &time);
	return time.tv_sec * NSEC_PER_SEC + time.tv_nsec;
}

#endif
