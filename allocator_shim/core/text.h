/* SPDX-License-Identifier: MIT */
/* Write messages without stdio or malloc. */
#ifndef PGTC_TEXT_H
#define PGTC_TEXT_H

#include <stddef.h>
#include <stdint.h>

#define SHIM_TEXT_ROOM 512

/* A line that is being written.  Text that does not fit in is cut off. */
struct shim_text {
	size_t length;
	char bytes[SHIM_TEXT_ROOM];
};

void shim_text_add(struct shim_text *text, const char *string);
void shim_text_add_bytes(struct shim_text *text, const char *bytes, size_t n);
void shim_text_add_number(struct shim_text *text, uint64_t number);

/* Write "pgtable-cleanup: ", the text and a newline to stderr, in one write. */
void shim_text_say(const struct shim_text *text);

/* Write a message that is one string to stderr, in the same way. */
void shim_say(const char *string);

#endif
