/* SPDX-License-Identifier: MIT */
/*
 * Have a program's jemalloc free each page table along with the last page that it maps.
 *
 * This is for programs that are linked with jemalloc statically, whose functions no
 * other object sees.  Link with libpgtable_cleanup_hooks.a (pkg-config
 * pgtable-cleanup-hooks).  Programs that load jemalloc as a library need no call: they
 * run under libpgtable_cleanup.so with PGTABLE_CLEANUP_CONF=hooks:jemalloc.
 */
#ifndef PGTABLE_CLEANUP_HOOKS_H
#define PGTABLE_CLEANUP_HOOKS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Install the extent hooks in jemalloc's arenas.  The arguments are jemalloc's
 * functions by whatever names the program has them: mallctl or _rjem_mallctl, say.
 * Call this early: memory that was allocated before is given back as ever.  Arenas with
 * hooks of the program's own are left alone.  To call it again does no harm.
 *
 * Return: NULL, or why the hooks can't be installed; then nothing was changed.
 */
const char *pgtable_cleanup_hooks_install(
	int (*mallctl)(const char *name, void *old, size_t *old_length,
		       void *new_value, size_t new_length),
	void *(*malloc)(size_t size), void (*free)(void *at));

/*
 * Install the hooks in arenas that jemalloc has made since.  It makes an arena when a
 * new thread first allocates.  So call this in new threads, or now and then.
 */
void pgtable_cleanup_hooks_take_arenas(void);

#ifdef __cplusplus
}
#endif

#endif /* PGTABLE_CLEANUP_HOOKS_H */
