// SPDX-License-Identifier: MIT
/* A program that makes descriptor 2 something else, or has a stderr that takes no text. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "preload.h"

/* Release a page, so that there are counts to print, and change descriptor 2 or a limit. */
int main(int argc, char **argv)
{
	struct rlimit none = { 0, 0 };
	int saved;

	CHECK(argc == 3);
	release(map_units(1));
	if (!strcmp(argv[1], "file")) {
		close(STDERR_FILENO);
		CHECK(open(argv[2], O_RDWR | O_CREAT, 0600) == STDERR_FILENO);
		CHECK(write(STDERR_FILENO, "DATABASE\n", 9) == 9);
	} else if (!strcmp(argv[1], "back")) {
		saved = dup(STDERR_FILENO);
		CHECK(open(argv[2], O_RDWR | O_CREAT, 0600) > 0);
		CHECK(dup2(saved + 1, STDERR_FILENO) == STDERR_FILENO);
		CHECK(dup2(saved, STDERR_FILENO) == STDERR_FILENO);
	} else if (!strcmp(argv[1], "limit")) {
		CHECK(!setrlimit(RLIMIT_FSIZE, &none));
	}
	return 0;
}
