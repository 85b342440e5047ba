/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ABI of /dev/pgtable_cleanup, and the value of the proposed madvise().
 *
 * madvise(addr, len, MADV_CLEANUP_PGTABLE) frees the page tables that overlap
 * [addr, addr + len) and hold no entry at all.  It never touches a table that
 * holds data or state.  The ioctl below carries that meaning until a kernel
 * answers the madvise() itself.
 */
#ifndef _UAPI_PGTABLE_CLEANUP_H
#define _UAPI_PGTABLE_CLEANUP_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * The proposed advice.  It is far above the kernel's own values: every kernel
 * so far answers EINVAL.
 */
#define MADV_CLEANUP_PGTABLE	0x50544331

/* Grows when a known field changes its meaning; new fields only grow @size. */
#ifndef PGTABLE_CLEANUP_ABI_VERSION
#define PGTABLE_CLEANUP_ABI_VERSION	1
#endif

#define PGTABLE_CLEANUP_DEVICE	"/dev/pgtable_cleanup"

/**
 * struct pgtable_cleanup_range - one stretch of the target's address space
 * @addr: first byte, page-aligned
 * @len: bytes, rounded up to whole pages; 0 does nothing
 */
struct pgtable_cleanup_range {
	__u64 addr;
	__u64 len;
};

/* pgtable_cleanup_args.flags; the mask of those supported is in the features */
#define PGTABLE_CLEANUP_SCAN_ONLY	0x1 /* count, free nothing */
/* Work on all mappings.  The call takes no ranges then, and never fails by ENOMEM. */
#define PGTABLE_CLEANUP_WHOLE_MM	0x2
/*
 * A table that holds nothing but entries for the shared zero page counts as
 * empty too, and its entries are dropped: in private anonymous memory they hold
 * no data.  Those that KSM placed, those of locked memory and those that
 * mremap() moved (soft-dirty) stay, and so does their table.
 */
#define PGTABLE_CLEANUP_ZERO_PAGES	0x4

/* pgtable_cleanup_args.levels, and the index of each level's counts */
#define PGTABLE_CLEANUP_LEVEL_PTE	0x1
#define PGTABLE_CLEANUP_LEVEL_PMD	0x2
#define PGTABLE_CLEANUP_LEVEL_PUD	0x4
#define PGTABLE_CLEANUP_NR_LEVELS	3

/**
 * enum pgtable_cleanup_skip - why a table was left alone
 *
 * Every PTE table seen is empty or counted under one of the reasons in the
 * first group.  PMD and PUD tables that hold entries are just not empty.  Every
 * empty table, of any level, that a reclaim did not free is counted under one
 * of the second group.  Units of 2 MiB that are mapped without a PTE table are
 * not tables: they are counted apart, under the third group.
 *
 * @PGTABLE_CLEANUP_SKIP_MAPPED: at least one entry maps a page
 * @PGTABLE_CLEANUP_SKIP_SWAP: no page is mapped, but data is swapped out
 * @PGTABLE_CLEANUP_SKIP_MIGRATION: no page is mapped, but one is being migrated
 * @PGTABLE_CLEANUP_SKIP_MARKER: only state (guard, userfaultfd or poison marker)
 * @PGTABLE_CLEANUP_SKIP_OTHER: some other entry that is not none
 * @PGTABLE_CLEANUP_SKIP_UFFD: userfaultfd watches a VMA that overlaps the table
 * @PGTABLE_CLEANUP_SKIP_PFNMAP: a VMA that a driver fills (VM_PFNMAP,
 *	VM_MIXEDMAP, VM_IO or VM_DONTEXPAND), or one of a DAX file, overlaps the
 *	table
 * @PGTABLE_CLEANUP_SKIP_KSM_ZERO: all pages are zero pages, and KSM placed
 *	some; if PGTABLE_CLEANUP_ZERO_PAGES is not set, the reason is MAPPED
 *	instead.  Before Linux 6.6 KSM's zero pages can't be told from others:
 *	any in a VM_MERGEABLE VMA counts as KSM's
 * @PGTABLE_CLEANUP_SKIP_LOCKED: all pages are zero pages, and a VM_LOCKED VMA
 *	overlaps the table; if PGTABLE_CLEANUP_ZERO_PAGES is not set, the reason
 *	is MAPPED instead
 *
 * @PGTABLE_CLEANUP_SKIP_CONTENDED: a lock that may not be waited for was taken
 * @PGTABLE_CLEANUP_SKIP_TOO_MANY_LOCKS: more VMAs share the table than one
 *	batch can lock
 * @PGTABLE_CLEANUP_SKIP_REFILLED: it was empty when scanned, not when locked
 * @PGTABLE_CLEANUP_SKIP_CHANGED: the table or its VMAs changed after the scan
 * @PGTABLE_CLEANUP_SKIP_VMA: an empty PMD or PUD table that a VMA forbids to
 *	free: one of hugetlb, or one for which UFFD or PFNMAP would keep a PTE
 *	table
 *
 * @PGTABLE_CLEANUP_SKIP_THP: 2 MiB units mapped by a transparent huge page;
 *	an anonymous one keeps a deposited PTE table that can't be freed
 * @PGTABLE_CLEANUP_SKIP_HUGE_ZERO: 2 MiB units mapped by the huge zero page,
 *	which keep a deposited PTE table likewise
 * @PGTABLE_CLEANUP_SKIP_HUGETLB: 2 MiB units of hugetlb mappings
 *
 * @PGTABLE_CLEANUP_NR_SKIPS: how many reasons the counts have room for
 */
