// SPDX-License-Identifier: MIT
/* Install the extent hooks in jemalloc's arenas. */

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "install.h"
#include "kernel.h"
#include "pages.h"
#include "proc.h"
#include "remap.h"
#include "shim.h"
#include "syscalls.h"
#include "text.h"

static struct jemalloc jemalloc;
static struct extent_hooks *jemallocs_own;
static enum hooks_way way_in_use;
static _Atomic bool is_installed;

static bool read_option(const char *name, void *to, size_t length)
{
	size_t got = length;

	return !jemalloc.mallctl(name, to, &got, NULL, 0) && got == length;
}

static unsigned int nr_arenas(void)
{
	unsigned int found;

	return read_option("arenas.narenas", &found, sizeof(found)) ? found : 0;
}

/* Have jemalloc look again which of its arenas are in use. */
static void look_again(void)
{
	uint64_t epoch = 1;

	jemalloc.mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
}

static bool is_in_use(unsigned int arena)
{
	char name[48];
	bool found;

	snprintf(name, sizeof(name), "arena.%u.initialized", arena);
	return read_option(name, &found, sizeof(found)) && found;
}

/* Return the file name of the library or program that an address lies in, or NULL. */
static const char *file_of(const void *address)
{
	Dl_info info;

	return dladdr(address, &info) ? info.dli_fname : NULL;
}

/* Read an arena's hooks, and set them if there are new ones. */
static int arena_hooks(unsigned int arena, struct extent_hooks **now,
		       struct extent_hooks *new)
{
	size_t length = sizeof(*now);
	char name[48];

	snprintf(name, sizeof(name), "arena.%u.extent_hooks", arena);
	return jemalloc.mallctl(name, now, &length, new ? &new : NULL,
				new ? sizeof(new) : 0);
}

/*
 * Find jemalloc's own hooks.  An arena that is made without naming hooks has them.  This
 * makes such an arena, and destroys it again.
 */
static struct extent_hooks *find_own(void)
{
	struct extent_hooks *hooks = NULL;
	unsigned int arena;
	size_t length = sizeof(arena);
	char name[48];

	if (jemalloc.mallctl("arenas.create", &arena, &length, NULL, 0))
		return NULL;
	if (arena_hooks(arena, &hooks, NULL))
		hooks = NULL;
	snprintf(name, sizeof(name), "arena.%u.destroy", arena);
	jemalloc.mallctl(name, NULL, NULL, NULL, 0);
	return hooks;
}

/*
 * Look for arenas that have jemalloc's own hooks.  Arenas with hooks of the program's
 * are left alone: hooks in their place would get back memory that they never handed
 * out, and the program would lose count of its memory.
 *
 * Return: NULL, or why there is nothing to do.
 */
static const char *look_at_arenas(void)
{
	static char text[SHIM_TEXT_ROOM];
	unsigned int nr = nr_arenas(), i;
	struct extent_hooks *hooks, *others = NULL;
	const char *file;

	for (i = 0; i < nr; i++) {
		/* An arena that is not in use reads as if it had jemalloc's own. */
		if (!is_in_use(i) || arena_hooks(i, &hooks, NULL))
			continue;
		if (hooks == jemallocs_own)
			return NULL;
		others = hooks;
	}
	if (!others)
		return "jemalloc takes no extent hooks";
	file = file_of(others);
	snprintf(
		text, sizeof(text),
		"all of jemalloc's arenas have extent hooks already, of %s: "
		"leave out hooks:jemalloc, install_hooks() or the program's own",
		file ? file : "the program itself");
	return text;
}

static const char *look_at_options(void)
{
	unsigned long overcommit = 0;
	bool is_on;

	if (!read_option("opt.retain", &is_on, sizeof(is_on)))
		return "this jemalloc is too old, or another one";
	if (!is_on)
		return "it runs with retain:false, which unmaps memory instead "
		       "of keeping it: leave that out of MALLOC_CONF";
	if (read_option("opt.hpa", &is_on, sizeof(is_on)) && is_on)
		return "it runs with hpa:true, which extent hooks would "
		       "switch off: leave one of the two out";
	if (shim_proc_number("/proc/sys/vm/overcommit_memory", "",
			     &overcommit) &&
	    overcommit == 2)
		return "under vm.overcommit_memory=2 jemalloc maps memory "
		       "anew to give it back: there is nothing to gain";
	return NULL;
}

/* Have an arena purge at once what kind of memory the name is of, if others ever do. */
static void purge_at_once(unsigned int arena, const char *kind)
{
	ssize_t of_others, at_once = 0;
	char name[48];

	snprintf(name, sizeof(name), "arenas.%s_decay_ms", kind);
	if (!read_option(name, &of_others, sizeof(of_others)) || of_others <= 0)
		return;
	snprintf(name, sizeof(name), "arena.%u.%s_decay_ms", arena, kind);
	jemalloc.mallctl(name, NULL, NULL, &at_once, sizeof(at_once));
}

