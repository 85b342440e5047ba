// SPDX-License-Identifier: MIT
/*
 * A program with jemalloc in it that frees page tables along with their pages.
 *
 *	gcc static_jemalloc.c libjemalloc.a $(pkg-config --cflags --libs pgtable-cleanup-hooks) -lm
 *
 * Where jemalloc's names have a prefix, say so: -DPREFIX=_rjem_.
 */

#include <stdio.h>
#include <string.h>

#include <pgtable_cleanup_hooks.h>

#ifndef PREFIX
#define PREFIX
#endif
#define JOIN_(prefix, name) prefix##name
#define JOIN(prefix, name) JOIN_(prefix, name)
#define je(name) JOIN(PREFIX, name)

#define BLOCKS 100000
#define BLOCK 2000

int je(mallctl)(const char *, void *, size_t *, void *, size_t);
void *je(malloc)(size_t);
void je(free)(void *);

static char *blocks[BLOCKS];

static long vmpte_kb(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	long kb = -1;

	while (status && fgets(line, sizeof(line), status))
		sscanf(line, "VmPTE: %ld", &kb);
	if (status)
		fclose(status);
	return kb;
}

int main(void)
{
	const char *why = pgtable_cleanup_hooks_install(je(mallctl), je(malloc),
							je(free));
	long full, kept = 0, i;

	if (why) {
		fprintf(stderr, "no hooks: %s\n", why);
		return 1;
	}
	for (i = 0; i < BLOCKS; i++) {
		blocks[i] = je(malloc)(BLOCK);
		memset(blocks[i], i % 255 + 1, BLOCK);
	}
	full = vmpte_kb();
	for (i = 0; i < BLOCKS; i++)
		if (i % 20000)
			je(free)(blocks[i]);
	/* jemalloc gives unused pages back within some seconds; here it is to do so now. */
	je(mallctl)("thread.tcache.flush", NULL, NULL, NULL, 0);
	je(mallctl)("arena.4096.purge", NULL, NULL, NULL, 0);
	for (i = 0; i < BLOCKS; i += 20000)
		kept += blocks[i][BLOCK - 1] == (char)(i % 255 + 1);
	printf("VmPTE: %ld kB full, %ld kB after; %ld of %d blocks kept\n",
	       full, vmpte_kb(), kept, BLOCKS / 20000);
	return 0;
}
