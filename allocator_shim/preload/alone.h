/* SPDX-License-Identifier: MIT */
/* End the library's thread before calls that it would be in the way of. */
#ifndef PGTC_ALONE_H
#define PGTC_ALONE_H

/* Look up, once, the functions that those of alone.c stand in front of. */
void alone_find(void);

#endif
