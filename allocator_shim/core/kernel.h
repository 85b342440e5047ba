/* SPDX-License-Identifier: MIT */
/* Whether this kernel frees page tables by itself. */
#ifndef PGTC_KERNEL_H
#define PGTC_KERNEL_H

#include <stdbool.h>

/*
 * Say whether a MADV_DONTNEED of a whole unit frees its table, as it does since
 * Linux 6.14 where the kernel was built so.  This is false until it was tried.
 */
bool shim_kernel_frees_units(void);

/* Try that once, on scratch memory, by a look at VmPTE. */
void shim_kernel_probe(void);

#endif
