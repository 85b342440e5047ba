/* SPDX-License-Identifier: GPL-2.0 */
/* The state of one ioctl on its walk through an address space. */
#ifndef PGTC_CALL_H
#define PGTC_CALL_H

#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/rwsem.h>
#include <linux/time64.h>
#include <linux/types.h>

#include <pgtable_cleanup.h>

#include "tree.h"

/*
 * The most tables that are freed under one TLB flush.  128 keep a hold well
 * under a millisecond and divide the cost of the flush and its IPIs by 128.
 */
#define PGTC_BATCH			128
/* An upper table (PMD or PUD) takes twice as long: it is freed in the hold. */
#define PGTC_UPPER_BATCH		64
/* Dropping 2048 zero-page entries takes as long as freeing 128 empty tables. */
#define PGTC_MAX_DROPPED_IN_HOLD	2048
#define PGTC_DEFAULT_MAX_HOLD_NS	(2 * NSEC_PER_MSEC)
/* A VMA may need two rmap locks; lockdep can follow 48 held locks in all. */
#define PGTC_MAX_RMAP_LOCKS		32

#define PGTC_FLAGS	(PGTABLE_CLEANUP_SCAN_ONLY | \
			 PGTABLE_CLEANUP_WHOLE_MM | \
			 PGTABLE_CLEANUP_ZERO_PAGES)
#define PGTC_LEVELS	(PGTABLE_CLEANUP_LEVEL_PTE | \
			 PGTABLE_CLEANUP_LEVEL_PMD | \
			 PGTABLE_CLEANUP_LEVEL_PUD)

/**
 * struct pgtc_hold - one hold of the target's mmap lock
 * @writing: the lock is held for writing, else for reading
 * @start: when the lock was taken
 * @nr_asked: how often pgtc_hold_expired() was called in this hold
 */
struct pgtc_hold {
	bool writing;
	u64 start;
	unsigned int nr_asked;
};

/**
 * struct pgtc_locks - the locks that a hold has beside the mmap lock
 * @written_vma: the VMA that was write-locked last, if it filled all that its
 *	table maps: a table that lies inside it needs no other VMA locked
 * @rmap_vma: likewise the VMA whose rmap locks were taken last
 * @rmap: the rmap locks, held for writing, in the order in which they were taken
 * @nr_rmap: how many rmap locks are held
 */
struct pgtc_locks {
	const struct vm_area_struct *written_vma;
	const struct vm_area_struct *rmap_vma;
	struct rw_semaphore *rmap[PGTC_MAX_RMAP_LOCKS];
	unsigned int nr_rmap;
};

/**
 * struct pgtc_call - the state of one ioctl
 * @mm: the target, its mm_users pinned
 * @args: the caller's struct; its counts are filled in as the call goes
 * @level: the level whose tables this walk of the range looks at
 * @span: how many bytes one table of that level maps
 * @pos: address of the next span to look at
 * @walk_end: end of the range, rounded up to a span
 * @range_end: end of the range
 * @mapped_to: the range has been checked for holes up to here
 * @hold: the current hold of the mmap lock
 * @exclusive: the candidates need every page fault kept out: they are tables of
 *	an upper level, or some have zero-page entries to drop
 * @nr_candidates: how many tables the scan found empty
 * @candidate: for each of them, the first address that it maps, ascending
 * @locks: what the current hold has locked beside the mmap lock
 * @nr_notifier: how many mmu notifier ranges the current hold has begun
 * @notifier: those ranges
 * @dropped_in_hold: how many zero-page entries the current hold has dropped
 * @nr_detached: how many PTE tables are out of the tree and not yet freed
 * @detached: those tables
 */
struct pgtc_call {
	struct mm_struct *mm;
	struct pgtable_cleanup_args args;

	unsigned int level;
	unsigned long span;
	unsigned long pos;
	unsigned long walk_end;
	unsigned long range_end;
	unsigned long mapped_to;
	struct pgtc_hold hold;

	bool exclusive;
	unsigned int nr_candidates;
	unsigned long candidate[PGTC_BATCH];

	struct pgtc_locks locks;
	unsigned int nr_notifier;
	struct mmu_notifier_range notifier[PGTC_BATCH];
	unsigned int dropped_in_hold;
	unsigned int nr_detached;
	pgtable_t detached[PGTC_BATCH];
};

/* Return the sum of a count over all levels. */
static inline u64 pgtc_sum(const __u64 *per_level)
{
	return per_level[PGTC_PTE] + per_level[PGTC_PMD] + per_level[PGTC_PUD];
}

static inline bool pgtc_drops_zero_pages(const struct pgtc_call *call)
{
	return call->args.flags & PGTABLE_CLEANUP_ZERO_PAGES;
}

static inline void pgtc_skip(struct pgtc_call *call,
			     enum pgtable_cleanup_skip reason)
{
	call->args.skipped[reason]++;
}

#endif /* PGTC_CALL_H */
