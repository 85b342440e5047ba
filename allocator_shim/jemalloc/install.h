/* SPDX-License-Identifier: MIT */
/* Install the extent hooks in jemalloc's arenas. */
#ifndef PGTC_INSTALL_H
#define PGTC_INSTALL_H

#include "find.h"
#include "hooks.h"

/*
 * Have the arenas that are in use get their memory through the hooks, but for those
 * that have hooks of the program's.  A second call with the same arguments changes
 * nothing.
 *
 * Return: NULL, or why it could not be done; then nothing was changed.
 */
const char *hooks_install(const struct jemalloc *jemalloc, enum hooks_way way);

/* Say whether the hooks are installed, and with which way. */
bool hooks_are_installed(enum hooks_way *way);

/*
 * Put the hooks in arenas that jemalloc has made since hooks_install(): in all of them,
 * or in the calling thread's, which is quicker.  No lock of jemalloc's may be held.
 */
void hooks_take_arenas(void);
void hooks_take_own_arena(void);

/*
 * Choose the best way that works here: the kernel itself; else the module, if the
 * shim has been started and can call it; else mremap().
 */
enum hooks_way hooks_best_way(void);

/*
 * Say whether a function is in the same object as the jemalloc that has the hooks: in
 * its library, or in the program that is linked with it.
 */
bool hooks_are_jemallocs(const void *function);

#endif
