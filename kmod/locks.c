// SPDX-License-Identifier: GPL-2.0
/* The locks that one batch needs beside the mmap lock. */
#include "internal.h"

#include "compat/mm.h"
#include "compat/protocol.h"

#include <linux/fs.h>
#include <linux/rmap.h>

static bool held(const struct pgtc_locks *locks, const struct rw_semaphore *sem)
{
	unsigned int i;

	for (i = 0; i < locks->nr; i++)
		if (locks->sem[i] == sem)
			return true;
	return false;
}

/*
 * Wait for the first lock of a hold only.  Among several i_mmap and anon_vma
 * roots there is no order, and mm_take_all_locks() takes them all: waiting for
 * a second one could deadlock.
 */
static int take(struct pgtc_locks *locks, struct rw_semaphore *sem)
{
	if (held(locks, sem))
		return 0;
	if (locks->nr == PGTC_MAX_RMAP_LOCKS)
		return -ENOSPC;
	if (!locks->nr)
		down_write(sem);
	else if (!down_write_trylock(sem))
		return -EBUSY;
	locks->sem[locks->nr++] = sem;
	return 0;
}

static void release_down_to(struct pgtc_locks *locks, unsigned int nr)
{
	while (locks->nr > nr)
		up_write(locks->sem[--locks->nr]);
}

/* All anon_vmas of a VMA share one root, and so one lock. */
static int take_vma(struct pgtc_call *call, struct vm_area_struct *vma)
{
	bool upper = call->level != PGTC_PTE;
	int err = 0;

	if ((upper || PGTC_LOCK_I_MMAP) && vma->vm_file)
		err = take(&call->locks,
			   &vma->vm_file->f_mapping->i_mmap_rwsem);
	if (!err && (upper || PGTC_LOCK_ANON_VMA) && vma->anon_vma)
		err = take(&call->locks, &vma->anon_vma->root->rwsem);
	return err;
}

/**
 * pgtc_lock_vmas() - keep those out who hold a VMA lock but no mmap lock
 * @call: mmap lock held for writing
 * @addr: what the table maps first
 *
 * A VMA lock alone lets page faults (6.4+), UFFDIO_MOVE (6.8+), madvise() and
 * smaps (7.x) go down the tree.  None tolerates that an upper table vanishes,
 * and UFFDIO_MOVE warns where a PTE table does (6.12).  Where zero pages were
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

	if (pgtc_vma_covers(call->locks.written, addr, end))
		return 0;
	for (vma = pgtc_vma_within(call->mm, addr, end); vma;
	     vma = pgtc_vma_next_within(call->mm, vma, end)) {
		if (++nr > PGTC_MAX_VMAS)
			return -ENOSPC;
		pgtc_vma_start_write(vma);
		if (pgtc_vma_covers(vma, addr, end))
			call->locks.written = vma;
	}
	return 0;
}

/**
 * pgtc_lock_table() - take the rmap locks of every VMA that overlaps a table
 * @call: mmap lock held; under pgtc_lock_vmas() if it is held for writing
 * @addr: what the table maps first
 *
 * A table is shared by all VMAs that overlap what it maps, so the locks of all
 * of them are needed, and each must allow it.  Upper tables need them on every
 * kernel: no rmap walk expects one to vanish.
 *
 * Return: 0; -ENOENT: no VMA is left there, or one that forbids it came;
 * -EBUSY: a lock that may not be waited for was taken; -ENOSPC: too many locks.
 * On error the locks held before are held still.
 */
int pgtc_lock_table(struct pgtc_call *call, unsigned long addr)
{
	unsigned long end = addr + call->span;
	unsigned int before = call->locks.nr;
	struct vm_area_struct *vma;
	int err = -ENOENT;

	if (pgtc_vma_covers(call->locks.vma, addr, end))
		return 0;
	for (vma = pgtc_vma_within(call->mm, addr, end); vma;
	     vma = pgtc_vma_next_within(call->mm, vma, end)) {
		if (pgtc_vma_forbids_table(vma))
			err = -ENOENT;
		else
			err = take_vma(call, vma);
		if (err)
			break;
		if (pgtc_vma_covers(vma, addr, end))
			call->locks.vma = vma;
	}
	if (err)
		release_down_to(&call->locks, before);
	return err;
}

/**
 * pgtc_unlock_all() - release every rmap lock of the hold
 * @call: the mmap lock is still held; VMA locks go with it
 */
void pgtc_unlock_all(struct pgtc_call *call)
{
	release_down_to(&call->locks, 0);
	call->locks.vma = NULL;
	call->locks.written = NULL;
}
