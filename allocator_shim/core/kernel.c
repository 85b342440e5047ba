// SPDX-License-Identifier: MIT
/* Find out whether this kernel frees page tables by itself. */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "kernel.h"
#include "proc.h"
#include "syscalls.h"
#include "units.h"

#define TABLE_KB 4

static _Atomic bool tried;
static _Atomic bool frees_units;

bool shim_kernel_frees_units(void)
{
	return atomic_load_explicit(&frees_units, memory_order_relaxed);
}

/* Return this process's VmPTE in kB, or 0 if it can't be read. */
static unsigned long vmpte(void)
{
	unsigned long kb = 0;

	shim_proc_number("/proc/self/status", "VmPTE:", &kb);
	return kb;
}

/*
 * This makes the system calls itself.  This library's functions, in front of libc's,
 * may have the module free a table, which would be taken for one that the kernel
 * freed.
 */
void shim_kernel_probe(void)
{
	/* There are so many units that other threads' page tables do not matter. */
	const size_t units = 64, length = (units + 1) << SHIM_UNIT_SHIFT;
	unsigned long full, left;
	uintptr_t first;
	long area;
	size_t i;

	if (atomic_exchange(&tried, true))
		return;
	area = shim_map(length);
	if (shim_failed(area))
		return;
	/* A huge page has no table. */
	shim_syscall3(__NR_madvise, area, length, MADV_NOHUGEPAGE);
	first = (area + SHIM_UNIT_SIZE - 1) & ~(SHIM_UNIT_SIZE - 1);
	for (i = 0; i < units; i++)
		*(volatile char *)(first + (i << SHIM_UNIT_SHIFT)) = 1;
	full = vmpte();
	shim_syscall3(__NR_madvise, first, units << SHIM_UNIT_SHIFT,
		      MADV_DONTNEED);
	left = vmpte();
	shim_syscall2(__NR_munmap, area, length);
	atomic_store(&frees_units, full >= left + units * TABLE_KB / 2);
}
