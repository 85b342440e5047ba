// SPDX-License-Identifier: MIT
/* What this kernel does by itself. */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "device.h"
#include "kernel.h"
#include "syscalls.h"
#include "units.h"

static _Atomic bool tried;
static _Atomic bool frees_units;

bool shim_kernel_frees_units(void)
{
	return atomic_load_explicit(&frees_units, memory_order_relaxed);
}

/* PTE tables in a unit, or -1. */
static int tables_in(uintptr_t unit)
{
	struct pgtable_cleanup_range range = { unit, SHIM_UNIT_SIZE };
	struct pgtable_cleanup_args args = {
		.flags = PGTABLE_CLEANUP_SCAN_ONLY,
		.levels = PGTABLE_CLEANUP_LEVEL_PTE,
		.nr_ranges = 1,
		.ranges = (uintptr_t)&range,
	};

	return shim_device_call(&args) ? -1 : (int)args.tables[0];
}

void shim_kernel_probe(void)
{
	uintptr_t area, unit;
	long mapped;

	if (atomic_exchange(&tried, true))
		return;
	mapped = shim_syscall6(__NR_mmap, NULL, 2 * SHIM_UNIT_SIZE,
			       PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			       0);
	if (shim_failed(mapped))
		return;
	area = mapped;
	unit = (area + SHIM_UNIT_SIZE - 1) & ~(SHIM_UNIT_SIZE - 1);
	/* A huge page has no table. */
	shim_syscall3(__NR_madvise, area, 2 * SHIM_UNIT_SIZE, MADV_NOHUGEPAGE);
	*(volatile char *)unit = 1;
	if (tables_in(unit) == 1 &&
	    !shim_syscall3(__NR_madvise, unit, SHIM_UNIT_SIZE, MADV_DONTNEED))
		atomic_store(&frees_units, !tables_in(unit));
	shim_syscall2(__NR_munmap, area, 2 * SHIM_UNIT_SIZE);
}
