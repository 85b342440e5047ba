// SPDX-License-Identifier: MIT
/* The one set of hooks of a process. */

#include <dlfcn.h>
#include <stddef.h>

#include "process.h"
#include "shim.h"

const struct hooks_of_process hooks_of_this_copy = {
	.install = hooks_install,
	.are_installed = hooks_are_installed,
	.best_way = hooks_best_way,
	.take_arenas = hooks_take_arenas,
	.stats = hooks_stats,
	.shim_is_on = shim_is_on,
	.drain_shim = shim_drain,
};

const struct hooks_of_process *hooks_of_process(void)
{
	const struct hooks_of_process *(*librarys)(void) =
		dlsym(RTLD_DEFAULT, "pgtable_cleanup_hooks_1");

	return librarys ? librarys() : &hooks_of_this_copy;
}
