/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PGTC_LOCKS_H
#define PGTC_LOCKS_H

#include "call.h"

int pgtc_lock_vmas(struct pgtc_call *call, unsigned long addr);
int pgtc_lock_rmap(struct pgtc_call *call, unsigned long addr);
void pgtc_unlock_rmap(struct pgtc_call *call);

#endif /* PGTC_LOCKS_H */
