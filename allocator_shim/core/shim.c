// SPDX-License-Identifier: MIT
/* Switch the shim on and off. */

#include <stdatomic.h>
#include <sys/mman.h>

#include "device.h"
#include "shim.h"
#include "state.h"
#include "syscalls.h"
#include "text.h"

static struct shim_conf conf = SHIM_CONF_DEFAULT;

_Atomic int shim_off = 1;
static _Atomic bool stopped, filtered;

struct shim_state *shim_own;

static void say_stopped(const char *why)
{
	struct shim_text text = { 0 };

	if (!conf.verbose)
		return;
	shim_text_add(&text, why);
	shim_text_add(&text, conf.hooks == SHIM_HOOKS_JEMALLOC ?
				     "; that leaves jemalloc's hooks" :
				     "; empty page tables stay where they are");
	shim_text_say(&text);
}

/* Make the state of this address space.  Return: NULL, or why there is none. */
static const char *make_state(void)
{
	long made = shim_map(sizeof(*shim_own));

	if (shim_failed(made))
		return "no memory";
	if (shim_syscall3(__NR_madvise, made, sizeof(*shim_own),
			  MADV_WIPEONFORK)) {
		shim_syscall2(__NR_munmap, made, sizeof(*shim_own));
		return "this kernel does not clear memory at a fork "
		       "(MADV_WIPEONFORK)";
	}
	shim_own = (struct shim_state *)made;
	shim_forked();
	return NULL;
}

void shim_start(const char *text, bool told)
{
	const char *why = NULL;

	shim_text_begin();
	if (text)
		shim_conf_read(&conf, text, told);
	if (conf.backend == SHIM_BACKEND_MODULE)
		why = shim_device_open();
	if (!why)
		why = make_state();
	if (why) {
		if (!told)
			say_stopped(why);
		return;
	}
	atomic_fetch_sub(&shim_off, 1);
	if (!told && conf.verbose >= 2)
		shim_say(conf.backend == SHIM_BACKEND_NULL ?
				 "backend null: nothing is freed" :
				 "on");
}

void shim_forked(void)
{
	if (shim_own)
		atomic_store(&shim_own->process, shim_syscall0(__NR_getpid));
}

bool shim_is_own_process(void)
{
	int32_t self = shim_syscall0(__NR_getpid), seen = 0;

	/* The kernel has cleared the state in a child that was forked past libc's fork(). */
	return atomic_compare_exchange_strong(&shim_own->process, &seen,
					      self) ||
	       seen == self;
}

void shim_stop(const char *why)
{
	if (atomic_exchange(&stopped, true))
		return;
	atomic_fetch_add(&shim_off, 1);
	if (why)
		say_stopped(why);
}

bool shim_before_filter(void)
{
	bool was_on;

	shim_drain();
	was_on = !atomic_fetch_add(&shim_off, 1);
	/* A filter for all threads would kill a thread that is draining. */
	if (was_on)
		shim_claim_wait(&shim_own->draining);
	return was_on;
}

void shim_after_filter(bool set)
{
	if (set)
		atomic_store(&filtered, true);
	else
		atomic_fetch_sub(&shim_off, 1);
}

bool shim_is_filtered(void)
{
	return atomic_load(&filtered);
}

const struct shim_conf *shim_conf(void)
{
	return &conf;
}
