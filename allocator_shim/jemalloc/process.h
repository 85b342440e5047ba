/* SPDX-License-Identifier: MIT */
/*
 * The one set of hooks of a process.
 *
 * The library that is preloaded and the Python extension each have a copy of this
 * code, with its own state.  Where the library is loaded, the extension uses the
 * library's copy.
 */
#ifndef PGTC_PROCESS_H
#define PGTC_PROCESS_H

#include "install.h"

struct hooks_of_process {
	const char *(*install)(const struct jemalloc *jemalloc,
			       enum hooks_way way);
	bool (*are_installed)(enum hooks_way *way);
	enum hooks_way (*best_way)(void);
	void (*take_arenas)(void);
	struct hooks_stats (*stats)(void);
	/* The shim, for tables that the module frees: see shim.h. */
	bool (*shim_is_on)(void);
	void (*drain_shim)(void);
};

/* The hooks of this copy of the code. */
extern const struct hooks_of_process hooks_of_this_copy;

/*
 * Return the library's hooks.  The library exports this function, whose name ends in
 * the version of the struct.
 */
const struct hooks_of_process *pgtable_cleanup_hooks_1(void);

/* Return the library's hooks where the library is loaded, and otherwise this copy's. */
const struct hooks_of_process *hooks_of_process(void);

#endif
