// SPDX-License-Identifier: MIT
/* Count the instructions of a munmap() in a program that has mapped no file. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload.h"

/* Call munmap() between two stops, by the library or not; nothing is mapped there. */
static void unmap(char *nothing, int seen)
{
	munmap(nothing, PAGE);
	raise(SIGSTOP);
	if (seen)
		munmap(nothing, PAGE);
	else
		unseen(SYS_munmap, (long)nothing, PAGE, 0, 0);
	raise(SIGSTOP);
	_exit(0);
}

/* Return the number of instructions between the two stops. */
static long steps(char *nothing, int seen)
{
	pid_t child = fork();
	long count = 0;
	int status;

	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		unmap(nothing, seen);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
	do {
		CHECK(!ptrace(PTRACE_SINGLESTEP, child, NULL, NULL));
		CHECK(waitpid(child, &status, 0) == child &&
		      WIFSTOPPED(status));
		count++;
	} while (WSTOPSIG(status) != SIGSTOP);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return count;
}

int main(void)
{
	char *nothing = map_units(1);

	munmap(nothing, UNIT);
	printf("%ld\n", steps(nothing, 1) - steps(nothing, 0));
	return 0;
}
