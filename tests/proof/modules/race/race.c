// SPDX-License-Identifier: GPL-2.0
/*
 * A data race on purpose, for as long as this module is loaded: one thread
 * counts, the other reads the count, and nothing orders them.  Where KCSAN does
 * not report this race, its silence about other modules means nothing.
 */
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>

static struct task_struct *writer, *reader;
static unsigned long count, seen;

static int race_writer(void *unused)
{
	while (!kthread_should_stop()) {
		count++;
		cond_resched();
	}
	return 0;
}

static int race_reader(void *unused)
{
	while (!kthread_should_stop()) {
		seen += count;
		cond_resched();
	}
	return 0;
}

static int __init race_init(void)
{
	writer = kthread_run(race_writer, NULL, "race_writer");
	if (IS_ERR(writer))
		return PTR_ERR(writer);
	reader = kthread_run(race_reader, NULL, "race_reader");
	if (IS_ERR(reader)) {
		kthread_stop(writer);
		return PTR_ERR(reader);
	}
	return 0;
}

static void __exit race_exit(void)
{
	kthread_stop(reader);
	kthread_stop(writer);
}

module_init(race_init);
module_exit(race_exit);

MODULE_DESCRIPTION("A data race on purpose, for the proofs of pgtable_cleanup");
MODULE_LICENSE("GPL");
