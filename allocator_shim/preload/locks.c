// SPDX-License-Identifier: MIT
/*
 * Lock memory again if the hooks may have unlocked it.
 *
 * With the way remap a unit that holds nothing is moved, and the kernel unlocks a
 * mapping of which a part is moved.  The hooks move none that is locked.  One that was
 * locked between their look and the move is locked here once more.
 */

#include <sys/mman.h>

#include "install.h"
#include "locks.h"
#include "next.h"

#define INTERPOSED __attribute__((visibility("default")))

bool locks_try(struct pages_locking *locking, long result)
{
	enum hooks_way way;

	if (locking->tries == 1 &&
	    !(hooks_are_installed(&way) && way == HOOKS_REMAP))
		return false;
	return pages_try_lock(locking, result);
}

INTERPOSED int mlock(const void *addr, size_t length)
{
	struct pages_locking locking = { 0 };
	int result = 0;

	while (locks_try(&locking, result))
		result = next.mlock(addr, length);
	return result;
}

INTERPOSED int mlock2(const void *addr, size_t length, unsigned int flags)
{
	struct pages_locking locking = { 0 };
	int result = 0;

	while (locks_try(&locking, result))
		result = next.mlock2(addr, length, flags);
	return result;
}

INTERPOSED int mlockall(int flags)
{
	struct pages_locking locking = { 0 };
	int result = 0;

	while (locks_try(&locking, result))
		result = next.mlockall(flags);
	return result;
}
