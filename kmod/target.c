// SPDX-License-Identifier: GPL-2.0
/* Find the address space that a call is about, if the caller may clean it. */
#include "target.h"

#include "compat/mm.h"
#include "symbols.h"

#include <linux/cred.h>
#include <linux/ptrace.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>

/*
 * The capability is the one that process_madvise() asks for.  It is asked of the
 * user namespace that owns the target, so that a container's root may clean the
 * processes of that container.
 */
static bool may_reclaim(struct task_struct *task, struct mm_struct *mm)
{
	return mm == current->mm || pgtc_target_capable(task, mm, CAP_SYS_NICE);
}

static struct mm_struct *task_target_get(struct task_struct *task)
{
	struct mm_struct *mm = get_task_mm(task);
	bool allowed;

	if (!mm)
		return ERR_PTR(-ESRCH);
	allowed = may_reclaim(task, mm);
	mmput(mm);
	/* This comes before the ptrace check: EPERM tells nothing of the target. */
	if (!allowed)
		return ERR_PTR(-EPERM);

	mm = static_call(pgtc_mm_access)(task, PTRACE_MODE_READ_FSCREDS);
	if (IS_ERR_OR_NULL(mm))
		return mm ?: ERR_PTR(-ESRCH);
	/* An exec may have replaced the mm: check the one to be walked. */
	if (!may_reclaim(task, mm)) {
		mmput(mm);
		return ERR_PTR(-EPERM);
	}
	return mm;
}

/**
 * pgtc_target_get() - find the address space that a call is about
 * @pidfd: a pidfd of the process, or -1 for the caller
 *
 * It pins mm_users, so that the tables are not torn down during the walk.
 *
 * Return: the mm, to be released by mmput(), or an ERR_PTR: -EBADF (no pidfd),
 * -ESRCH (the process is gone), -EPERM (no CAP_SYS_NICE), -EACCES (no ptrace
 * access).
 */
struct mm_struct *pgtc_target_get(int pidfd)
{
	struct task_struct *task;
	struct mm_struct *mm;
	unsigned int flags;

	if (pidfd == -1) {
		mm = get_task_mm(current);
		return mm ?: ERR_PTR(-ESRCH);
	}
	task = static_call(pgtc_pidfd_get_task)(pidfd, &flags);
	if (IS_ERR(task))
		return ERR_CAST(task);
	mm = task_target_get(task);
	put_task_struct(task);
	return mm;
}