/*
 * Have jemalloc make its arena for oversize memory now, so that it gets the hooks, too.
 * That arena comes next after those for threads.  A thread that is moved there makes it,
 * and goes back; to allocate there would cost 8 MiB of address space.  jemalloc has that
 * arena purge at once, but only where it makes it for an allocation.
 *
 * This does nothing where arenas go by CPU: no thread can be moved back there, and such
 * an arena is taken after its first allocation.  The way zap needs no hooks there:
 * jemalloc gives such memory back whole, and the kernel frees the tables.
 */
static void make_oversize_arena(void)
{
	unsigned int arena, own;
	const char *by_cpu;
	size_t threshold;

	if (!read_option("opt.oversize_threshold", &threshold,
			 sizeof(threshold)) ||
	    !threshold || !read_option("opt.narenas", &arena, sizeof(arena)) ||
	    arena >= nr_arenas() ||
	    !read_option("opt.percpu_arena", &by_cpu, sizeof(by_cpu)) ||
	    strcmp(by_cpu, "disabled") ||
	    !read_option("thread.arena", &own, sizeof(own)))
		return;
	if (is_in_use(arena) ||
	    jemalloc.mallctl("thread.arena", NULL, NULL, &arena, sizeof(arena)))
		return;
	jemalloc.mallctl("thread.arena", NULL, NULL, &own, sizeof(own));
	purge_at_once(arena, "dirty");
	purge_at_once(arena, "muzzy");
}

/*
 * Is malloc() the one of this jemalloc?  A program may name another by mistake, and the
 * hooks would see nothing of what it allocates.
 */
static bool mallocs_match(void)
{
	uint64_t before, after;
	void *some;

	/* A jemalloc that is built without statistics can't tell. */
	if (!read_option("thread.allocated", &before, sizeof(before)))
		return true;
	some = jemalloc.malloc(1);
	read_option("thread.allocated", &after, sizeof(after));
	jemalloc.free(some);
	return after > before;
}

/* Free the empty tables before the fork, which would copy them. */
static void before_fork(void)
{
	pages_stand_still();
	shim_drain();
}

static void in_parent(void)
{
	pages_go_on(false);
}

static void in_child(void)
{
	pages_go_on(true);
}

static const char *prepare(enum hooks_way way)
{
	const char *why = look_at_options();

	if (why)
		return why;
	if (!mallocs_match())
		return "malloc() is not of the jemalloc that mallctl() is of";
	look_again();
	if (way != HOOKS_ZAP)
		make_oversize_arena();
	jemallocs_own = find_own();
	if (!jemallocs_own)
		return "this jemalloc makes no arena to see its own hooks by";
	why = look_at_arenas();
	if (!why && way == HOOKS_REMAP)
		why = remap_start();
	if (!why && !pages_start())
		why = "there is no memory";
	return why;
}

const char *hooks_install(const struct jemalloc *found, enum hooks_way way)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	const char *why = NULL;

	pthread_mutex_lock(&lock);
	if (is_installed) {
		if (found->mallctl != jemalloc.mallctl)
			why = "another jemalloc of this process has the hooks";
		else if (way != way_in_use)
			why = "the hooks are installed already, with another way";
	} else {
		jemalloc = *found;
		why = prepare(way);
		if (!why) {
			hooks_stand_before(jemallocs_own, way);
			pthread_atfork(before_fork, in_parent, in_child);
			way_in_use = way;
			is_installed = true;
			hooks_take_arenas();
		}
	}
	pthread_mutex_unlock(&lock);
	return why;
}

bool hooks_are_installed(enum hooks_way *way)
{
	*way = way_in_use;
	return is_installed;
}

static void take(unsigned int arena)
{
	struct extent_hooks *now;

	if (!arena_hooks(arena, &now, NULL) && now == jemallocs_own)
		arena_hooks(arena, &now, &hooks_in_front);
}

bool hooks_are_jemallocs(const void *function)
{
	Dl_info its, jemallocs;

	return is_installed && dladdr(function, &its) &&
	       dladdr((const void *)jemalloc.mallctl, &jemallocs) &&
	       its.dli_fbase == jemallocs.dli_fbase;
}

void hooks_take_arenas(void)
{
	unsigned int nr, i;

	if (!is_installed)
		return;
	nr = nr_arenas();
	look_again();
	for (i = 0; i < nr; i++)
		if (is_in_use(i))
			take(i);
}

void hooks_take_own_arena(void)
{
	unsigned int arena;

	if (is_installed && read_option("thread.arena", &arena, sizeof(arena)))
		take(arena);
}

enum hooks_way hooks_best_way(void)
{
	shim_kernel_probe();
	if (shim_kernel_frees_units())
		return HOOKS_ZAP;
	return shim_is_on() && shim_conf()->backend == SHIM_BACKEND_MODULE ?
		       HOOKS_MODULE :
		       HOOKS_REMAP;
}
