/* SPDX-License-Identifier: MIT */
/* What this kernel does by itself. */
#ifndef PGTC_KERNEL_H
#define PGTC_KERNEL_H

#include <stdbool.h>

/*
 * Does a MADV_DONTNEED of a whole unit free its table, as since Linux 6.14 where
 * it was built so?  False until it was tried.
 */
bool shim_kernel_frees_units(void);

/* Try it on memory of its own, and look at VmPTE; once. */
void shim_kernel_probe(void);

#endif
