// SPDX-License-Identifier: MIT
/*
 * Become another user while a second thread releases memory, and exit with 1 if any
 * thread of the process still is the user of before.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define UNIT (2UL << 20)
#define UNITS 32
#define NOBODY 65534

static void *release(void *unused)
{
	char *at = mmap(NULL, UNITS * UNIT, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int turn;

	(void)unused;
	for (turn = 0;; turn++) {
		at[turn % UNITS * UNIT] = 1;
		madvise(at + turn % UNITS * UNIT, 4096, MADV_DONTNEED);
	}
	return NULL;
}

static int others(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	int found = 0;

	while (tasks && (task = readdir(tasks))) {
		char path[300], line[256];
		unsigned int user = NOBODY;
		FILE *status;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status",
			 task->d_name);
		status = task->d_name[0] == '.' ? NULL : fopen(path, "r");
		if (!status)
			continue;
		while (fgets(line, sizeof(line), status))
			sscanf(line, "Uid: %u", &user);
		fclose(status);
		found += user != NOBODY;
	}
	return found;
}

int main(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, release, NULL);
	usleep(3000);
	if (setresuid(NOBODY, NOBODY, NOBODY))
		return 2;
	usleep(2000);
	_exit(others() != 0);
}
