// SPDX-License-Identifier: GPL-2.0
/* The locks that the module takes beside the mmap lock. */
#include "locks.h"

#include "compat/mm.h"
#include "compat/protocol.h"
#include "vma.h"

#include <linux/fs.h>
#include <linux/rmap.h>

/*
 * The most VMAs that can share a PTE table.  Up to 65530 may share a PUD table:
 * too many to lock in one hold.
 */
#define MAX_VMAS PTRS_PER_PTE

/**
 * pgtc_lock_vmas() - keep those out who hold a VMA lock but no mmap lock
 * @call: mmap lock held for writing
 * @addr: the first address that the table maps
 *
 * A VMA lock alone lets page faults (6.4+), UFFDIO_MOVE (6.8+), madvise() and
 * smaps (7.x) go down the tree.  None tolerates that an upper table vanishes,
 * and UFFDIO_MOVE warns where a PTE table does (6.12).  Where zero pages are
 * dropped, a fault must not map anything before the flush.  VMA locks come
 * before every rmap lock.
 *
 * Return: 0, or -ENOSPC: too many VMAs share the table.
 */
int pgtc_lock_vmas(struct pgtc_call *call, unsigned long addr)
{
	unsigned long end = addr + call->span;
	struct vm_area_struct *vma;
	unsigned int nr = 0;

	if (pgtc_vma_covers(call->locks.written_vma, addr, end))
		return 0;
	for (vma = pgtc_vma_within(call->mm, addr, end); vma;
	     vma = pgtc_vma_next_within(call->mm, vma, end)) {
		if (++nr > MAX_VMAS)
			return -ENOSPC;
		pgtc_vma_start_write(vma);
		if (pgtc_vma_covers(vma, addr, end))
			call->locks.written_vma = vma;
	}
	return 0;
}

static bool holds_rmap_lock(const struct pgtc_locks *locks,
			    const struct rw_semaphore *sem)
{
	unsigned int i;

	for (i = 0; i < locks->nr_rmap; i++)
		if (locks->rmap[i] == sem)
			return true;
	return false;
}

/*
 * Only the first lock of a hold is waited for.  There is no order among several
 * i_mmap and anon_vma roots, and mm_take_all_locks() takes them all: waiting for
 * a second one could deadlock.
 */
static int take_rmap_lock(struct pgtc_locks *locks, struct rw_semaphore *sem)
{
	if (holds_rmap_lock(locks, sem))
		return 0;
	if (locks->nr_rmap == PGTC_MAX_RMAP_LOCKS)
		return -ENOSPC;
	if (!locks->nr_rmap)
		down_write(sem);
	else if (!down_write_trylock(sem))
		return -EBUSY;
	locks->rmap[locks->nr_rmap++] = sem;
	return 0;
}

static void release_rmap_locks_from(struct pgtc_locks *locks,
				    unsigned int first)
{
	while (locks->nr_rmap > first)
		up_write(locks->rmap[--locks->nr_rmap]);
}

/* All anon_vmas of a VMA share one root, and so one lock. */
static int lock_rmap_of_vma(struct pgtc_call *call, struct vm_area_struct *vma)
{
	bool upper = call->level != PGTC_PTE;
	int err = 0;

	if ((upper || PGTC_LOCK_I_MMAP) && vma->vm_file)
		err = take_rmap_lock(&call->locks,
				     &vma->vm_file->f_mapping->i_mmap_rwsem);
	if (!err && (upper || PGTC_LOCK_ANON_VMA) && vma->anon_vma)
		err = take_rmap_lock(&call->locks, &vma->anon_vma->root->rwsem);
	return err;
}

/**
 * pgtc_lock_rmap() - take the rmap locks of every VMA that overlaps a table
 * @call: mmap lock held; if for writing, pgtc_lock_vmas() has been called
 * @addr: the first address that the table maps
 *
 * All VMAs that overlap what a table maps share it, so the locks of all of them
 * are needed, and each must allow that it is freed.  Upper tables need them on
 * every kernel: no rmap walk expects one to vanish.
 *
 * Return: 0; -ENOENT: no VMA is left there, or a new one forbids it;
 * -EBUSY: a lock that may not be waited for was taken; -ENOSPC: too many locks.
 * On error the call still holds the locks that it held before.
 */
int pgtc_lock_rmap(struct pgtc_call *call, unsigned long addr)
{
	unsigned long end = addr + call->span;
	unsigned int before = call->locks.nr_rmap;
	struct vm_area_struct *vma;
	int err = -ENOENT;

	if (pgtc_vma_covers(call->locks.rmap_vma, addr, end))
		return 0;
	for (vma = pgtc_vma_within(call->mm, addr, end); vma;
	     vma = pgtc_vma_next_within(call->mm, vma, end)) {
		if (pgtc_vma_forbids_table(vma))
			err = -ENOENT;
		else
			err = lock_rmap_of_vma(call, vma);
		if (err)
			break;
		if (pgtc_vma_covers(vma, addr, end))
			call->locks.rmap_vma = vma;
	}
	if (err)
		release_rmap_locks_from(&call->locks, before);
	return err;
}

/**
 * pgtc_unlock_rmap() - release every rmap lock of the hold, which is to end now
 * @call: mmap lock still held; the VMA locks go when it is released
 */
void pgtc_unlock_rmap(struct pgtc_call *call)
{
	release_rmap_locks_from(&call->locks, 0);
	call->locks.rmap_vma = NULL;
	call->locks.written_vma = NULL;
}
