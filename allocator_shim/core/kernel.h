/* SPDX-License-Identifier: MIT */
/* Find out whether this kernel frees page tables by itself. */
#ifndef PGTC_KERNEL_H
#define PGTC_KERNEL_H

#include <stdbool.h>

/*
 * Say whether a MADV_DONTNEED of a whole unit frees its table, as it does since
 * Linux 6.14 with CONFIG_PT_RECLAIM.  This is false until shim_kernel_probe() ran.
 */
bool shim_kernel_frees_units(void);

/* Find that out on scratch memory.  Once the answer is clear, this does nothing. */
void shim_kernel_probe(void);

#endif
