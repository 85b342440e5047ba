// SPDX-License-Identifier: MIT
/* What the library's thread does with thread:true, and what programs can do beside it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "preload.h"

static char *area;

/* Under an emulator the kernel counts its threads, too, which are as they like. */
static int emulators;

/* Nothing may allocate while `forbidden` is set: a lock of the allocator may be held. */
static volatile int forbidden;
#ifdef __GLIBC__
extern void *__libc_calloc(size_t number, size_t size);
#else
static void *__libc_calloc(size_t number, size_t size)
{
	static void *(*found)(size_t number, size_t size);

	if (!found)
		found = dlsym(RTLD_NEXT, "calloc");
	return found(number, size);
}
#endif

void *calloc(size_t number, size_t size)
{
	if (forbidden)
		abort();
	return __libc_calloc(number, size);
}

/* Release a page, and then nothing more, until the library has drained by itself. */
static void see_a_drain(void)
{
	uint64_t before = counts().drains;
	time_t end = time(NULL) + 60;

	forbidden = 1;
	release(area);
	forbidden = 0;
	while (counts().drains == before) {
		CHECK(time(NULL) < end);
		usleep(1000);
	}
}

/* Return how many threads there are, and check a line in the status of each. */
static int threads(const char *line)
{
	DIR *directory = opendir("/proc/self/task");
	struct dirent *entry;
	char path[300], text[4096];
	int found = 0;

	CHECK(directory);
	while ((entry = readdir(directory))) {
		FILE *file;
		size_t length;

		if (entry->d_name[0] == '.')
			continue;
		found++;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status",
			 entry->d_name);
		file = fopen(path, "r");
		CHECK(file);
		length = fread(text, 1, sizeof(text) - 1, file);
		text[length] = '\0';
		fclose(file);
		if (!strstr(text, line))
			found += 100;
	}
	closedir(directory);
	return found;
}

static pid_t fork_by_syscall(void)
{
#ifdef SYS_fork
	return syscall(SYS_fork);
#else
	return syscall(SYS_clone, SIGCHLD, 0L, 0L, 0L, 0L);
#endif
}

static void *see_one(void *unused)
{
	see_a_drain();
	return unused;
}

int main(int argc, char **argv)
{
	const char *way = argv[1];
	pthread_t thread;
	int status;

	CHECK(argc == 2);
	area = map_units(1);
	emulators = threads("Name:\t") - 1;
	see_a_drain();
	CHECK(threads("Name:\t") == 2 + emulators);
	if (!strcmp(way, "fork")) {
		pid_t child = fork();

		if (!child) {
			CHECK(emulators || threads("Name:\t") == 1);
			see_a_drain();
			_exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child && !status);
	} else if (!strcmp(way, "fork by syscall")) {
		pid_t child = fork_by_syscall();

		if (!child) {
			see_a_drain();
			_exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child && !status);
	} else if (!strcmp(way, "daemon")) {
		CHECK(!daemon(1, 1));
		see_a_drain();
	} else if (!strcmp(way, "vfork")) {
		pid_t child = vfork();

		if (!child) {
			release(area);
			_exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child && !status);
		see_a_drain();
	} else if (!strcmp(way, "signals")) {
		/* Only the library's thread blocks signals, and all that can be blocked. */
		CHECK(threads("SigBlk:\tfffffffffffbfeff\n") == 102);
	} else if (!strcmp(way, "namespace")) {
		/* unshare() fails by EINVAL in a process with two threads. */
		CHECK(!unshare(CLONE_NEWUSER) || errno != EINVAL);
		CHECK(!syscall(SYS_unshare, CLONE_SIGHAND | CLONE_VM));
		see_a_drain();
	} else if (!strcmp(way, "user")) {
		if (getuid())
			return 77;
		CHECK(!setgroups(0, NULL) && !setresgid(65534, 65534, 65534) &&
		      !setresuid(65534, 65534, 65534));
		see_a_drain();
		CHECK(emulators ||
		      threads("Uid:\t65534\t65534\t65534\t65534\n"
			      "Gid:\t65534\t65534\t65534\t65534\n") == 2);
	} else if (!strcmp(way, "last thread")) {
		pthread_exit(NULL);
	} else if (!strcmp(way, "exit")) {
		syscall(SYS_exit, 0);
	} else if (!strcmp(way, "threads")) {
		CHECK(!pthread_create(&thread, NULL, see_one, NULL) &&
		      !pthread_join(thread, NULL));
		see_a_drain();
	}
	printf("%s\n", way);
	return 0;
}
