/* SPDX-License-Identifier: MIT */
/*
 * The sizes of pages and of units.  A unit is the memory that one PTE table maps.  A
 * table takes one page, and has 8 bytes for each page that it maps: a unit is 2 MiB
 * where pages have 4 KiB, 32 MiB where they have 16 KiB, and 512 MiB where they have
 * 64 KiB.
 */
#ifndef PGTC_PAGING_H
#define PGTC_PAGING_H

/* These two numbers are hidden from other libraries, so that one load reads each. */
extern unsigned int shim_page_shift __attribute__((visibility("hidden")));
extern unsigned int shim_unit_shift __attribute__((visibility("hidden")));

#define SHIM_PAGE_SHIFT shim_page_shift
#define SHIM_PAGE_SIZE (1UL << SHIM_PAGE_SHIFT)
#define SHIM_UNIT_SHIFT shim_unit_shift
#define SHIM_UNIT_SIZE (1UL << SHIM_UNIT_SHIFT)
#define SHIM_PAGES_A_UNIT (1U << (SHIM_UNIT_SHIFT - SHIM_PAGE_SHIFT))

/*
 * Set both sizes.  A constructor that runs before all others does so by what the system
 * says.  The tests set other sizes after it, and before they use anything else.
 */
void shim_set_page_size(unsigned long bytes);

#endif
