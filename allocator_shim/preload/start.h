/* SPDX-License-Identifier: MIT */
/* Start and end the library. */
#ifndef PGTC_START_H
#define PGTC_START_H

/* Print the counts, if the conf asks for them and there are any. */
void start_print_stats(void);

#endif
