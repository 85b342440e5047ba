// SPDX-License-Identifier: MIT
/* A thread that drains when the interval is over, even if the program releases nothing. */

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "clock.h"
#include "interval.h"
#include "shim.h"
#include "state.h"
#include "syscalls.h"
#include "text.h"

/*
 * These stand in the place of the thread's id: it is being started, or it could not be
 * started, and this process won't try again.
 */
#define STARTING (-1)
#define REFUSED (-2)

/* How often to ask whether the kernel still counts an ended thread in the process. */
#define GONE_TRIES 1000

static const uint64_t all_signals = ~UINT64_C(0);

static long block_signals(const uint64_t *now, uint64_t *before)
{
	return shim_syscall4(__NR_rt_sigprocmask, SIG_SETMASK, now, before,
			     sizeof(*now));
}

/* Drain if the interval is over.  shim_drain_if_due() would call libc for the time. */
static void drain_if_old(void)
{
	uint64_t since = atomic_load(&shim_own->since);
	uint64_t interval = shim_conf()->interval_ms * NSEC_PER_MSEC;

	if (since && shim_clock(CLOCK_MONOTONIC_COARSE) - since >= interval)
		shim_drain();
}

static void see_to_interval(void)
{
	struct shim_interval *own = &shim_own->interval;
	uint32_t ms = shim_conf()->interval_ms;
	struct timespec interval = { ms / 1000, ms % 1000 * 1000000L };

	while (!atomic_load(&own->end) && shim_is_on()) {
		shim_syscall4(__NR_futex, &own->end, FUTEX_WAIT_PRIVATE, 0,
			      &interval);
		if (!atomic_load(&own->end))
			drain_if_old();
	}
	shim_syscall1(__NR_exit, 0);
}

/* Return: the id of the new thread, or a negative errno. */
static long spawn(struct shim_interval *own)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	/* The code that sanitizers add works only in threads that libc has made. */
	return -ENOSYS;
#else
	unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES |
			      CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
			      CLONE_SETTLS | CLONE_PARENT_SETTID |
			      CLONE_CHILD_CLEARTID;

	return shim_spawn(flags, own->stack + sizeof(own->stack), &own->thread,
			  &own->local[32], see_to_interval);
#endif
}

static void say_none(void)
{
	static _Atomic bool said;

	if (shim_conf()->verbose && !atomic_exchange(&said, true))
		shim_say("there is no thread to be had: the interval is seen "
			 "to by the program's own calls");
}

void shim_interval_begin(void)
{
	struct shim_interval *own;
	uint64_t before;
	int32_t none = 0;
	bool failed = false;

	if (!shim_conf()->thread || !shim_is_on())
		return;
	own = &shim_own->interval;
	if (atomic_load(&own->thread) || !shim_is_own_process())
		return;
	/*
	 * The thread inherits the mask.  Besides, a signal handler that never returned
	 * would leave the thread STARTING for ever.
	 */
	if (block_signals(&all_signals, &before))
		return;
	if (atomic_compare_exchange_strong(&own->thread, &none, STARTING)) {
		atomic_store(&own->end, 0);
		/* Who switches the shim off, or holds the thread, waits while this is STARTING. */
		if (!shim_is_on() || atomic_load(&own->held)) {
			atomic_store(&own->thread, 0);
		} else if (spawn(own) < 0) {
			atomic_store(&own->thread, REFUSED);
			failed = true;
		}
	}
	block_signals(&before, NULL);
	if (failed)
		say_none();
}

bool shim_interval_end(void)
{
	const struct timespec a_while = { 0, 50000 };
	struct shim_interval *own;
	int32_t thread, seen;
	int tries;

	if (!shim_own || !shim_conf()->thread)
		return false;
	own = &shim_own->interval;
	if (!shim_is_own_process())
		return false;
	while ((thread = atomic_load(&own->thread)) == STARTING)
		shim_syscall2(__NR_nanosleep, &a_while, NULL);
	if (thread <= 0)
		return false;
	atomic_store(&own->end, 1);
	shim_syscall3(__NR_futex, &own->end, FUTEX_WAKE_PRIVATE, 1);
	/* The kernel wakes one waiter only, and two may wait: look again after a while. */
	while ((seen = atomic_load(&own->thread)) == thread)
		shim_syscall4(__NR_futex, &own->thread, FUTEX_WAIT, seen,
			      &a_while);
	/* For a little longer the kernel counts the thread as one of the process's. */
	for (tries = 0; tries < GONE_TRIES; tries++) {
		if (shim_syscall3(__NR_tgkill, shim_syscall0(__NR_getpid),
				  thread, 0) == -ESRCH)
			break;
		shim_syscall2(__NR_nanosleep, &a_while, NULL);
	}
	return true;
}

bool shim_interval_hold(void)
{
	if (!shim_own)
		return false;
	atomic_fetch_add(&shim_own->interval.held, 1);
	return shim_interval_end();
}

void shim_interval_go_on(bool was_there)
{
	if (!shim_own)
		return;
	atomic_fetch_sub(&shim_own->interval.held, 1);
	if (was_there)
		shim_interval_begin();
}
