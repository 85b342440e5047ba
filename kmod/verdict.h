/* SPDX-License-Identifier: GPL-2.0 */
/* What is found about a table, or about the VMAs that overlap it. */
#ifndef PGTC_VERDICT_H
#define PGTC_VERDICT_H

/**
 * enum pgtc_verdict - the answers that are no reason to skip a table
 * @PGTC_ALLOWED: of VMAs: nothing speaks against freeing it
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
