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

/*
 * Remember which file stderr is.  From then on messages go to no other, whatever the
 * program makes descriptor 2 later.
 */
void shim_text_begin(void);

/*
 * Write "pgtable-cleanup: ", the text and a newline to stderr, in one write.  Nothing
 * is written where that would block the program for long, or end it.
 */
void shim_text_say(const struct shim_text *text);

/* Write a message that is one string to stderr, in the same way. */
void shim_say(const char *string);

#endif
