/* SPDX-License-Identifier: MIT */
/*
 * Let one thread at a time do something that others then leave out.
 *
 * Nobody waits for a claim, and none is lost for good.  A thread may never give its
 * claim up: a signal handler may leave by siglongjmp(), the thread may be cancelled,
 * or a child of vfork() may be killed.  Such a claim can be taken over.
 */
#ifndef PGTC_CLAIM_H
#define PGTC_CLAIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A claim is all zero while nobody has it. */
struct shim_claim {
	/* The holding thread's id, and the clock's ms when that thread took the claim. */
	_Atomic uint64_t holder;
};

/* Take a claim.  Return a ticket, or 0 if a thread or an interrupted function has it. */
uint64_t shim_claim_take(struct shim_claim *claim);

/* Give a claim up, unless another thread has taken it over. */
void shim_claim_drop(struct shim_claim *claim, uint64_t ticket);

/* Wait until another thread that has the claim has given it up, but not for ever. */
void shim_claim_wait(struct shim_claim *claim);

#endif