enum pgtable_cleanup_skip {
	PGTABLE_CLEANUP_SKIP_MAPPED,
	PGTABLE_CLEANUP_SKIP_SWAP,
	PGTABLE_CLEANUP_SKIP_MIGRATION,
	PGTABLE_CLEANUP_SKIP_MARKER,
	PGTABLE_CLEANUP_SKIP_OTHER,
	PGTABLE_CLEANUP_SKIP_UFFD,
	PGTABLE_CLEANUP_SKIP_PFNMAP,
	PGTABLE_CLEANUP_SKIP_CONTENDED,
	PGTABLE_CLEANUP_SKIP_TOO_MANY_LOCKS,
	PGTABLE_CLEANUP_SKIP_REFILLED,
	PGTABLE_CLEANUP_SKIP_CHANGED,
	PGTABLE_CLEANUP_SKIP_VMA,
	PGTABLE_CLEANUP_SKIP_THP,
	PGTABLE_CLEANUP_SKIP_HUGETLB,
	PGTABLE_CLEANUP_SKIP_KSM_ZERO,
	PGTABLE_CLEANUP_SKIP_LOCKED,
	PGTABLE_CLEANUP_SKIP_HUGE_ZERO,
	PGTABLE_CLEANUP_NR_SKIPS = 24,
};

#define PGTABLE_CLEANUP_MAX_RANGES	1024

