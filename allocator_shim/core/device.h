/* SPDX-License-Identifier: MIT */
/* The module's device, by a descriptor that a program may take away at any time. */
#ifndef PGTC_DEVICE_H
#define PGTC_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "pgtable_cleanup.h"

/*
 * Open the device and see that it speaks our ABI; under a seccomp filter, that
 * its ioctl is survived.  Return: NULL, or why it is of no use.
 */
const char *shim_device_open(void);

/*
 * One call of the module on this process, to its end.  @args: flags, levels and
 * the ranges are set; the rest is written, the counts being those of all parts.
 *
 * The descriptor is proved to be the device still, and opened again if not: no
 * other file ever sees the ioctl.
 *
 * Return: 0, -ENOMEM (a hole, the rest is done), -EAGAIN (contended), or another
 * negative errno; -ENODEV if the device is not to be had any more.
 */
long shim_device_call(struct pgtable_cleanup_args *args);

#endif
