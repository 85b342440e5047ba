// SPDX-License-Identifier: MIT
/*
 * A program that is linked with libpgtable_cleanup_hooks.a, and with a jemalloc that the
 * test plays: one arena, whose hooks map memory and nothing else.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hooks.h"
#include "pgtable_cleanup_hooks.h"
#include "preload.h"

#define ROUNDS 300
#define THREADS 2

static size_t page, unit;

static void *map_memory(struct extent_hooks *hooks, void *wanted, size_t size,
			size_t alignment, bool *zero, bool *commit,
			unsigned int arena)
{
	char *got = mmap(NULL, size + alignment, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)hooks, (void)arena;
	CHECK(got != MAP_FAILED && !wanted);
	/* A huge page has no table. */
	madvise(got, size + alignment, MADV_NOHUGEPAGE);
	*zero = *commit = true;
	return got + -(uintptr_t)got % alignment;
}

static struct extent_hooks jemallocs = { .alloc = map_memory };
static struct extent_hooks *in_use = &jemallocs;

static int give(void *old, const void *value, size_t length)
{
	memcpy(old, value, length);
	return 0;
}

static int mallctl(const char *name, void *old, size_t *old_length, void *new,
		   size_t new_length)
{
	static const unsigned int one = 1;
	static const bool yes = true;

	(void)old_length, (void)new_length;
	if (!strcmp(name, "opt.retain") || !strcmp(name, "arena.0.initialized"))
		return give(old, &yes, sizeof(yes));
	if (!strcmp(name, "arenas.narenas") || !strcmp(name, "arenas.create"))
		return give(old, &one, sizeof(one));
	if (!strcmp(name, "arena.1.extent_hooks")) {
		struct extent_hooks *own = &jemallocs;

		return give(old, &own, sizeof(own));
	}
	if (!strcmp(name, "arena.0.extent_hooks")) {
		give(old, &in_use, sizeof(in_use));
		if (new)
			in_use = *(struct extent_hooks **)new;
		return 0;
	}
	if (!strcmp(name, "epoch") || !strcmp(name, "arena.1.destroy"))
		return 0;
	return ENOENT;
}

static bool is_filled(const char *at, size_t length, int value)
{
	return at[0] == value && !memcmp(at, at + 1, length - 1);
}

/* Commit, fill, check and decommit pages of a unit that all threads use. */
static void *use(void *argument)
{
	char *at = argument;
	const size_t length = 3 * page;
	int turn;

	for (turn = 1; turn <= ROUNDS; turn++) {
		CHECK(!in_use->commit(in_use, at, unit, 0, length, 0));
		CHECK(is_filled(at, length, 0));
		memset(at, turn % 100 + 1, length);
		CHECK(is_filled(at, length, turn % 100 + 1));
		CHECK(!in_use->decommit(in_use, at, unit, 0, length, 0));
	}
	return NULL;
}

static unsigned long vmpte(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	unsigned long kb = 0;
	char line[256];

	while (fgets(line, sizeof(line), status))
		sscanf(line, "VmPTE: %lu", &kb);
	fclose(status);
	return kb << 10;
}

/* Fill whole units and let them go: their tables must go along with their pages. */
static void see_tables_go(char *first, size_t units)
{
	unsigned long full, left;
	size_t i;

	CHECK(!in_use->commit(in_use, first, units * unit, 0, units * unit, 0));
	for (i = 0; i < units; i++)
		first[i * unit] = 1;
	full = vmpte();
	CHECK(!in_use->decommit(in_use, first, units * unit, 0, units * unit,
				0));
	/* To read a page makes a table again. */
	left = vmpte();
	for (i = 0; i < units; i++)
		CHECK(!first[i * unit]);
	printf("%ld\n", (long)(full - left) / (long)page);
}

int main(void)
{
	bool zero = false, is_committed = false;
	pthread_t threads[THREADS];
	const char *why;
	int i, status;
	pid_t child;
	char *area;

	page = getauxval(AT_PAGESZ);
	unit = page * page / 8;
	why = pgtable_cleanup_hooks_install(mallctl, malloc, free);
	if (why) {
		printf("%s\n", why);
		return 77;
	}
	CHECK(in_use != &jemallocs);
	area = in_use->alloc(in_use, NULL, 64 * unit, unit, &zero,
			     &is_committed, 0);
	CHECK(area && zero && !is_committed && !((uintptr_t)area % unit));
	for (i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&threads[i], NULL, use,
				      area + i * 16 * page));
	child = fork();
	if (!child) {
		use(area + 64 * page);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && !status);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	see_tables_go(area + unit, 32);
	return 0;
}
