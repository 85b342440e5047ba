/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PGTC_SCAN_H
#define PGTC_SCAN_H

#include "call.h"

void pgtc_batch_begin(struct pgtc_call *call);
bool pgtc_batch_full(const struct pgtc_call *call);
void pgtc_scan(struct pgtc_call *call);

#endif /* PGTC_SCAN_H */
