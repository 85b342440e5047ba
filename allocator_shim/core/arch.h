/* SPDX-License-Identifier: MIT */
/*
 * What differs by architecture.  Each one has a file of this name here, and a
 * syscall_NAME.S in preload/.  A file here defines:
 *
 * shim_syscall(): make a system call; the result is the kernel's, a negative errno on
 *	failure
 * shim_spawn(): make a thread by clone(), which calls a function that never returns
 * ARCH_ADDRESS_BITS: how long an address is that the kernel gives a program which
 *	asks for no longer one
 */
#ifndef PGTC_ARCH_H
#define PGTC_ARCH_H

#if !defined(__LP64__)
#error "libpgtable_cleanup is for 64-bit programs"
#elif defined(__x86_64__)
#include "arch_x86_64.h"
#elif defined(__aarch64__)
#include "arch_aarch64.h"
#else
#error "libpgtable_cleanup knows x86-64 and aarch64: see arch.h for what another needs"
#endif

#endif
