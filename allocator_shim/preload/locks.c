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
#include "next.h"
#include "pages.h"

#define INTERPOSED __attribute__((visibility("default")))

/*
 * While threads free memory all the time, one of them may undo the second lock, too.  All
 * tries take 50 ms at most, as where a signal handler has interrupted a thread that frees.
 */
#define TRIES 100

static bool may_be_unlocked(int result)
{
	enum hooks_way way;

	return !result && hooks_are_installed(&way) && way == HOOKS_REMAP &&
	       pages_settle();
}

INTERPOSED int mlock(const void *addr, size_t length)
{
	int result, tries = 0;

	do
		result = next.mlock(addr, length);
	while (may_be_unlocked(result) && ++tries < TRIES);
	return result;
}

INTERPOSED int mlock2(const void *addr, size_t length, unsigned int flags)
{
	int result, tries = 0;

	do
		result = next.mlock2(addr, length, flags);
	while (may_be_unlocked(result) && ++tries < TRIES);
	return result;
}

INTERPOSED int mlockall(int flags)
{
	int result, tries = 0;

	do
		result = next.mlockall(flags);
	while (may_be_unlocked(result) && ++tries < TRIES);
	return result;
}
