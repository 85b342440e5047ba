/* SPDX-License-Identifier: MIT */
/* Tell whether a descriptor still stands for the same file. */
#ifndef PGTC_IDENTITY_H
#define PGTC_IDENTITY_H

#include <stdint.h>

/*
 * Return a number that no other file has, or 0 if the descriptor is not open.  It is
 * one word, which another thread can't read half written, as it could a struct stat.
 */
uint64_t shim_identity(int fd);

#endif
