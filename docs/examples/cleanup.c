// SPDX-License-Identifier: MIT
/* Have the empty page tables of a mapping freed. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <pgtable_cleanup_madvise.h>

#define SIZE ((size_t)1 << 30)
#define UNIT ((size_t)2 << 20)

int main(void)
{
	char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t at;

	if (memory == MAP_FAILED) {
		perror("mmap");
		return EXIT_FAILURE;
	}
	for (at = 0; at < SIZE; at += UNIT)
		memory[at] = 1;
	for (at = 0; at < SIZE; at += UNIT)
		madvise(memory + at, 4096, MADV_DONTNEED);

	/* The kernel, the preloaded library or the module frees the tables. */
	if (pgtable_cleanup_madvise(memory, SIZE, MADV_CLEANUP_PGTABLE)) {
		perror("MADV_CLEANUP_PGTABLE");
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
