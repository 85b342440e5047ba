// SPDX-License-Identifier: MIT
/*
 * With thread:true, end the library's thread before a call that only a process with
 * one thread can make, or that is to hold for all threads of libc, and start it anew
 * after the call.  libc would not change the user of a thread that it doesn't know.
 */

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>

#include "alone.h"
#include "interval.h"

/* All these functions take at most three arguments, each in its register. */
typedef int (*function)(long a, long b, long c);

#define FUNCTIONS(FUNCTION)                                            \
	FUNCTION(setuid)                                               \
	FUNCTION(setgid)                                               \
	FUNCTION(seteuid)                                              \
	FUNCTION(setegid)                                              \
	FUNCTION(setreuid)                                             \
	FUNCTION(setregid)                                             \
	FUNCTION(setresuid)                                            \
	FUNCTION(setresgid)                                            \
	FUNCTION(setgroups)                                            \
	FUNCTION(initgroups)                                           \
	FUNCTION(capset)                                               \
	FUNCTION(unshare)                                              \
	FUNCTION(setns)

#define FUNCTION(name) static function next_##name;
FUNCTIONS(FUNCTION)
#undef FUNCTION

void alone_find(void)
{
#define FUNCTION(name) next_##name = (function)dlsym(RTLD_NEXT, #name);
	FUNCTIONS(FUNCTION)
#undef FUNCTION
}

static int call_alone(const char *name, function next, long a, long b, long c)
{
	bool was = shim_interval_hold();
	int result = -1;

	/* Another library's constructor may call this before this library's has run. */
	if (!next)
		next = (function)dlsym(RTLD_NEXT, name);
	if (next)
		result = next(a, b, c);
	else
		errno = ENOSYS;
	shim_interval_go_on(was);
	return result;
}

/* clang-format off */
#define FUNCTION(name)                                            \
	int alone_##name(long a, long b, long c) __asm__(#name)   \
		__attribute__((visibility("default")));           \
	int alone_##name(long a, long b, long c)                  \
	{                                                         \
		return call_alone(#name, next_##name, a, b, c);   \
	}
FUNCTIONS(FUNCTION)
/* clang-format on */
