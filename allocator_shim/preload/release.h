/* SPDX-License-Identifier: MIT */
/* Note what madvise() and process_madvise() have released. */
#ifndef PGTC_RELEASE_H
#define PGTC_RELEASE_H

#include <stddef.h>
#include <sys/uio.h>

void release_advised(const void *addr, size_t length, int advice);

/* @result: the bytes that the system call advised, from the first range on */
void release_process_advised(int pidfd, const struct iovec *ranges, size_t nr,
			     int advice, long result);

#endif
