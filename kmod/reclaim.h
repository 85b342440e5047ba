/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PGTC_RECLAIM_H
#define PGTC_RECLAIM_H

#include "call.h"

int pgtc_reclaim(struct pgtc_call *call);

#endif /* PGTC_RECLAIM_H */
