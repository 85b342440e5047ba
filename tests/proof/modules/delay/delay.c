// SPDX-License-Identifier: GPL-2.0
/*
 * Widen race windows: one thread spins where it enters chosen functions.
 * Interrupts stay on meanwhile, so that other CPUs' TLB flushes don't wait;
 * preemption may be off, by ftrace.
 *
 *   insmod delay.ko at=CALLEE[@CALLER]:MICROSECONDS[,...]
 *
 * With @CALLER only calls by that function count.  A caller that was inlined
 * goes by the name of the function that it was inlined into.  The thread whose
 * id is written to the parameter tid spins, at the points in the mask active.
 */
#include <linux/ftrace.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/sched.h>

#define MAX_POINTS 8

struct point {
	struct ftrace_ops ops;
	unsigned long caller, caller_end;
	u64 ns;
	unsigned long hits;
};

static struct point points[MAX_POINTS];
static unsigned int nr_points;

static char *at = "";
module_param(at, charp, 0444);
MODULE_PARM_DESC(at, "where to spin: CALLEE[@CALLER]:MICROSECONDS,...");

static int tid;
module_param(tid, int, 0644);
MODULE_PARM_DESC(tid, "the thread that spins (0: none)");

static unsigned int active;
module_param(active, uint, 0644);
MODULE_PARM_DESC(active, "at which points: a bit for each, the first is 1");

static int hits_get(char *buffer, const struct kernel_param *param)
{
	unsigned int i;
	int length = 0;

	for (i = 0; i < nr_points; i++)
		length += sysfs_emit_at(buffer, length, "%lu\n",
					READ_ONCE(points[i].hits));
	return length;
}

static const struct kernel_param_ops hits_ops = { .get = hits_get };
module_param_cb(hits, &hits_ops, NULL, 0444);
MODULE_PARM_DESC(hits, "how often each point was passed");

static void notrace spin(unsigned long ip, unsigned long parent,
			 struct ftrace_ops *ops, struct ftrace_regs *regs)
{
	struct point *point = container_of(ops, struct point, ops);
	u64 end;

	if (current->pid != READ_ONCE(tid) ||
	    !(READ_ONCE(active) & BIT(point - points)))
		return;
	if (point->caller &&
	    (parent < point->caller || parent >= point->caller_end))
		return;
	WRITE_ONCE(point->hits, point->hits + 1);
	end = ktime_get_mono_fast_ns() + point->ns;
	while (ktime_get_mono_fast_ns() < end)
		cpu_relax();
}

static int find_caller(struct point *point, const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	char symbol[KSYM_SYMBOL_LEN], *size;
	unsigned long length;
	int err = register_kprobe(&probe);

	if (err)
		return err;
	point->caller = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	sprint_symbol(symbol, point->caller);
	size = strchr(symbol, '/');
	if (!size || sscanf(size, "/0x%lx", &length) != 1)
		return -EINVAL;
	/* The kprobe may be a few bytes in, behind ENDBR or the ftrace call. */
	point->caller_end = point->caller + length;
	return 0;
}

static int add_point(char *text)
{
	struct point *point = &points[nr_points];
	char *callee, *caller;
	unsigned long us;
	int err;

	if (nr_points == MAX_POINTS)
		return -E2BIG;
	caller = strsep(&text, ":");
	if (!text || kstrtoul(text, 10, &us))
		return -EINVAL;
	callee = strsep(&caller, "@");
	point->ns = us * NSEC_PER_USEC;
	point->ops.func = spin;
	if (caller) {
		err = find_caller(point, caller);
		if (err) {
			pr_err("delay: no function %s\n", caller);
			return err;
		}
	}
	err = ftrace_set_filter(&point->ops, (unsigned char *)callee,
				strlen(callee), 1);
	if (!err)
		err = register_ftrace_function(&point->ops);
	if (err)
		pr_err("delay: cannot spin at %s (%d)\n", callee, err);
	else
		nr_points++;
	return err;
}

static void remove_points(void)
{
	while (nr_points) {
		nr_points--;
		unregister_ftrace_function(&points[nr_points].ops);
		ftrace_free_filter(&points[nr_points].ops);
	}
}

static int __init delay_init(void)
{
	char *copy = kstrdup(at, GFP_KERNEL), *rest = copy, *text;
	int err = copy ? 0 : -ENOMEM;

	while (!err && rest && *rest) {
		text = strsep(&rest, ",");
		err = add_point(text);
	}
	kfree(copy);
	if (err)
		remove_points();
	return err;
}

static void __exit delay_exit(void)
{
	remove_points();
}

module_init(delay_init);
module_exit(delay_exit);

MODULE_DESCRIPTION("Widen race windows, for the proofs of pgtable_cleanup");
MODULE_LICENSE("GPL");
