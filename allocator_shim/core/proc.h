/* SPDX-License-Identifier: MIT */
/* What /proc says of this process, without stdio or malloc. */
#ifndef PGTC_PROC_H
#define PGTC_PROC_H

#include <stdbool.h>

/*
 * The number after a field of a small file, such as "VmPTE:" of
 * /proc/self/status.  Return: whether it is there.
 */
bool shim_proc_number(const char *path, const char *field,
		      unsigned long *number);

#endif
