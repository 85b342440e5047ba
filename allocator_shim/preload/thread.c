// SPDX-License-Identifier: MIT
/* Put jemalloc's extent hooks in the arenas of new threads. */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "install.h"
#include "next.h"

#define INTERPOSED __attribute__((visibility("default")))

struct given {
	void *(*routine)(void *argument);
	void *argument;
};

/* jemalloc gives a thread its arena, which may be a new one, at its first allocation. */
static void *begin(void *argument)
{
	struct given given = *(struct given *)argument;

	free(argument);
	hooks_take_own_arena();
	return given.routine(given.argument);
}

INTERPOSED int pthread_create(pthread_t *thread,
			      const pthread_attr_t *attributes,
			      void *(*routine)(void *), void *argument)
{
	struct given *given;
	enum hooks_way way;
	int err;

	/* Another library may start a thread before this one's constructor runs. */
	if (!next.pthread_create)
		next_find();
	/*
	 * jemalloc holds locks while it starts threads of its own, and waits for them:
	 * they must not ask it for anything.
	 */
	if (!hooks_are_installed(&way) ||
	    hooks_are_jemallocs((const void *)routine))
		return next.pthread_create(thread, attributes, routine,
					   argument);
	given = malloc(sizeof(*given));
	if (!given)
		return EAGAIN;
	*given = (struct given){ routine, argument };
	err = next.pthread_create(thread, attributes, begin, given);
	if (err)
		free(given);
	return err;
}