/**
 * struct pgtable_cleanup_args - PGTABLE_CLEANUP_IOC_RECLAIM
 *
 * Read by the kernel:
 * @size: sizeof(struct pgtable_cleanup_args) as the caller knows it, a multiple
 *	of 8.  Shorter, down to PGTABLE_CLEANUP_ARGS_SIZE_MIN: the counts that
 *	don't fit are left out.  Longer, up to a page: E2BIG unless the rest is zero
 * @flags: PGTABLE_CLEANUP_SCAN_ONLY, ...
 * @levels: PGTABLE_CLEANUP_LEVEL_PTE, ...; at least one
 * @pidfd: the target process; -1: the caller
 * @inode_fd: reserved, must be -1
 * @nr_ranges: entries of @ranges, at most PGTABLE_CLEANUP_MAX_RANGES; 0 does nothing
 * @ranges: pointer to an array of struct pgtable_cleanup_range
 * @max_tables: stop after freeing (SCAN_ONLY: seeing) this many tables, of all
 *	levels together; 0: no limit
 * @max_hold_ns: once a hold of the target's mmap lock has lasted this many ns,
 *	it begins no more work; 0: default
 *
 * Read and written, so that a call that stopped early goes on when repeated
 * with the same struct:
 * @next_range: index of the range to go on in, 0 to begin; nr_ranges (1 under
 *	WHOLE_MM): all done
 * @next_level: index of the level that the walk of that range is at; 0 to begin
 * @next_addr: where in that range; 0: at its start
 *
 * Written by the kernel, for this call alone:
 * @holes: unmapped stretches met inside the ranges
 * @tables: tables seen, per level
 * @empty: of those, empty when scanned
 * @freed: of those, freed
 * @zero_pages_dropped: zero-page entries dropped
 * @skipped: see enum pgtable_cleanup_skip
 * @flushes: TLB flushes issued
 * @longest_hold_ns: longest time the target's mmap lock was held
 *
 * Returns 0 also when a signal, @max_tables or an exhausted batch ended the
 * call early.  Errors: E2BIG, EFAULT, EINVAL (unknown flag or level, reserved
 * field set, unaligned, wrapping or kernel-space range, cursor outside the
 * ranges), EBADF (pidfd is no pidfd), ESRCH (the target is gone, a kernel
 * thread, or a thread that doesn't lead its process), EPERM (another process
 * without CAP_SYS_NICE), EACCES (another process without PTRACE_MODE_READ
 * access), ENOMEM (a hole, the rest is done), EAGAIN (empty tables, all of
 * them blocked by contention).  The counts are written also on ENOMEM, EAGAIN
 * and on ESRCH of a target that went away during the call.
 */
struct pgtable_cleanup_args {
	__u32 size;
	__u32 flags;
	__u32 levels;
	__s32 pidfd;
	__s32 inode_fd;
	__u32 nr_ranges;
	__u64 ranges;
	__u64 max_tables;
	__u64 max_hold_ns;

	__u32 next_range;
	__u32 next_level;
	__u64 next_addr;

	__u64 holes;
	__u64 tables[PGTABLE_CLEANUP_NR_LEVELS];
	__u64 empty[PGTABLE_CLEANUP_NR_LEVELS];
	__u64 freed[PGTABLE_CLEANUP_NR_LEVELS];
	__u64 zero_pages_dropped;
	__u64 skipped[PGTABLE_CLEANUP_NR_SKIPS];
	__u64 flushes;
	__u64 longest_hold_ns;
};

/* The shortest struct taken: up to the cursor, for callers that want no counts. */
#define PGTABLE_CLEANUP_ARGS_SIZE_MIN	64

#define PGTABLE_CLEANUP_FEATURE_UNPROVED	0x1 /* loaded with allow_unproved=1 */

/**
 * struct pgtable_cleanup_features - PGTABLE_CLEANUP_IOC_FEATURES
 * @size: read: as in struct pgtable_cleanup_args; written: what the module knows
 * @abi_version: PGTABLE_CLEANUP_ABI_VERSION of the module
 * @features: PGTABLE_CLEANUP_FEATURE_UNPROVED, ...
 * @flags: flags of struct pgtable_cleanup_args that the module serves
 * @levels: levels that the module serves
 * @max_ranges: most ranges one call takes
 * @batch: most tables freed under one flush
 * @default_max_hold_ns: what max_hold_ns 0 stands for
 */
struct pgtable_cleanup_features {
	__u32 size;
	__u32 abi_version;
	__u32 features;
	__u32 flags;
	__u32 levels;
	__u32 max_ranges;
	__u32 batch;
	__u32 reserved;
	__u64 default_max_hold_ns;
};

#define PGTABLE_CLEANUP_FEATURES_SIZE_MIN	40

#define PGTABLE_CLEANUP_IOC_MAGIC	0xB7
/*
 * The module looks at type and number alone: the size that counts is the one
 * inside the struct, so callers built with an older header keep working.
 */
#define PGTABLE_CLEANUP_IOC_RECLAIM \
	_IOWR(PGTABLE_CLEANUP_IOC_MAGIC, 1, struct pgtable_cleanup_args)
#define PGTABLE_CLEANUP_IOC_FEATURES \
	_IOWR(PGTABLE_CLEANUP_IOC_MAGIC, 2, struct pgtable_cleanup_features)

#endif /* _UAPI_PGTABLE_CLEANUP_H */
