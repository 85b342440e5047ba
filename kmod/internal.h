/* SPDX-License-Identifier: GPL-2.0 */
/* What the parts of the module share. */
#ifndef PGTC_INTERNAL_H
#define PGTC_INTERNAL_H

#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/rwsem.h>
#include <linux/types.h>

#include <pgtable_cleanup.h>

#undef pr_fmt
#define pr_fmt(fmt) "pgtable_cleanup: " fmt

/*
 * Most tables freed under one flush.  128 keep a hold well under a millisecond
 * and still divide the cost of the flush, and of its IPIs, by 128.
 */
#define PGTC_BATCH			128
/* An upper table takes about twice as long: it is freed inside the hold. */
#define PGTC_UPPER_BATCH		64
/* As long as 128 tables without entries take. */
#define PGTC_MAX_DROPPED_IN_HOLD	2048
#define PGTC_DEFAULT_MAX_HOLD_NS	(2 * NSEC_PER_MSEC)
/* Two for each of the VMAs of a crowded unit; lockdep can follow 48 in all. */
#define PGTC_MAX_RMAP_LOCKS		32
/*
 * As many as can share a PTE table.  A PUD table may be shared by 65530: too
 * many to lock in one hold.
 */
#define PGTC_MAX_VMAS			PTRS_PER_PTE

#define PGTC_FLAGS	(PGTABLE_CLEANUP_SCAN_ONLY | \
			 PGTABLE_CLEANUP_WHOLE_MM | \
			 PGTABLE_CLEANUP_ZERO_PAGES)
#define PGTC_LEVELS	(PGTABLE_CLEANUP_LEVEL_PTE | \
			 PGTABLE_CLEANUP_LEVEL_PMD | \
			 PGTABLE_CLEANUP_LEVEL_PUD)

/* Index of each level: in the counts, and in the order of the walk. */
enum { PGTC_PTE, PGTC_PMD, PGTC_PUD };

/**
 * struct pgtc_locks - locks that one hold has beside the mmap lock
 * @written: the VMA last write-locked, if it filled all that its table maps: a
 *	table that lies inside it as well needs no other VMA locked
 * @sem: the rmap locks, held for writing, in the order taken
 * @nr: how many
 * @vma: the VMA whose rmap locks were taken last, as @written
 */
struct pgtc_locks {
	const struct vm_area_struct *written;
	struct rw_semaphore *sem[PGTC_MAX_RMAP_LOCKS];
	unsigned int nr;
	const struct vm_area_struct *vma;
};

/**
 * struct pgtc_call - one ioctl on its way through an address space
 * @mm: the target, its mm_users pinned
 * @args: the caller's struct; its counts are filled in as the call goes
 * @level: of the tables that this walk of the range is about
 * @span: bytes that one table of the level maps
 * @pos: address of the next such span to look at
 * @walk_end: end of the range, rounded up to such a span
 * @range_end: end of the range
 * @mapped_to: the range has been checked for holes up to here
 * @hold_start: when the current hold of the mmap lock began
 * @clock_turn: counts the questions whether it has expired
 * @exclusive: these candidates need every page fault kept out: tables of an
 *	upper level, or with zero-page entries to drop
 * @nr_candidates: tables found empty by the scan, not yet reclaimed
 * @candidate: the addresses they begin to map, ascending
 * @locks: locks of the current hold beside the mmap lock
 * @nr_notifier: mmu notifier ranges begun in the current hold
 * @notifier: those ranges
 * @dropped_in_hold: zero-page entries dropped in the current hold
 * @nr_detached: PTE tables of the current hold out of the tree, not yet freed
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
	u64 hold_start;
	unsigned int clock_turn;

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

/**
 * struct pgtc_upper - a PMD or PUD table in the tree
 * @level: PGTC_PMD or PGTC_PUD
 * @pud: the entry that points to a PMD table
 * @p4d: the entry that points to a PUD table
 * @table: its first entry
 * @pmd_table: first entry of a PMD table
 * @pud_table: first entry of a PUD table
 */
struct pgtc_upper {
	unsigned int level;
	union {
		pud_t *pud;
		p4d_t *p4d;
	};
	union {
		const void *table;
		pmd_t *pmd_table;
		pud_t *pud_table;
	};
};

/* target.c */
struct mm_struct *pgtc_target_get(int pidfd);

/* run.c */
int pgtc_run(struct pgtc_call *call,
	     const struct pgtable_cleanup_range *ranges);
void pgtc_hold_begin(struct pgtc_call *call);
bool pgtc_hold_expired(struct pgtc_call *call);
void pgtc_hold_end(struct pgtc_call *call);

/* scan.c */
void pgtc_scan(struct pgtc_call *call);
int pgtc_vma_forbids(const struct vm_area_struct *vma);
bool pgtc_vma_forbids_table(struct vm_area_struct *vma);
int pgtc_vma_keeps_zero_pages(const struct vm_area_struct *vma);

/* tree.c */
int pgtc_classify(const pte_t *table, bool zero_pages);
unsigned long pgtc_past_none(const void *entry, unsigned long addr,
			     unsigned long span);
pmd_t *pgtc_find_pmd(struct mm_struct *mm, unsigned long addr,
		     unsigned long *next);
bool pgtc_pmd_is_table(pmd_t entry);
bool pgtc_is_huge_zero(pmd_t entry);
bool pgtc_find_upper(struct mm_struct *mm, unsigned int level,
		     unsigned long addr, struct pgtc_upper *upper,
		     unsigned long *next);
bool pgtc_upper_empty(const struct pgtc_upper *upper);

/* locks.c */
int pgtc_lock_vmas(struct pgtc_call *call, unsigned long addr);
int pgtc_lock_table(struct pgtc_call *call, unsigned long addr);
void pgtc_unlock_all(struct pgtc_call *call);

/* reclaim.c */
int pgtc_reclaim(struct pgtc_call *call);

/* symbols.c */
int pgtc_symbols_init(void);

/* compat/proved.c */
int pgtc_kernel_check(bool allow_unproved);

/* What pgtc_classify() answers besides a skip reason... */
#define PGTC_EMPTY	(-2)
#define PGTC_ZERO_PAGES	(-1)
/* ...and what pgtc_vma_forbids() and pgtc_vma_keeps_zero_pages() do. */
#define PGTC_ALLOWED	(-1)

/*
 * The first VMA that overlaps [@addr, @end), or NULL.  Not vma_find(): on 6.1 its
 * end is inclusive.
 */
static inline struct vm_area_struct *
pgtc_vma_within(struct mm_struct *mm, unsigned long addr, unsigned long end)
{
	struct vm_area_struct *vma = find_vma(mm, addr);

	return vma && vma->vm_start < end ? vma : NULL;
}

/* The next one after @vma that does, or NULL: together, all that share a table. */
static inline struct vm_area_struct *
pgtc_vma_next_within(struct mm_struct *mm, const struct vm_area_struct *vma,
		     unsigned long end)
{
	return vma->vm_end < end ? pgtc_vma_within(mm, vma->vm_end, end) : NULL;
}

/* Is it the only one that overlaps [@addr, @end)?  NULL is none. */
static inline bool pgtc_vma_covers(const struct vm_area_struct *vma,
				   unsigned long addr, unsigned long end)
{
	return vma && vma->vm_start <= addr && end <= vma->vm_end;
}

/* A count of all levels together. */
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

#endif /* PGTC_INTERNAL_H */
