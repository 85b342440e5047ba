// SPDX-License-Identifier: MIT
/* Read figures of this process from /proc, without stdio or malloc. */

#include <fcntl.h>
#include <stddef.h>

#include "proc.h"
#include "syscalls.h"

/* This may run on the stack of a signal handler, which is small. */
#define PART 128

/* What is known of a file's current line, while the file is read byte by byte. */
struct line {
	const char *field;
	size_t matched;
	bool is_other, has_digit;
	unsigned long number;
};

/* Return: whether all digits of the field's number have been read. */
static bool take_byte(struct line *line, char byte)
{
	if (byte >= '0' && byte <= '9' && !line->field[line->matched] &&
	    !line->is_other) {
		line->number = line->number * 10 + byte - '0';
		line->has_digit = true;
		return false;
	}
	if (line->has_digit)
		return true;
	if (byte == '\n') {
		line->matched = 0;
		line->is_other = false;
	} else if (!line->field[line->matched]) {
		line->is_other = line->is_other ||
				 (byte != ' ' && byte != '\t');
	} else if (!line->is_other && byte == line->field[line->matched]) {
		line->matched++;
	} else {
		line->is_other = true;
	}
	return false;
}

bool shim_proc_number(const char *path, const char *field,
		      unsigned long *number)
{
	struct line line = { .field = field };
	bool done = false;
	char part[PART];
	long fd, size, i;

	fd = shim_syscall4(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC,
			   0);
	if (fd < 0)
		return false;
	while (!done && (size = shim_syscall3(__NR_read, fd, part, PART)) > 0)
		for (i = 0; i < size && !done; i++)
			done = take_byte(&line, part[i]);
	shim_syscall1(__NR_close, fd);
	if (!line.has_digit)
		return false;
	*number = line.number;
	return true;
}
