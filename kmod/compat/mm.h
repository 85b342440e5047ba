/* SPDX-License-Identifier: GPL-2.0 */
/* Names and signatures of mm that differ between the kernels. */
#ifndef PGTC_COMPAT_MM_H
#define PGTC_COMPAT_MM_H

#include <linux/capability.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/sched/coredump.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/user_namespace.h>
#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#include <linux/leafops.h>
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 2, 0)
#include <linux/sched/exec_state.h>
#endif

#include <pgtable_cleanup.h>

#include "../symbols.h"

/* Has the OOM reaper been here?  Then what a walk sees can't be trusted. */
static inline bool pgtc_mm_unstable(struct mm_struct *mm)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
	return mm_flags_test(MMF_UNSTABLE, mm);
#else
	return test_bit(MMF_UNSTABLE, &mm->flags);
#endif
}

/* Keep out holders of this VMA's lock (since 6.4) who hold no mmap lock. */
static inline void pgtc_vma_start_write(struct vm_area_struct *vma)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	vma_start_write(vma);
#endif
}

/*
 * Does the caller have @cap in the user namespace that owns the task's program?
 * 7.2 moved that namespace from the mm to the task's exec state.
 */
static inline bool pgtc_target_capable(struct task_struct *task,
				       struct mm_struct *mm, int cap)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 2, 0)
	struct user_namespace *ns;
	bool capable;

	rcu_read_lock();
	ns = get_user_ns(rcu_dereference(task->exec_state)->user_ns);
	rcu_read_unlock();
	capable = ns_capable(ns, cap);
	put_user_ns(ns);
	return capable;
#else
	return ns_capable(mm->user_ns, cap);
#endif
}

/* May this VMA hold unmarked zero pages of KSM's?  Since 6.6 KSM marks them. */
static inline bool pgtc_ksm_may_hide(const struct vm_area_struct *vma)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	return false;
#else
	return vma->vm_flags & VM_MERGEABLE;
#endif
}

/* Return why this entry, neither present nor none, keeps its table. */
static inline enum pgtable_cleanup_skip pgtc_nonpresent_reason(pte_t pte)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
	/* 6.19 replaced the swap-entry predicates by leaf entries. */
	softleaf_t entry = softleaf_from_pte(pte);

	if (softleaf_is_swap(entry))
		return PGTABLE_CLEANUP_SKIP_SWAP;
	if (softleaf_is_migration(entry))
		return PGTABLE_CLEANUP_SKIP_MIGRATION;
	if (softleaf_is_marker(entry))
		return PGTABLE_CLEANUP_SKIP_MARKER;
#else
	swp_entry_t entry = pte_to_swp_entry(pte);

	if (!non_swap_entry(entry))
		return PGTABLE_CLEANUP_SKIP_SWAP;
	if (is_migration_entry(entry))
		return PGTABLE_CLEANUP_SKIP_MIGRATION;
	if (is_pte_marker_entry(entry))
		return PGTABLE_CLEANUP_SKIP_MARKER;
#endif
	return PGTABLE_CLEANUP_SKIP_OTHER;
}

static inline void pgtc_notifier_init(struct mmu_notifier_range *range,
				      struct mm_struct *mm, unsigned long start,
				      unsigned long end)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mm, start, end);
#else
	/* 6.3 dropped this function's VMA argument. */
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, NULL, mm, start,
				end);
#endif
}

static inline void pgtc_notifier_begin(struct mmu_notifier_range *range)
{
	range->flags |= MMU_NOTIFIER_RANGE_BLOCKABLE;
	static_call(pgtc_notifier_start)(range);
}

static inline void pgtc_notifier_finish(struct mmu_notifier_range *range)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	static_call(pgtc_notifier_end)(range);
#else
	/*
	 * The last argument, only_end, is false: before 6.6 this call has the
	 * TLBs of devices that walk the tables (IOMMU SVA) invalidated as well.
	 */
	static_call(pgtc_notifier_end)(range, false);
#endif
}

#endif /* PGTC_COMPAT_MM_H */
