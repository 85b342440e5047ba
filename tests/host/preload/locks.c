// SPDX-License-Identifier: MIT
/*
 * A program that locks memory while another thread frees other memory of the same mapping.
 * The hooks move that, and the kernel unlocks a mapping of which a part is moved.  Print in
 * how many turns the memory that is in use had lost its lock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload.h"
#include "process.h"

#define TURNS 200
#define KEPT (2UL << 20)
#define FREED (6UL << 20)

static atomic_bool ended;

static void *work(void *unused)
{
	(void)unused;
	while (!ended) {
		/* The compiler may leave out a malloc() whose memory nobody reads. */
		char *volatile at = malloc(FREED);

		free(at);
	}
	return NULL;
}

/* Read a line of smaps after another until one is of the mapping that holds @at. */
static bool is_locked(const char *at)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	bool found = false, locked = false;
	unsigned long start, end;
	char line[512];

	CHECK(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			found = start <= (unsigned long)at &&
				(unsigned long)at < end;
		else if (found && !strncmp(line, "VmFlags:", 8))
			locked = strstr(line, " lo");
	}
	fclose(smaps);
	return locked;
}

static int lock(const char *how, const char *at, size_t length)
{
	if (!strcmp(how, "mlock"))
		return mlock(at, length);
	if (!strcmp(how, "mlock2"))
		return mlock2(at, length, 0);
	if (!strcmp(how, "mlockall"))
		return mlockall(MCL_CURRENT);
	if (!strcmp(how, "syscall mlock"))
		return syscall(SYS_mlock, at, length);
	if (!strcmp(how, "syscall mlock2"))
		return syscall(SYS_mlock2, at, length, 0);
	if (!strcmp(how, "syscall mlockall"))
		return syscall(SYS_mlockall, MCL_CURRENT);
	CHECK(!strcmp(how, "unseen"));
	return unseen(SYS_mlock, (long)at, length, 0, 0);
}

int main(int argc, char **argv)
{
	const struct hooks_of_process *(*librarys)(void) =
		dlsym(RTLD_DEFAULT, "pgtable_cleanup_hooks_1");
	struct jemalloc jemalloc = { .prefix = "",
				     .malloc = malloc,
				     .free = free };
	char *kept, *freed, *first;
	int tries, turn, lost = 0;
	pthread_t worker;
	const char *why;
	size_t length;
	bool is_seen;

	jemalloc.mallctl = dlsym(RTLD_DEFAULT, "mallctl");
	CHECK(argc == 2 && librarys && jemalloc.mallctl);
	is_seen = strcmp(argv[1], "unseen");
	why = librarys()->install(&jemalloc, HOOKS_REMAP);
	if (why)
		fprintf(stderr, "%s\n", why);
	CHECK(!why);
	/* Of what jemalloc hands out, some lies side by side. */
	for (tries = 0; tries < 64; tries++) {
		freed = malloc(FREED);
		kept = malloc(KEPT);
		first = kept < freed ? kept : freed;
		length = (kept < freed ? freed + FREED : kept + KEPT) - first;
		if (length < 2 * FREED)
			break;
	}
	CHECK(tries < 64);
	memset(kept, 1, KEPT);
	free(freed);
	CHECK(!pthread_create(&worker, NULL, work, NULL));
	/* The two threads seldom meet: for a lock that is not seen this goes on until they do. */
	for (turn = 0; is_seen ? turn < TURNS : !lost && turn < 100 * TURNS;
	     turn++) {
		CHECK(!lock(argv[1], first, length));
		lost += !is_locked(kept + KEPT / 2);
		CHECK(!munlockall());
	}
	ended = true;
	CHECK(!pthread_join(worker, NULL));
	printf("%d %lu\n", lost, (unsigned long)librarys()->stats().units);
	return 0;
}
