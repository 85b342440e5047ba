// SPDX-License-Identifier: GPL-2.0
#include "../symbols.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
DEFINE_STATIC_CALL_NULL(pgtc_pte_free_defer, pte_free_defer);

bool pgtc_find_unexported(void)
{
	return PGTC_FIND(pgtc_pte_free_defer, pte_free_defer);
}
#elif ALLOC_SPLIT_PTLOCKS
/* Where spinlocks are big (debug builds), the inline pte_free() calls this. */
DEFINE_STATIC_CALL_NULL(pgtc_ptlock_free, ptlock_free);

void ptlock_free(struct page *page)
{
	static_call(pgtc_ptlock_free)(page);
}

bool pgtc_find_unexported(void)
{
	return PGTC_FIND(pgtc_ptlock_free, ptlock_free);
}
#else
bool pgtc_find_unexported(void)
{
	return true;
}
#endif
