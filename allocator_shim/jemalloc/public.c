// SPDX-License-Identifier: MIT
/* The functions that a program with jemalloc in it calls: see pgtable_cleanup_hooks.h. */

#include <stdlib.h>

#include "conf.h"
#include "pgtable_cleanup_hooks.h"
#include "process.h"
#include "shim.h"

#define PUBLIC __attribute__((visibility("default")))

PUBLIC const char *pgtable_cleanup_hooks_install(
	int (*mallctl)(const char *, void *, size_t *, void *, size_t),
	void *(*malloc)(size_t), void (*free)(void *))
{
	const struct hooks_of_process *hooks = hooks_of_process();
	struct jemalloc jemalloc = { "", mallctl, malloc, free };
	enum hooks_way way;

	if (hooks->are_installed(&way))
		return hooks->install(&jemalloc, way);
	/* The library has started its shim, unless there was a reason not to. */
	if (hooks == &hooks_of_this_copy && !shim_is_on())
		shim_start(secure_getenv(SHIM_CONF_VARIABLE), true);
	return hooks->install(&jemalloc, hooks->best_way());
}

PUBLIC void pgtable_cleanup_hooks_take_arenas(void)
{
	hooks_of_process()->take_arenas();
}
