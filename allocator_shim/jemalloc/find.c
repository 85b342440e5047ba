// SPDX-License-Identifier: MIT
/* Find the jemalloc that a running process allocates by. */

#include <dlfcn.h>
#include <stdio.h>

#include "find.h"

/* No prefix: jemalloc is the process's malloc().  Rust's crate has _rjem_. */
static const char *const prefixes[] = { "", "je_", "_rjem_" };

static void *look_up(const char *prefix, const char *name)
{
	char whole[32];

	snprintf(whole, sizeof(whole), "%s%s", prefix, name);
	return dlsym(RTLD_DEFAULT, whole);
}

/* Return the start of the loaded object that has this address, or NULL. */
static const void *object_of(const void *address)
{
	Dl_info info;

	return address && dladdr(address, &info) ? info.dli_fbase : NULL;
}

enum jemalloc_found jemalloc_find(struct jemalloc *found)
{
	size_t i;

	for (i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++) {
		const void *object;

		found->prefix = prefixes[i];
		found->mallctl = look_up(prefixes[i], "mallctl");
		if (!found->mallctl)
			continue;
		found->malloc = look_up(prefixes[i], "malloc");
		found->free = look_up(prefixes[i], "free");
		object = object_of(found->mallctl);
		return object && object_of(found->malloc) == object &&
				       object_of(found->free) == object ?
			       JEMALLOC_FOUND :
			       JEMALLOC_NOT_MALLOC;
	}
	return JEMALLOC_NONE;
}
