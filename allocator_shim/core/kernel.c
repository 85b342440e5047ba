// SPDX-License-Identifier: MIT
/* Find out whether this kernel frees page tables by itself. */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "kernel.h"
#include "paging.h"
#include "proc.h"
#include "syscalls.h"

/* The probe is not repeated for ever if other threads keep changing VmPTE. */
#define MAX_PROBES 16

enum answer { UNKNOWN, STAY, GO };

static _Atomic unsigned int probes;
static _Atomic enum answer answer;

bool shim_kernel_frees_units(void)
{
	return atomic_load_explicit(&answer, memory_order_relaxed) == GO;
}

/* Return this process's VmPTE in kB, or 0 if it can't be read. */
static unsigned long vmpte(void)
{
	unsigned long kb = 0;

	shim_proc_number("/proc/self/status", "VmPTE:", &kb);
	return kb;
}

/*
 * Release whole units of scratch memory, and see whether VmPTE falls.
 *
 * This makes the system calls itself.  This library's functions, in front of libc's,
 * may have the module free a table, which would be taken for one that the kernel
 * freed.
 */
static enum answer ask(size_t units)
{
	const size_t length = (units + 1) << SHIM_UNIT_SHIFT;
	const unsigned long all = units * (SHIM_PAGE_SIZE >> 10);
	unsigned long full, left;
	uintptr_t first;
	long area;
	size_t i;

	area = shim_map(length);
	if (shim_failed(area))
		return UNKNOWN;
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
	if (!full || !left)
		return UNKNOWN;
	if (full >= left + all - all / 4)
		return GO;
	return full <= left + all / 4 ? STAY : UNKNOWN;
}

/*
 * Other threads map and unmap meanwhile.  So the answer counts only if it is the same
 * for two different numbers of units.  If it is not, a later drain asks again.
 */
void shim_kernel_probe(void)
{
	enum answer first;

	if (atomic_load(&answer) != UNKNOWN ||
	    atomic_fetch_add(&probes, 1) >= MAX_PROBES)
		return;
	first = ask(64);
	if (first != UNKNOWN && ask(40) == first)
		atomic_store(&answer, first);
}
