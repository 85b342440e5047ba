// SPDX-License-Identifier: MIT
/* Let one thread at a time do something that others then leave out. */

#include <errno.h>
#include <time.h>

#include "claim.h"
#include "clock.h"
#include "syscalls.h"

/* A thread holds a claim for fewer ms than this, unless the kernel keeps it long. */
#define LONG_MS 1000

static uint32_t thread_of(uint64_t ticket)
{
	return ticket >> 32;
}

static uint32_t now_ms(void)
{
	return shim_clock(CLOCK_MONOTONIC_COARSE) / NSEC_PER_MSEC;
}

/*
 * Say whether a claim is old and its holder will not give it up.  If the holder is this
 * thread, it has left the function that took the claim for good, or a signal handler has
 * interrupted that function and runs now.  In the latter case there are two holders.
 * What claims protect stands that: it holds only hints, which the module checks.
 */
static bool is_abandoned(uint64_t ticket, uint32_t self)
{
	if (now_ms() - (uint32_t)ticket < LONG_MS)
		return false;
	return thread_of(ticket) == self ||
	       shim_syscall2(__NR_tkill, thread_of(ticket), 0) == -ESRCH;
}

uint64_t shim_claim_take(struct shim_claim *claim)
{
	uint64_t seen = atomic_load(&claim->holder), ticket;
	uint32_t self = shim_syscall0(__NR_gettid);

	if (seen && !is_abandoned(seen, self))
		return 0;
	ticket = (uint64_t)self << 32 | now_ms();
	return atomic_compare_exchange_strong(&claim->holder, &seen, ticket) ?
		       ticket :
		       0;
}

void shim_claim_drop(struct shim_claim *claim, uint64_t ticket)
{
	atomic_compare_exchange_strong(&claim->holder, &ticket, 0);
}

void shim_claim_wait(struct shim_claim *claim)
{
	const struct timespec a_while = { 0, 100000 };
	uint32_t self = shim_syscall0(__NR_gettid), begun = now_ms();

	while (now_ms() - begun < LONG_MS) {
		uint64_t seen = atomic_load(&claim->holder);

		if (!seen || thread_of(seen) == self ||
		    is_abandoned(seen, self))
			return;
		shim_syscall2(__NR_nanosleep, &a_while, NULL);
	}
}
