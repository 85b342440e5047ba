/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PGTC_COMPAT_PROVED_H
#define PGTC_COMPAT_PROVED_H

#include <linux/types.h>

int pgtc_kernel_check(bool allow_unproved);

#endif /* PGTC_COMPAT_PROVED_H */
