/* SPDX-License-Identifier: MIT */
/* Tell whether a descriptor still is of the file that it was of. */
#ifndef PGTC_IDENTITY_H
#define PGTC_IDENTITY_H

#include <stdint.h>

/*
 * Return a number that no other file has, or 0 if the descriptor is not open.  One
 * word can be stored at once, whoever reads it meanwhile; a struct stat can not.
 */
uint64_t shim_identity(int fd);

#endif
