// SPDX-License-Identifier: MIT
/* The shared file mappings of this process, from which PUNCH_HOLE takes pages. */

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "files.h"
#include "identity.h"
#include "shim.h"
#include "state.h"
#include "syscalls.h"

/* If there are more mappings, a new one replaces the oldest, whose tables then stay. */
#define ROOM 256

/*
 * A mapping that is gone may stay in this list, and one that is being written may be
 * read half old, half new.  That does no harm: whatever is at its place then, a
 * table is freed only if it is empty.  So reading takes no lock.  The list stays
 * in the child of a fork, which has the same mappings.
 */
static struct mapping {
	_Atomic uint64_t file, offset, length, addr;
} mappings[ROOM];
/* How many places of the list were ever used, and how many mappings found no room. */
static _Atomic unsigned int used;
static unsigned int next;

static bool is_regular(int fd)
{
	struct stat status;

	return !shim_syscall2(__NR_fstat, fd, &status) &&
	       S_ISREG(status.st_mode);
}

static unsigned int nr_used(void)
{
	return atomic_load_explicit(&used, memory_order_relaxed);
}

/*
 * Write a mapping into the list.  If another thread is writing, this one gives up: a
 * signal handler that waited could wait for the very thread that it has interrupted.
 */
static void add(uint64_t file, uint64_t addr, uint64_t length, uint64_t offset)
{
	uint64_t ticket = shim_claim_take(&shim_own->listing);
	unsigned int i;

	if (!ticket)
		return;
	for (i = 0; i < nr_used() && mappings[i].length; i++)
		;
	if (i == ROOM)
		i = next++ % ROOM;
	/* The length is cleared first and set last: a place without a length is free. */
	mappings[i].length = 0;
	mappings[i].file = file;
	mappings[i].offset = offset;
	mappings[i].addr = addr;
	mappings[i].length = length;
	if (i >= nr_used())
		atomic_store(&used, i + 1);
	shim_claim_drop(&shim_own->listing, ticket);
}

void files_mapped(int fd, const void *addr, size_t length, uint64_t offset)
{
	if (is_regular(fd))
		add(shim_identity(fd), (uintptr_t)addr, length, offset);
}

void files_unmapped(const void *addr, size_t length)
{
	uint64_t from = (uintptr_t)addr, to = from + length;
	unsigned int i, nr = nr_used();

	for (i = 0; i < nr; i++) {
		struct mapping *one = &mappings[i];
		uint64_t had = one->length;

		if (had && one->addr >= from && one->addr + had <= to)
			one->length = 0;
	}
}

void files_moved(const void *old, size_t old_length, const void *addr,
		 size_t length, bool stays)
{
	uint64_t from = (uintptr_t)old;
	unsigned int i, nr = nr_used();

	for (i = 0; i < nr; i++) {
		struct mapping *one = &mappings[i];
		uint64_t begin = one->addr, had = one->length;
		uint64_t file = one->file, offset = one->offset;

		if (from < begin || from - begin >= had)
			continue;
		if (!stays)
			files_unmapped(old, old_length);
		add(file, (uintptr_t)addr, length, offset + from - begin);
		return;
	}
}

void files_punched(int fd, uint64_t offset, uint64_t length)
{
	unsigned int i, nr = nr_used();
	uint64_t file;

	if (!nr)
		return;
	file = shim_identity(fd);
	for (i = 0; i < nr; i++) {
		struct mapping *one = &mappings[i];
		uint64_t had = one->length, begin = one->offset, from, to;

		if (!had || one->file != file)
			continue;
		from = offset > begin ? offset : begin;
		to = offset + length < begin + had ? offset + length :
						     begin + had;
		if (from < to)
			shim_released((void *)(one->addr + from - begin),
				      to - from, SHIM_PAGES);
	}
}
