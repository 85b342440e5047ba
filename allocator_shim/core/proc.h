/* SPDX-License-Identifier: MIT */
/* Read figures of this process from /proc, without stdio or malloc. */
#ifndef PGTC_PROC_H
#define PGTC_PROC_H

#include <stdbool.h>

/*
 * Get the number after a field of a small file, such as "VmPTE:" in
 * /proc/self/status.
 *
 * Return: whether the field is there.
 */
bool shim_proc_number(const char *path, const char *field,
		      unsigned long *number);

#endif
