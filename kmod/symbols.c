// SPDX-License-Identifier: GPL-2.0
/* The symbols of symbols.h, looked up once, when the module is loaded. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "symbols.h"

#include <linux/kallsyms.h>
#include <linux/kprobes.h>

DEFINE_STATIC_CALL_NULL(pgtc_kallsyms_lookup_name, kallsyms_lookup_name);
DEFINE_STATIC_CALL_NULL(pgtc_pidfd_get_task, pidfd_get_task);
DEFINE_STATIC_CALL_NULL(pgtc_mm_access, mm_access);
DEFINE_STATIC_CALL_NULL(pgtc_flush_tlb_mm_range, flush_tlb_mm_range);
DEFINE_STATIC_CALL_NULL(pgtc_tlb_gather_mmu, tlb_gather_mmu);
DEFINE_STATIC_CALL_NULL(pgtc_tlb_finish_mmu, tlb_finish_mmu);
DEFINE_STATIC_CALL_NULL(pgtc_pmd_free_tlb, ___pmd_free_tlb);
DEFINE_STATIC_CALL_NULL(pgtc_pud_free_tlb, ___pud_free_tlb);
DEFINE_STATIC_CALL_NULL(pgtc_notifier_start,
			__mmu_notifier_invalidate_range_start);
DEFINE_STATIC_CALL_NULL(pgtc_notifier_end, __mmu_notifier_invalidate_range_end);

const unsigned long *pgtc_huge_zero_pfn;

/* kallsyms_lookup_name() is unexported itself: a kprobe on it tells its address. */
static int find_lookup(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	int err = register_kprobe(&probe);

	if (err) {
		pr_err("no kprobe on kallsyms_lookup_name (%d): this kernel hides what the module needs\n",
		       err);
		return err;
	}
	static_call_update(pgtc_kallsyms_lookup_name,
			   (typeof(kallsyms_lookup_name) *)probe.addr);
	unregister_kprobe(&probe);
	return 0;
}

unsigned long pgtc_find_symbol(const char *symbol)
{
	unsigned long addr = static_call(pgtc_kallsyms_lookup_name)(symbol);

	if (!addr)
		pr_err("this kernel has no %s\n", symbol);
	return addr;
}

static bool find_huge_zero_pfn(void)
{
	if (!IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		return true;
	pgtc_huge_zero_pfn = (void *)pgtc_find_symbol("huge_zero_pfn");
	return pgtc_huge_zero_pfn;
}

/**
 * pgtc_symbols_init() - look up every symbol of symbols.h
 *
 * Return: 0, or an error if any is missing, which the log names.
 */
int pgtc_symbols_init(void)
{
	int err = find_lookup();

	if (err)
		return err;
	if (PGTC_FIND(pgtc_pidfd_get_task, pidfd_get_task) &&
	    PGTC_FIND(pgtc_mm_access, mm_access) &&
	    PGTC_FIND(pgtc_flush_tlb_mm_range, flush_tlb_mm_range) &&
	    PGTC_FIND(pgtc_tlb_gather_mmu, tlb_gather_mmu) &&
	    PGTC_FIND(pgtc_tlb_finish_mmu, tlb_finish_mmu) &&
	    PGTC_FIND(pgtc_pmd_free_tlb, ___pmd_free_tlb) &&
	    PGTC_FIND(pgtc_pud_free_tlb, ___pud_free_tlb) &&
	    PGTC_FIND(pgtc_notifier_start,
		      __mmu_notifier_invalidate_range_start) &&
	    PGTC_FIND(pgtc_notifier_end, __mmu_notifier_invalidate_range_end) &&
	    find_huge_zero_pfn())
		return 0;
	return -ENOENT;
}
