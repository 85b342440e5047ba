// SPDX-License-Identifier: MIT
/*
 * What mimalloc's commit function is told of an arena, and what memory is in that arena.
 *
 *	mimalloc_arena MIB OBJECTS BYTES plain|first|late|own
 *
 * This has mimalloc manage MIB of memory before its first allocation (first), after it
 * (late), for a heap that is bound to that memory (own), or not at all (plain).  Then it
 * allocates OBJECTS of BYTES each, frees all but one in a thousand, and gives back each
 * 2 MiB in which nothing is committed, as hooks would.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096UL
#define UNIT (2UL << 20)
#define MOST_PAGES (1UL << 18)
/* mimalloc 3.5 aligns arenas to more than 64 KiB. */
#define ALIGNMENT (1UL << 30)
#define KEPT 1000

typedef bool commit_function(bool commit, void *start, size_t size,
			     bool *is_zero, void *argument);

bool mi_manage_memory(void *start, size_t size, bool is_committed,
		      bool is_pinned, bool is_zero, int numa_node,
		      bool exclusive, commit_function *commit, void *argument,
		      void **arena);
void *mi_malloc(size_t size);
void mi_free(void *object);
void mi_collect(bool force);
void *mi_heap_new_in_arena(void *arena);
void *mi_heap_malloc(void *heap, size_t size);
void mi_process_info(size_t *elapsed, size_t *user, size_t *system, size_t *rss,
		     size_t *peak_rss, size_t *commit, size_t *peak_commit,
		     size_t *faults);

static char *memory;
static size_t length;
static bool committed[MOST_PAGES];

static bool commit(bool wanted, void *start, size_t size, bool *is_zero,
		   void *argument)
{
	size_t page = ((char *)start - memory) / PAGE;

	(void)argument;
	if (is_zero)
		*is_zero = false;
	memset(&committed[page], wanted, size / PAGE);
	if (!wanted)
		madvise(start, size, MADV_DONTNEED);
	return true;
}

static void reserve(void)
{
	char *mapped = mmap(NULL, length + ALIGNMENT, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (mapped == MAP_FAILED)
		abort();
	memory = (char *)(((uintptr_t)mapped + ALIGNMENT - 1) & -ALIGNMENT);
	/* A huge page would be in memory where no object is. */
	madvise(memory, length, MADV_NOHUGEPAGE);
}

/* Return how many pages are in memory that were never committed. */
static size_t uncommitted(void)
{
	static unsigned char present[MOST_PAGES];
	size_t page, found = 0;

	if (mincore(memory, length, present))
		abort();
	for (page = 0; page < length / PAGE; page++)
		found += present[page] & 1 && !committed[page];
	return found;
}

static void give_back_units(void)
{
	size_t unit;

	for (unit = 0; unit < length; unit += UNIT)
		if (!memchr(&committed[unit / PAGE], true, UNIT / PAGE))
			madvise(memory + unit, UNIT, MADV_DONTNEED);
}

static size_t commit_mib(void)
{
	size_t unused, found;

	mi_process_info(&unused, &unused, &unused, &unused, &unused, &found,
			&unused, &unused);
	return found >> 20;
}

int main(int argc, char **argv)
{
	size_t objects, bytes, i, inside = 0, refused = 0, damaged = 0;
	void *arena = NULL, *heap = NULL;
	const char *when = argv[4];
	char **object;

	if (argc != 5)
		return 2;
	length = strtoul(argv[1], NULL, 10) << 20;
	objects = strtoul(argv[2], NULL, 10);
	bytes = strtoul(argv[3], NULL, 10);
	reserve();
	if (!strcmp(when, "late"))
		mi_free(mi_malloc(bytes));
	if (strcmp(when, "plain") &&
	    !mi_manage_memory(memory, length, false, false, true, -1,
			      !strcmp(when, "own"), commit, NULL, &arena))
		return 3;
	if (!strcmp(when, "own"))
		heap = mi_heap_new_in_arena(arena);
	object = mmap(NULL, objects * sizeof(*object), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < objects; i++) {
		char *at = heap ? mi_heap_malloc(heap, bytes) :
				  mi_malloc(bytes);

		object[i] = at;
		refused += !at;
		inside += at >= memory && at < memory + length;
		if (at)
			memset(at, 1, bytes);
	}
	printf("inside %zu refused %zu uncommitted %zu commit_mib %zu ", inside,
	       refused, uncommitted(), commit_mib());
	for (i = 0; i < objects; i++)
		if (i % KEPT)
			mi_free(object[i]);
	mi_collect(true);
	give_back_units();
	for (i = 0; i < objects; i += KEPT)
		damaged += object[i] &&
			   (object[i][0] != 1 ||
			    memcmp(object[i], object[i] + 1, bytes - 1));
	printf("damaged %zu\n", damaged);
	return 0;
}
