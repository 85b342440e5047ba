/* SPDX-License-Identifier: MIT */
/* Calls before which the library's thread is ended. */
#ifndef PGTC_ALONE_H
#define PGTC_ALONE_H

/* Look the functions up that this library's stand in front of, once. */
void alone_find(void);

#endif
