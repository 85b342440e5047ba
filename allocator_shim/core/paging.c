// SPDX-License-Identifier: MIT
/* The sizes of pages and of units. */

#include <sys/auxv.h>

#include "paging.h"

/* A PTE has 8 bytes. */
#define PTE_SHIFT 3

unsigned int shim_page_shift, shim_unit_shift;

void shim_set_page_size(unsigned long bytes)
{
	shim_page_shift = __builtin_ctzl(bytes);
	shim_unit_shift = 2 * shim_page_shift - PTE_SHIFT;
}

/* 101 is the first priority that is not the compiler's own. */
__attribute__((constructor(101))) static void take_from_system(void)
{
	shim_set_page_size(getauxval(AT_PAGESZ));
}
