/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PGTC_HOLD_H
#define PGTC_HOLD_H

#include "call.h"

int pgtc_hold_to_scan(struct pgtc_call *call);
int pgtc_hold_to_reclaim(struct pgtc_call *call);
bool pgtc_hold_expired(struct pgtc_call *call);
void pgtc_hold_end(struct pgtc_call *call);

#endif /* PGTC_HOLD_H */
