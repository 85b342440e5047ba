// SPDX-License-Identifier: GPL-2.0
/* The symbols of unexported.h, looked up as those of symbols.h are. */
#include "unexported.h"

#include "../symbols.h"

#include <linux/pgtable.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
DEFINE_STATIC_CALL_NULL(pgtc_pte_free_defer, pte_free_defer);

static bool find_pte_free(void)
{
	return PGTC_FIND(pgtc_pte_free_defer, pte_free_defer);
}
#elif ALLOC_SPLIT_PTLOCKS
/* The inline pte_free() calls ptlock_free() where spinlocks are big (debug). */
DEFINE_STATIC_CALL_NULL(pgtc_ptlock_free, ptlock_free);

void ptlock_free(struct page *page)
{
	static_call(pgtc_ptlock_free)(page);
}

static bool find_pte_free(void)
{
	return PGTC_FIND(pgtc_ptlock_free, ptlock_free);
}
#else
static bool find_pte_free(void)
{
	return true;
}
#endif

/* 6.9 renamed the option of page-table isolation. */
#if !IS_ENABLED(CONFIG_PARAVIRT_XXL) &&                        \
	(IS_ENABLED(CONFIG_MITIGATION_PAGE_TABLE_ISOLATION) || \
	 IS_ENABLED(CONFIG_PAGE_TABLE_ISOLATION))
/* Without paravirt, the inline p4d_clear() calls __pti_set_user_pgtbl(). */
DEFINE_STATIC_CALL_NULL(pgtc_pti_set_user_pgtbl, __pti_set_user_pgtbl);

pgd_t __pti_set_user_pgtbl(pgd_t *pgdp, pgd_t pgd)
{
	return static_call(pgtc_pti_set_user_pgtbl)(pgdp, pgd);
}

static bool find_pti(void)
{
	return PGTC_FIND(pgtc_pti_set_user_pgtbl, __pti_set_user_pgtbl);
}
#else
static bool find_pti(void)
{
	return true;
}
#endif

/**
 * pgtc_unexported_init() - look up every symbol of unexported.h
 *
 * pgtc_symbols_init() must have been called.
 *
 * Return: 0, or -ENOENT if any is missing, which the log names.
 */
int pgtc_unexported_init(void)
{
	return find_pte_free() && find_pti() ? 0 : -ENOENT;
}
