/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PGTC_TARGET_H
#define PGTC_TARGET_H

struct mm_struct;

struct mm_struct *pgtc_target_get(int pidfd);

#endif /* PGTC_TARGET_H */
