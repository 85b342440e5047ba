/* SPDX-License-Identifier: GPL-2.0 */
/* The verdicts on a table, and on the VMAs that overlap it. */
#ifndef PGTC_VERDICT_H
#define PGTC_VERDICT_H

/**
 * enum pgtc_verdict - the answers that are no reason to skip a table
 * @PGTC_ALLOWED: of VMAs: they allow that the table is freed
 * @PGTC_EMPTY: of a table: it holds no entry
 * @PGTC_ZERO_PAGES: of a table: it holds zero pages, which may be dropped, and
 *	nothing else
 *
 * A function that answers with a verdict returns an int: one of these, or why
 * the table is skipped, an enum pgtable_cleanup_skip, which begins at 0.
 */
enum pgtc_verdict {
	PGTC_ALLOWED = -3,
	PGTC_EMPTY = -2,
	PGTC_ZERO_PAGES = -1,
};

#endif /* PGTC_VERDICT_H */
