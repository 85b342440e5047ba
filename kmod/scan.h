/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PGTC_SCAN_H
#define PGTC_SCAN_H

#include "call.h"

void pgtc_scan(struct pgtc_call *call);

#endif /* PGTC_SCAN_H */
