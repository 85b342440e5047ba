// SPDX-License-Identifier: MIT
/* Start and end the library, and serve the program's own calls of it. */

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "alone.h"
#include "counts.h"
#include "find.h"
#include "install.h"
#include "next.h"
#include "pgtable_cleanup_shim.h"
#include "process.h"
#include "shim.h"
#include "start.h"
#include "text.h"

#define PUBLIC __attribute__((visibility("default")))
#define TOLD_VARIABLE "PGTABLE_CLEANUP_TOLD"

/* Free the empty tables before the fork, which would copy them. */
static void before_fork(void)
{
	shim_drain();
}

static void install_hooks(bool told)
{
	struct shim_text text = { 0 };
	struct jemalloc jemalloc;
	enum hooks_way way = HOOKS_NOTHING;
	const char *why =
		"this program does not allocate by jemalloc, or by one "
		"whose mallctl() it keeps to itself";

	if (jemalloc_find(&jemalloc) == JEMALLOC_FOUND) {
		way = hooks_best_way();
		why = hooks_install(&jemalloc, way);
	}
	if (told || shim_conf()->verbose < (why ? 1 : 2))
		return;
	shim_text_add(&text, "hooks:jemalloc: ");
	shim_text_add(&text, why ? why : "tables go by ");
	shim_text_add(&text, why ? "" : hooks_way_name(way));
	shim_text_say(&text);
}

/*
 * All processes that the program starts have the same complaints about the conf and
 * the device.  The first process prints them, and says so in the environment.
 */
static void start_once_told(void)
{
	/* A static string survives programs that write a title over their environment. */
	static char word[] = TOLD_VARIABLE "=1";
	bool told = secure_getenv(TOLD_VARIABLE) != NULL;

	shim_start(secure_getenv(SHIM_CONF_VARIABLE), told);
	if (shim_conf()->hooks == SHIM_HOOKS_JEMALLOC)
		install_hooks(told);
	if (!told)
		putenv(word);
}

__attribute__((constructor)) static void start(void)
{
	next_find();
	alone_find();
	start_once_told();
	if (!shim_is_on())
		return;
	pthread_atfork(before_fork, NULL, shim_forked);
}

/* By this function the Python extension finds and uses the library's hooks. */
PUBLIC const struct hooks_of_process *pgtable_cleanup_hooks_1(void)
{
	return &hooks_of_this_copy;
}

static struct pgtable_cleanup_stats all_stats(void)
{
	struct pgtable_cleanup_stats stats = shim_stats();

	stats.hook_units = hooks_stats().units;
	return stats;
}

void start_print_stats(void)
{
	/* Nothing may be new since the counts were printed before a filter that failed. */
	static uint64_t told;
	struct shim_text text = { 0 };
	struct pgtable_cleanup_stats stats;

	if (shim_conf()->stats != SHIM_STATS_EXIT)
		return;
	stats = all_stats();
	/* Shells and helpers that released nothing print no counts. */
	if (stats.notes + stats.hook_units == told)
		return;
	told = stats.notes + stats.hook_units;
	shim_text_add(&text, program_invocation_short_name);
	shim_text_add(&text, "[");
	shim_text_add_number(&text, getpid());
	shim_text_add(&text, "]:");
#define FIGURE(name, member)                  \
	shim_text_add(&text, " " #name "=");  \
	shim_text_add_number(&text, stats.member);
	SHIM_FIGURES(FIGURE)
#undef FIGURE
	shim_text_say(&text);
}

__attribute__((destructor)) static void end(void)
{
	if (!shim_is_filtered())
		start_print_stats();
}

PUBLIC int pgtable_cleanup_version(void)
{
	return PGTABLE_CLEANUP_SHIM_VERSION;
}

PUBLIC int pgtable_cleanup_drain(void)
{
	uint64_t before = shim_stats().drains;

	shim_drain();
	return shim_stats().drains != before;
}

PUBLIC int pgtable_cleanup_stats(struct pgtable_cleanup_stats *to, size_t size)
{
	struct pgtable_cleanup_stats stats = all_stats();

	/* A program that is newer than the library has counts that this one lacks. */
	__builtin_memset(to, 0, size);
	__builtin_memcpy(to, &stats,
			 size < sizeof(stats) ? size : sizeof(stats));
	return 0;
}

PUBLIC size_t pgtable_cleanup_conf(char *to, size_t size)
{
	struct shim_text text = { 0 };
	size_t n;

	shim_conf_write(shim_conf(), &text);
	if (size) {
		n = text.length < size ? text.length : size - 1;
		__builtin_memcpy(to, text.bytes, n);
		to[n] = '\0';
	}
	return text.length;
}

/*
 * AddressSanitizer refuses to start where another library comes before its own, since
 * the other could keep the sanitizer's functions from being called.  This library does
 * call them.  A program's own function of this name is used instead of this one.
 */
PUBLIC const char *__asan_default_options(void);
PUBLIC const char *__asan_default_options(void)
{
	return "verify_asan_link_order=0";
}
