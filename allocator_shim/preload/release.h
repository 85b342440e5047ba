/* SPDX-License-Identifier: MIT */
/* Note what the program's successful calls have released. */
#ifndef PGTC_RELEASE_H
#define PGTC_RELEASE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

void release_advised(const void *addr, size_t length, int advice);

/* @result: the bytes that the system call advised, from the first range on */
void release_process_advised(int pidfd, const struct iovec *ranges, size_t nr,
			     int advice, long result);

void release_unmapped(const void *addr, size_t length);

/* mremap() has moved a mapping to @at, or left it there with another length. */
void release_moved(const void *old, size_t old_length, const void *at,
		   size_t length, int flags);

/* mmap() has made a mapping, maybe in the place of another. */
void release_mapped_over(const void *addr, size_t length, int flags, int fd,
			 uint64_t offset);

/* fallocate() may have punched a hole. */
void release_allocated(int fd, int mode, uint64_t offset, uint64_t length);

/* ftruncate() has given a file this length, and may have cut pages off. */
void release_truncated(int fd, uint64_t length);

#endif
