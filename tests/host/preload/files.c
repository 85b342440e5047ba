// SPDX-License-Identifier: MIT
/* File mappings that mremap() moves, grows and copies, and pages that a file loses. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

/* Return how many units a call has the library note. */
#define NOTED(call)                                               \
	({                                                        \
		uint64_t before = (pgtable_cleanup_drain(), counts().units); \
		CHECK((call) >= 0);                               \
		counts().units - before;                          \
	})

static int fd;

/* Map units 4 to 7 of the file at @place, which is where a unit begins. */
static char *map_file(char *place)
{
	char *at = mmap(place, 4 * UNIT, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_FIXED, fd, 4 * UNIT);

	CHECK(at == place);
	return at;
}

static long punch(off_t offset, off_t length)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
			 length);
}

int main(void)
{
	char *here = map_units(16), *there = map_units(16), *guarded;

	fd = memfd_create("test", 0);
	CHECK(fd >= 0 && !ftruncate(fd, 16 * UNIT));
	map_file(here);
	CHECK(NOTED(punch(4 * UNIT, 2 * UNIT)) == 2);
	/* A mapping that is moved is found at its new place alone. */
	CHECK(mremap(here, 4 * UNIT, 4 * UNIT, MREMAP_MAYMOVE | MREMAP_FIXED,
		     there) == there);
	CHECK(NOTED(punch(4 * UNIT, 16 * UNIT)) == 4);
	/* A part of a mapping is moved, which has another offset in the file. */
	CHECK(mremap(there + 3 * UNIT, UNIT, UNIT,
		     MREMAP_MAYMOVE | MREMAP_FIXED, here) == here);
	CHECK(NOTED(punch(7 * UNIT, PAGE)) >= 1);
	CHECK(NOTED(punch(15 * UNIT, PAGE)) == 0);
	/* A mapping grows where it is. */
	munmap(here + UNIT, 15 * UNIT);
	CHECK(mremap(here, UNIT, 6 * UNIT, 0) == here);
	CHECK(NOTED(punch(12 * UNIT, PAGE)) == 1);
	/* With an old length of 0 a mapping gets a copy at another address. */
	CHECK(NOTED(punch(11 * UNIT, PAGE)) == 1);
	CHECK(mremap(here, 0, 6 * UNIT, MREMAP_MAYMOVE | MREMAP_FIXED,
		     there + 8 * UNIT) == there + 8 * UNIT);
	CHECK(NOTED(punch(11 * UNIT, PAGE)) == 2);
	/* A file that gets shorter loses pages in each mapping: 2 units here, 2 there. */
	CHECK(NOTED(ftruncate(fd, 11 * UNIT)) == 4);
	CHECK(NOTED(syscall(SYS_ftruncate, fd, 10 * UNIT)) >= 2);
	/* Guard markers are entries; without them a table may be empty. */
	guarded = map_units(1);
	if (!madvise(guarded, PAGE, MADV_GUARD_INSTALL))
		CHECK(NOTED(madvise(guarded, PAGE, MADV_GUARD_REMOVE)) == 1);
	return 0;
}
