// SPDX-License-Identifier: MIT
/* Read figures of this process from /proc, without stdio or malloc. */

#include <fcntl.h>
#include <string.h>

#include "proc.h"
#include "syscalls.h"

#define FILE_ROOM 4096

bool shim_proc_number(const char *path, const char *field,
		      unsigned long *number)
{
	size_t length = strlen(field);
	char text[FILE_ROOM];
	long fd, size;
	char *line;

	fd = shim_syscall4(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC,
			   0);
	if (fd < 0)
		return false;
	size = shim_syscall3(__NR_read, fd, text, sizeof(text) - 1);
	shim_syscall1(__NR_close, fd);
	text[size > 0 ? size : 0] = '\0';
	for (line = text; strncmp(line, field, length); line++) {
		line = strchr(line, '\n');
		if (!line)
			return false;
	}
	for (line += length; *line == ' ' || *line == '\t'; line++)
		;
	if (*line < '0' || *line > '9')
		return false;
	for (*number = 0; *line >= '0' && *line <= '9'; line++)
		*number = *number * 10 + *line - '0';
	return true;
}
