/* SPDX-License-Identifier: MIT */
/* Which shared file mappings this process made: where PUNCH_HOLE takes pages from. */
#ifndef PGTC_FILES_H
#define PGTC_FILES_H

#include <stddef.h>
#include <stdint.h>

/* The program mapped a file.  What is not a regular one or memfd is left out. */
void files_mapped(int fd, const void *addr, size_t length, uint64_t offset);

/* A range is not mapped any more, or something else is there. */
void files_unmapped(const void *addr, size_t length);

/* A range of the file has no pages any more: note where this process maps it. */
void files_punched(int fd, uint64_t offset, uint64_t length);

#endif
