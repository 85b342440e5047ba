/* SPDX-License-Identifier: GPL-2.0 */
/* Walk down the page-table tree, and tell whether a table in it is empty. */
#ifndef PGTC_TREE_H
#define PGTC_TREE_H

#include <linux/mm.h>
#include <linux/pgtable.h>

/* The levels index the counts, and are walked in this order. */
enum { PGTC_PTE, PGTC_PMD, PGTC_PUD };

/**
 * struct pgtc_upper - a PMD or PUD table in the tree
 * @level: PGTC_PMD or PGTC_PUD
 * @pud: the entry that points to a PMD table
 * @p4d: the entry that points to a PUD table
 * @table: first entry of the table, of either level
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

#endif /* PGTC_TREE_H */
