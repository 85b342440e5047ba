// SPDX-License-Identifier: GPL-2.0
/* Walk down the page-table tree, and tell whether a table in it is empty. */
#include "tree.h"

#include "compat/mm.h"
#include "symbols.h"
#include "verdict.h"

/* How many entries are tested for zero at once: four cache lines of a table. */
#define STRETCH 32

/**
 * pgtc_pmd_is_table() - does this entry point to a PTE table?
 * @entry: the pmd entry, read once by the caller
 */
bool pgtc_pmd_is_table(pmd_t entry)
{
	return pmd_present(entry) && !pmd_leaf(entry) && !pmd_bad(entry);
}

/**
 * pgtc_is_huge_zero() - does this entry map the huge zero page?
 * @entry: the pmd entry, read once by the caller
 */
bool pgtc_is_huge_zero(pmd_t entry)
{
	return IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) && pmd_present(entry) &&
	       pmd_leaf(entry) &&
	       pmd_pfn(entry) == READ_ONCE(*pgtc_huge_zero_pfn);
}

static __always_inline u64 line_bits(const u64 *entry)
{
	return entry[0] | entry[1] | entry[2] | entry[3] | entry[4] | entry[5] |
	       entry[6] | entry[7];
}

/* Return the OR of a stretch's raw entries: if it is 0, all are none. */
static __always_inline u64 stretch_bits(const u64 *entry)
{
	/*
	 * Reading entries is most of what the module costs, and the compiler
	 * makes only plain loads operands of the OR.  An entry that is being
	 * filled meanwhile shows or not, as it would with READ_ONCE(); before a
	 * table goes, it is read again under its lock.
	 */
	return data_race(line_bits(entry) | line_bits(entry + 8) |
			 line_bits(entry + 16) | line_bits(entry + 24));
}

/**
 * pgtc_past_none() - skip an entry that leads nowhere, and the zeros after it
 * @entry: the entry of @addr, in a table of any level
 * @addr: the address
 * @span: how many bytes one entry maps
 *
 * Most entries of a reservation's tables are none.  An entry that isn't zero is
 * left to the caller, even if it is none.
 *
 * Return: the start of what the next entry to look at maps, or the end of what
 * the table maps.
 */
unsigned long pgtc_past_none(const void *entry, unsigned long addr,
			     unsigned long span)
{
	const u64 *table = PTR_ALIGN_DOWN(entry, PAGE_SIZE);
	unsigned int first = (const u64 *)entry - table, i = first + 1;

	while (i < PTRS_PER_PMD) {
		if (IS_ALIGNED(i, STRETCH) && !stretch_bits(table + i))
			i += STRETCH;
		else if (!READ_ONCE(table[i]))
			i++;
		else
			break;
	}
	return ALIGN_DOWN(addr, span) + (i - first) * span;
}

/*
 * Return PGTC_ZERO_PAGES if this present entry maps a zero page that may be
 * dropped, else the skip reason.  pgtc_vma_keeps_zero_pages() may still have a
 * reason to keep it.
 */
static int classify_present(pte_t pte)
{
	if (!pte_special(pte) || !is_zero_pfn(pte_pfn(pte)))
		return PGTABLE_CLEANUP_SKIP_MAPPED;
	/*
	 * Since 6.6 KSM marks and counts the zero pages that it placed.  If
	 * they were dropped here, its ksm_zero_pages would count them for ever.
	 */
	if (pte_dirty(pte))
		return PGTABLE_CLEANUP_SKIP_KSM_ZERO;
	/* mremap() set this bit, which tells a checkpoint what has changed. */
	if (pte_soft_dirty(pte))
		return PGTABLE_CLEANUP_SKIP_MAPPED;
	return PGTC_ZERO_PAGES;
}

/**
 * pgtc_classify() - is this PTE table empty, and if not, what does it hold?
 * @table: the table's first entry; under RCU or the pte lock
 * @zero_pages: tell zero pages from other pages
 *
 * Raw zeros are skipped by the stretch; pte_none() judges only entries that are
 * not zero, because one that is none may have bits set by an erratum.
 *
 * Return: PGTC_EMPTY, or the skip reason: MAPPED if any entry is present, else
 * what the last entry that isn't none holds.  With @zero_pages, a table that
 * holds zero pages and nothing else is PGTC_ZERO_PAGES, or KSM_ZERO if KSM
 * placed any of them.
 */
