/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The symbols that this module needs and the kernel does not export.
 *
 * Each function is reached through a static call, which is patched into a direct
 * CALL.  A call through a pointer would fault where IBT is on, because the
 * functions' ENDBR is sealed.  The types are the kernel's own prototypes.
 */
#ifndef PGTC_SYMBOLS_H
#define PGTC_SYMBOLS_H

#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/static_call.h>

#include <asm/pgalloc.h>

#include "compat/unexported.h"

DECLARE_STATIC_CALL(pgtc_pidfd_get_task, pidfd_get_task);
DECLARE_STATIC_CALL(pgtc_mm_access, mm_access);
DECLARE_STATIC_CALL(pgtc_flush_tlb_mm_range, flush_tlb_mm_range);
DECLARE_STATIC_CALL(pgtc_tlb_gather_mmu, tlb_gather_mmu);
DECLARE_STATIC_CALL(pgtc_tlb_finish_mmu, tlb_finish_mmu);
DECLARE_STATIC_CALL(pgtc_pmd_free_tlb, ___pmd_free_tlb);
DECLARE_STATIC_CALL(pgtc_pud_free_tlb, ___pud_free_tlb);
DECLARE_STATIC_CALL(pgtc_notifier_start, __mmu_notifier_invalidate_range_start);
DECLARE_STATIC_CALL(pgtc_notifier_end, __mmu_notifier_invalidate_range_end);

/* The frame of the huge zero page, which is_huge_zero_pmd() compares with. */
extern const unsigned long *pgtc_huge_zero_pfn;

int pgtc_symbols_init(void);

/* Return a symbol's address, or 0 if it is missing, which the log tells. */
unsigned long pgtc_find_symbol(const char *symbol);

/* Point static call @call_name to @function.  Return: is there such a function? */
#define PGTC_FIND(call_name, function)                                       \
	({                                                                   \
		unsigned long addr_ = pgtc_find_symbol(#function);           \
									     \
		if (addr_)                                                   \
			static_call_update(call_name,                        \
					   (typeof(function) *)addr_);       \
		addr_ != 0;                                                  \
	})

#endif /* PGTC_SYMBOLS_H */
