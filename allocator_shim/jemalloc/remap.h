/* SPDX-License-Identifier: MIT */
/* Free a unit's table by mremap(), which moves it away from under the mapping. */
#ifndef PGTC_REMAP_H
#define PGTC_REMAP_H

#include <stdint.h>

/*
 * Reserve the address space that tables are moved to, and try it.
 *
 * Return: NULL, or why tables can't be moved away here.
 */
const char *remap_start(void);

/*
 * Free the table of a unit that holds no page.  The mapping stays as it is, with all
 * that the program has set on it, except that locked memory gets unlocked.
 * If the table can't be freed, it stays.
 */
void remap_unit(uintptr_t unit);

#endif
