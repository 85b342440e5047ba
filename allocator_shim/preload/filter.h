/* SPDX-License-Identifier: MIT */
/*
 * Get out of the way of a seccomp filter, which may kill the program for a system call
 * that it would not make without this library.
 */
#ifndef PGTC_FILTER_H
#define PGTC_FILTER_H

#include <stdbool.h>

/*
 * Say whether a call may set a filter, or the strict mode.  Questions and probes set
 * none: libseccomp makes some with a filter of NULL, which the kernel refuses.
 */
bool filter_by_prctl(int option, unsigned long mode, unsigned long filter);
bool filter_by_seccomp(unsigned long operation, unsigned long filter);

/*
 * Before a call that may set a filter: do what is left to do, and switch off.
 *
 * Return: whether the filter will be this process's.  It is not if this is a child of
 * vfork(), and then the call needs no function after it.
 */
bool filter_before(void);

/* After the call: switch on again if it did not set the filter. */
void filter_after_prctl(long result);
void filter_after_seccomp(unsigned long flags, long result);

#endif
