/* SPDX-License-Identifier: GPL-2.0 */
/* Unexported functions that not every kernel has, or that headers hide from modules. */
#ifndef PGTC_COMPAT_UNEXPORTED_H
#define PGTC_COMPAT_UNEXPORTED_H

#include <linux/mm.h>
#include <linux/static_call.h>
#include <linux/version.h>

/* asm/tlbflush.h hides this prototype from modules on every kernel. */
void flush_tlb_mm_range(struct mm_struct *mm, unsigned long start,
			unsigned long end, unsigned int stride_shift,
			bool freed_tables);

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
/* 6.6 brought pte_free_defer(): free a PTE table after an RCU grace period. */
DECLARE_STATIC_CALL(pgtc_pte_free_defer, pte_free_defer);
#endif

int pgtc_unexported_init(void);

#endif /* PGTC_COMPAT_UNEXPORTED_H */
