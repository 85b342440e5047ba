/* SPDX-License-Identifier: MIT */
/* The shared file mappings of this process, from which PUNCH_HOLE takes pages. */
#ifndef PGTC_FILES_H
#define PGTC_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Note that the program mapped a file, if it is a regular one or a memfd. */
void files_mapped(int fd, const void *addr, size_t length, uint64_t offset);

/* Note that a range is not mapped any more, or that something else is there. */
void files_unmapped(const void *addr, size_t length);

/*
 * Note that a mapping of a file grew, moved, or got a copy at another address.
 * @stays: whether the old mapping is there still
 */
void files_moved(const void *old, size_t old_length, const void *addr,
		 size_t length, bool stays);

/* Note the places at which this process maps a punched range of the file. */
void files_punched(int fd, uint64_t offset, uint64_t length);

#endif
