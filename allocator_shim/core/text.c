// SPDX-License-Identifier: MIT
/* Write messages without stdio or malloc. */

#include <string.h>

#include "syscalls.h"
#include "text.h"

#define STDERR 2

void shim_text_add_bytes(struct shim_text *text, const char *bytes, size_t n)
{
	size_t room = SHIM_TEXT_ROOM - text->length;

	if (n > room)
		n = room;
	memcpy(text->bytes + text->length, bytes, n);
	text->length += n;
}

void shim_text_add(struct shim_text *text, const char *string)
{
	shim_text_add_bytes(text, string, strlen(string));
}

void shim_text_add_number(struct shim_text *text, uint64_t number)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = '0' + number % 10;
		number /= 10;
	} while (number);
	shim_text_add_bytes(text, digits + at, sizeof(digits) - at);
}

void shim_text_say(const struct shim_text *text)
{
	struct shim_text line = { 0 };

	shim_text_add(&line, "pgtable-cleanup: ");
	shim_text_add_bytes(&line, text->bytes, text->length);
	/* A line that was cut ends in a newline, too. */
	if (line.length == SHIM_TEXT_ROOM)
		line.length--;
	line.bytes[line.length++] = '\n';
	shim_syscall3(__NR_write, STDERR, line.bytes, line.length);
}

void shim_say(const char *string)
{
	struct shim_text text = { 0 };

	shim_text_add(&text, string);
	shim_text_say(&text);
}