int pgtc_classify(const pte_t *table, bool zero_pages)
{
	int found, zeros = PGTC_EMPTY, reason = PGTC_EMPTY;
	unsigned int start, i;

	for (start = 0; start < PTRS_PER_PTE; start += STRETCH) {
		if (likely(!stretch_bits((const u64 *)table + start)))
			continue;
		for (i = start; i < start + STRETCH; i++) {
			pte_t pte = READ_ONCE(table[i]);

			if (pte_none(pte))
				continue;
			if (!pte_present(pte)) {
				reason = pgtc_nonpresent_reason(pte);
				continue;
			}
			found = zero_pages ? classify_present(pte) :
					     PGTABLE_CLEANUP_SKIP_MAPPED;
			if (found == PGTABLE_CLEANUP_SKIP_MAPPED)
				return found;
			/* max() works: EMPTY < ZERO_PAGES < KSM_ZERO. */
			zeros = max(zeros, found);
		}
	}
	return reason == PGTC_EMPTY ? zeros : reason;
}

static p4d_t *find_p4d(struct mm_struct *mm, unsigned long addr,
		       unsigned long *next)
{
	pgd_t *pgd = pgd_offset(mm, addr);

	*next = ALIGN_DOWN(addr, PGDIR_SIZE) + PGDIR_SIZE;
	if (pgd_none(*pgd) || pgd_bad(*pgd))
		return NULL;
	*next = ALIGN_DOWN(addr, P4D_SIZE) + P4D_SIZE;
	return p4d_offset(pgd, addr);
}

static pud_t *find_pud(struct mm_struct *mm, unsigned long addr,
		       unsigned long *next)
{
	p4d_t *p4d = find_p4d(mm, addr, next);

	if (!p4d || p4d_none(*p4d) || p4d_bad(*p4d))
		return NULL;
	*next = ALIGN_DOWN(addr, PUD_SIZE) + PUD_SIZE;
	return pud_offset(p4d, addr);
}

static bool pud_is_table(pud_t entry)
{
	return pud_present(entry) && !pud_leaf(entry) && !pud_bad(entry);
}

/**
 * pgtc_find_pmd() - find the pmd entry of an address
 * @mm: its mmap lock is held, and a live VMA overlaps the address's 2 MiB, so
 *	that the upper tables stay
 * @addr: the address
 * @next: set to the end of what this entry's PMD table maps, or, if there is no
 *	entry, to the address where the next one may be
 *
 * Return: the entry, or NULL where an upper level is not a table.
 */
pmd_t *pgtc_find_pmd(struct mm_struct *mm, unsigned long addr,
		     unsigned long *next)
{
	pud_t *pud = find_pud(mm, addr, next);

	if (!pud)
		return NULL;
	if (!pud_is_table(READ_ONCE(*pud))) {
		*next = pgtc_past_none(pud, addr, PUD_SIZE);
		return NULL;
	}
	return pmd_offset(pud, addr);
}

/**
 * pgtc_find_upper() - find the PMD or PUD table of an address
 * @mm: as for pgtc_find_pmd()
 * @level: PGTC_PMD or PGTC_PUD
 * @addr: the address
 * @upper: filled in if there is such a table
 * @next: set to the address where the next such table may be
 *
 * Return: true if there is such a table.
 */
bool pgtc_find_upper(struct mm_struct *mm, unsigned int level,
		     unsigned long addr, struct pgtc_upper *upper,
		     unsigned long *next)
{
	upper->level = level;
	if (level == PGTC_PMD) {
		upper->pud = find_pud(mm, addr, next);
		if (!upper->pud)
			return false;
		if (!pud_is_table(READ_ONCE(*upper->pud))) {
			*next = pgtc_past_none(upper->pud, addr, PUD_SIZE);
			return false;
		}
		upper->pmd_table = pud_pgtable(*upper->pud);
		return true;
	}
	upper->p4d = find_p4d(mm, addr, next);
	if (!upper->p4d || p4d_none(*upper->p4d) || p4d_bad(*upper->p4d))
		return false;
	upper->pud_table = p4d_pgtable(*upper->p4d);
	return true;
}

/** pgtc_upper_empty() - does this PMD or PUD table hold no entry at all? */
bool pgtc_upper_empty(const struct pgtc_upper *upper)
{
	unsigned int start, i;

	for (start = 0; start < PTRS_PER_PMD; start += STRETCH) {
		if (likely(!stretch_bits((const u64 *)upper->table + start)))
			continue;
		for (i = start; i < start + STRETCH; i++) {
			if (upper->level == PGTC_PMD ?
				    !pmd_none(READ_ONCE(upper->pmd_table[i])) :
				    !pud_none(READ_ONCE(upper->pud_table[i])))
				return false;
		}
	}
	return true;
}
