/* SPDX-License-Identifier: MIT */
/* How many system calls have a place in the table of syscall.c; assembly reads this, too. */
#ifndef PGTC_ACTIONS_H
#define PGTC_ACTIONS_H

#define SYSCALL_ACTIONS 512

#endif
