// SPDX-License-Identifier: MIT
/* The shared file mappings of this process, from which PUNCH_HOLE takes pages. */

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "files.h"
#include "shim.h"
#include "syscalls.h"

/* If there are more mappings, a new one replaces the oldest, whose tables then stay. */
#define ROOM 256

/*
 * A mapping that is gone may stay in this list.  That does no harm: whatever is at
 * its place then, a table is freed only if it is empty.
 */
static struct mapping {
	uint64_t device, inode, offset, length;
	uintptr_t addr;
} mappings[ROOM];
static unsigned int next;

/*
 * A thread that finds this set gives up.  A signal handler that waited here
 * could wait for the very thread that it has interrupted.
 */
static _Atomic bool busy;

static bool enter(void)
{
	return !atomic_exchange_explicit(&busy, true, memory_order_acquire);
}

static void leave(void)
{
	atomic_store_explicit(&busy, false, memory_order_release);
}

static bool identity_of(int fd, struct mapping *mapping)
{
	struct stat status;

	if (shim_syscall2(__NR_fstat, fd, &status) || !S_ISREG(status.st_mode))
		return false;
	mapping->device = status.st_dev;
	mapping->inode = status.st_ino;
	return true;
}

void files_mapped(int fd, const void *addr, size_t length, uint64_t offset)
{
	struct mapping made = { .offset = offset,
				.length = length,
				.addr = (uintptr_t)addr };
	unsigned int i;

	if (!identity_of(fd, &made) || !enter())
		return;
	for (i = 0; i < ROOM && mappings[i].length; i++)
		;
	if (i == ROOM)
		i = next++ % ROOM;
	mappings[i] = made;
	leave();
}

void files_unmapped(const void *addr, size_t length)
{
	uintptr_t from = (uintptr_t)addr;
	unsigned int i;

	if (!enter())
		return;
	for (i = 0; i < ROOM; i++)
		if (mappings[i].length && mappings[i].addr >= from &&
		    mappings[i].addr + mappings[i].length <= from + length)
			mappings[i].length = 0;
	leave();
}

void files_punched(int fd, uint64_t offset, uint64_t length)
{
	struct mapping file;
	unsigned int i;

	if (!identity_of(fd, &file) || !enter())
		return;
	for (i = 0; i < ROOM; i++) {
		const struct mapping *one = &mappings[i];
		uint64_t from, to;

		if (!one->length || one->device != file.device ||
		    one->inode != file.inode)
			continue;
		from = offset > one->offset ? offset : one->offset;
		to = offset + length < one->offset + one->length ?
			     offset + length :
			     one->offset + one->length;
		if (from < to)
			shim_released((void *)(one->addr + from - one->offset),
				      to - from, SHIM_PAGES);
	}
	leave();
}
