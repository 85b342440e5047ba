// SPDX-License-Identifier: MIT
/*
 * Free a unit's table by mremap(), which moves it away from under the mapping.
 *
 * MREMAP_DONTUNMAP leaves the mapping in place and moves what it maps.  Where a unit
 * begins at both addresses, the kernel moves the table as a whole.  The table is freed
 * with the mapping that it was moved to.  A new mapping in place of the old one would
 * free the table, too, but it would lose advice, policy and lock, and would not always
 * merge with its neighbours.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "paging.h"
#include "remap.h"
#include "syscalls.h"

/* Tables are moved to this unit of address space, one at a time. */
static uintptr_t aside;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long map(uintptr_t addr, size_t length, int prot, int more)
{
	return shim_syscall6(__NR_mmap, addr, length, prot,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | more,
			     -1, 0);
}

/* Reserve a unit, and return its address, or 0. */
static uintptr_t reserve(void)
{
	long mapped = map(0, 2 * SHIM_UNIT_SIZE, PROT_NONE, 0);
	uintptr_t unit, end = mapped + 2 * SHIM_UNIT_SIZE;

	if (shim_failed(mapped))
		return 0;
	unit = (mapped + SHIM_UNIT_SIZE - 1) & -SHIM_UNIT_SIZE;
	if (unit > (uintptr_t)mapped)
		shim_syscall2(__NR_munmap, mapped, unit - mapped);
	shim_syscall2(__NR_munmap, unit + SHIM_UNIT_SIZE,
		      end - unit - SHIM_UNIT_SIZE);
	return unit;
}

/*
 * Move a unit's table away, and free it.
 *
 * The place is unmapped first and then named as a wish, without MREMAP_FIXED.  That
 * would unmap the place itself, on 6.1 and 6.12 even where it then fails, as for a unit
 * in which two mappings meet.  Another thread may map something there meanwhile, which
 * the next MREMAP_FIXED would destroy.
 *
 * Return: whether that worked.
 */
static bool move_away(uintptr_t unit)
{
	uintptr_t place = aside ? aside : reserve();
	long moved;

	aside = 0;
	if (!place)
		return false;
	shim_syscall2(__NR_munmap, place, SHIM_UNIT_SIZE);
	moved = shim_syscall5(__NR_mremap, unit, SHIM_UNIT_SIZE, SHIM_UNIT_SIZE,
			      MREMAP_MAYMOVE | MREMAP_DONTUNMAP, place);
	if (shim_failed(moved)) {
		/* On failure the next call reserves another place. */
		if (map(place, SHIM_UNIT_SIZE, PROT_NONE,
			MAP_FIXED_NOREPLACE) == (long)place)
			aside = place;
		return false;
	}
	/* Another thread was faster: what was moved elsewhere is not needed there. */
	if (moved != (long)place) {
		shim_syscall2(__NR_munmap, moved, SHIM_UNIT_SIZE);
		return false;
	}
	/* If this fails, the table stays there until the next call unmaps it. */
	map(place, SHIM_UNIT_SIZE, PROT_NONE, MAP_FIXED);
	aside = place;
	return true;
}

const char *remap_start(void)
{
	uintptr_t unit;
	bool works;

	if (aside)
		return NULL;
	unit = reserve();
	works = unit && move_away(unit);
	if (unit)
		shim_syscall2(__NR_munmap, unit, SHIM_UNIT_SIZE);
	if (works)
		return NULL;
	if (aside)
		shim_syscall2(__NR_munmap, aside, SHIM_UNIT_SIZE);
	aside = 0;
	return "mremap() can't move a table away here (Linux before 5.7, or no "
	       "address space): the way remap is none";
}

void remap_unit(uintptr_t unit)
{
	pthread_mutex_lock(&lock);
	move_away(unit);
	pthread_mutex_unlock(&lock);
}
