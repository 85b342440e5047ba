/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PGTC_RUN_H
#define PGTC_RUN_H

#include "call.h"

int pgtc_run(struct pgtc_call *call,
	     const struct pgtable_cleanup_range *ranges);

#endif /* PGTC_RUN_H */
