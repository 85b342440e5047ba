// SPDX-License-Identifier: MIT
/* Answer the proposed madvise(addr, length, MADV_CLEANUP_PGTABLE). */

#include <errno.h>

#include "device.h"
#include "paging.h"
#include "shim.h"

long shim_cleanup_pgtable(const void *addr, size_t length)
{
	const size_t in_page = SHIM_PAGE_SIZE - 1;
	uintptr_t from = (uintptr_t)addr;
	size_t rounded = (length + in_page) & ~in_page;
	struct pgtable_cleanup_range range = { from, rounded };
	struct pgtable_cleanup_args args = {
		.levels = PGTABLE_CLEANUP_LEVEL_PTE |
			  PGTABLE_CLEANUP_LEVEL_PMD | PGTABLE_CLEANUP_LEVEL_PUD,
		.nr_ranges = 1,
		.ranges = (uintptr_t)&range,
	};
	long err;

	if (!shim_is_on() || from & in_page || (length && !rounded) ||
	    from + rounded < from)
		return -EINVAL;
	if (!length)
		return 0;
	if (shim_conf()->backend == SHIM_BACKEND_NULL)
		return 0;
	err = shim_device_call(&args);
	return err == -ENODEV ? -EINVAL : err;
}
