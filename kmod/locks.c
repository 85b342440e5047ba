// SPDX-License-Identifier: GPL-2.0
/* The locks that one batch needs beside the mmap lock. */
#include "internal.h"

#include "compat/protocol.h"

#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/rmap.h>

static bool held(const struct pgtc_rmap_locks *locks,
		 const struct rw_semaphore *sem)
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
static int take(struct pgtc_rmap_locks *locks, struct rw_semaphore *sem)
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

static void release_down_to(struct pgtc_rmap_locks *locks, unsigned int nr)
{
	while (locks->nr > nr)
		up_write(locks->sem[--locks->nr]);
}

/* All anon_vmas of a VMA share one root, and so one lock. */
static int take_vma(struct pgtc_rmap_locks *locks, struct vm_area_struct *vma)
{
	int err = 0;

	if (PGTC_LOCK_I_MMAP && vma->vm_file)
		err = take(locks, &vma->vm_file->f_mapping->i_mmap_rwsem);
	if (!err && PGTC_LOCK_ANON_VMA && vma->anon_vma)
		err = take(locks, &vma->anon_vma->root->rwsem);
	return err;
}

/**
 * pgtc_lock_unit() - take the rmap locks of every VMA that overlaps a unit
 * @call: mmap lock held
 * @unit: 2 MiB aligned address
 *
 * A table is shared by all VMAs that overlap its 2 MiB, so the locks of all of
 * them are needed, and each must allow it.
 *
 * Return: 0; -ENOENT: no VMA is left there, or one that forbids it came;
 * -EBUSY: a lock that may not be waited for was taken; -ENOSPC: too many locks.
 * On error the locks held before are held still.
 */
int pgtc_lock_unit(struct pgtc_call *call, unsigned long unit)
{
	struct vm_area_struct *vma = find_vma(call->mm, unit);
	unsigned int before = call->locks.nr;
	int err = -ENOENT;

	while (vma && vma->vm_start < unit + PMD_SIZE) {
		if (is_vm_hugetlb_page(vma) ||
		    pgtc_vma_forbids(vma) != PGTC_ALLOWED)
			err = -ENOENT;
		else
			err = take_vma(&call->locks, vma);
		if (err)
			break;
		vma = find_vma(call->mm, vma->vm_end);
	}
	if (err)
		release_down_to(&call->locks, before);
	return err;
}

/** pgtc_unlock_all() - release every rmap lock of the hold */
void pgtc_unlock_all(struct pgtc_call *call)
{
	release_down_to(&call->locks, 0);
}
