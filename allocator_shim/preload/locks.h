/* SPDX-License-Identifier: MIT */
/* Lock memory again if the hooks may have unlocked it. */
#ifndef PGTC_LOCKS_H
#define PGTC_LOCKS_H

#include "pages.h"

/* As pages_try_lock(), but a call is made again where the hooks move memory alone. */
bool locks_try(struct pages_locking *locking, long result);

#endif
