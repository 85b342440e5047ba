// SPDX-License-Identifier: MIT
/*
 * Have the hooks stand still while the program locks memory.
 *
 * With the way remap the hooks move a unit that holds nothing, and the kernel unlocks
 * what is moved.  So the hooks look first, and move no locked unit.  The functions here
 * make sure that the program locks nothing between that look and the move.
 */

#include <sys/mman.h>

#include "next.h"
#include "pages.h"

#define INTERPOSED __attribute__((visibility("default")))

INTERPOSED int mlock(const void *addr, size_t length)
{
	int result;

	pages_stand_still();
	result = next.mlock(addr, length);
	pages_go_on(false);
	return result;
}

INTERPOSED int mlock2(const void *addr, size_t length, unsigned int flags)
{
	int result;

	pages_stand_still();
	result = next.mlock2(addr, length, flags);
	pages_go_on(false);
	return result;
}

INTERPOSED int mlockall(int flags)
{
	int result;

	pages_stand_still();
	result = next.mlockall(flags);
	pages_go_on(false);
	return result;
}
