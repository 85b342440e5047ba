/* SPDX-License-Identifier: MIT */
/* The module's device; a program may close its descriptor at any time. */
#ifndef PGTC_DEVICE_H
#define PGTC_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "pgtable_cleanup.h"

/*
 * Open the device and check that it speaks our ABI.  Under a seccomp filter,
 * check first that the filter does not kill the program for the ioctl.
 *
 * Return: NULL, or why the device is of no use.
 */
const char *shim_device_open(void);

/*
 * Call the module on this process until all ranges are done.  The caller sets the
 * flags, levels and ranges of @args; the rest is written here, with the counts of
 * all calls added up.
 *
 * Before each call the descriptor is checked to be the device still, and opened
 * again if it is not: no other file ever sees the ioctl.
 *
 * Return: 0, -ENOMEM (there is a hole, all else is done), -EAGAIN (locks were taken),
 * -ENODEV (the device can't be opened any more), or another negative errno.
 */
long shim_device_call(struct pgtable_cleanup_args *args);

#endif
