// SPDX-License-Identifier: GPL-2.0
/* /dev/pgtable_cleanup: copy a call in, validate it, copy its answer out. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "call.h"
#include "compat/proved.h"
#include "compat/unexported.h"
#include "run.h"
#include "symbols.h"
#include "target.h"

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

static unsigned short mode = 0666;
module_param(mode, ushort, 0444);
MODULE_PARM_DESC(mode, "permissions of /dev/pgtable_cleanup (0666: cleaning one's own memory is harmless)");

static bool allow_unproved;
module_param(allow_unproved, bool, 0444);
MODULE_PARM_DESC(allow_unproved, "load on another vendor's build of a supported series; taints the kernel");

static bool kernel_proved;

/* A caller's struct begins with its size, which may differ from ours. */
static int copy_sized(void *to, size_t known, size_t least,
		      const void __user *from, u32 *size)
{
	if (get_user(*size, (const u32 __user *)from))
		return -EFAULT;
	if (*size < least || *size % sizeof(u64))
		return -EINVAL;
	if (*size > PAGE_SIZE)
		return -E2BIG;
	return copy_struct_from_user(to, known, from, *size);
}

static int check_args(const struct pgtable_cleanup_args *args)
{
	u32 nr_walked = args->nr_ranges;

	if (args->flags & ~PGTC_FLAGS || args->levels & ~PGTC_LEVELS ||
	    !args->levels || args->inode_fd != -1)
		return -EINVAL;
	if (args->flags & PGTABLE_CLEANUP_WHOLE_MM) {
		if (args->nr_ranges || args->ranges)
			return -EINVAL;
		nr_walked = 1;
	}
	if (args->nr_ranges > PGTABLE_CLEANUP_MAX_RANGES)
		return -EINVAL;
	if (args->next_range > nr_walked ||
	    args->next_level >= PGTABLE_CLEANUP_NR_LEVELS ||
	    (args->next_range == nr_walked &&
	     (args->next_level || args->next_addr)) ||
	    !PAGE_ALIGNED(args->next_addr))
		return -EINVAL;
	return 0;
}

static int check_ranges(const struct pgtable_cleanup_args *args,
			struct pgtable_cleanup_range *ranges,
			unsigned long task_size)
{
	u32 i;

	for (i = 0; i < args->nr_ranges; i++) {
		u64 addr = ranges[i].addr, len = PAGE_ALIGN(ranges[i].len);

		/* Rounding up to pages wraps to 0 only for a len near 2^64. */
		if (!PAGE_ALIGNED(addr) || (ranges[i].len && !len) ||
		    addr + len < addr || addr + len > task_size)
			return -EINVAL;
		ranges[i].len = len;
		if (i == args->next_range && args->next_addr &&
		    (args->next_addr < addr || args->next_addr > addr + len))
			return -EINVAL;
	}
	return 0;
}

static struct pgtable_cleanup_range *
copy_ranges(const struct pgtable_cleanup_args *args)
{
	if (!args->nr_ranges)
		return NULL;
	return memdup_user(u64_to_user_ptr(args->ranges),
			   array_size(args->nr_ranges,
				      sizeof(struct pgtable_cleanup_range)));
}

/* The counts that the caller passed in must not be taken for the answer. */
static void clear_counts(struct pgtable_cleanup_args *args)
{
	memset((void *)args + offsetof(typeof(*args), holes), 0,
	       sizeof(*args) - offsetof(typeof(*args), holes));
}

static int ioctl_reclaim(void __user *user)
{
	struct pgtable_cleanup_range *ranges;
	struct pgtc_call *call;
	int err;
	u32 size;

	call = kvzalloc(sizeof(*call), GFP_KERNEL_ACCOUNT);
	if (!call)
		return -ENOMEM;
	err = copy_sized(&call->args, sizeof(call->args),
			 PGTABLE_CLEANUP_ARGS_SIZE_MIN, user, &size);
	if (err)
		goto free_call;
	err = check_args(&call->args);
	if (err)
		goto free_call;
	clear_counts(&call->args);

	ranges = copy_ranges(&call->args);
	if (IS_ERR(ranges)) {
		err = PTR_ERR(ranges);
		goto free_call;
	}
	call->mm = pgtc_target_get(call->args.pidfd);
	if (IS_ERR(call->mm)) {
		err = PTR_ERR(call->mm);
		goto free_ranges;
	}
	err = check_ranges(&call->args, ranges, call->mm->task_size);
	if (err)
		goto put_mm;

	err = pgtc_run(call, ranges);
	if (copy_to_user(user, &call->args,
			 min_t(size_t, size, sizeof(call->args))))
		err = -EFAULT;
put_mm:
	mmput(call->mm);
free_ranges:
	kfree(ranges);
free_call:
	kvfree(call);
	return err;
}

static int ioctl_features(void __user *user)
{
	struct pgtable_cleanup_features features;
	u32 size;
	int err;

	err = copy_sized(&features, sizeof(features),
			 PGTABLE_CLEANUP_FEATURES_SIZE_MIN, user, &size);
	if (err)
		return err;
	features = (struct pgtable_cleanup_features){
		.size = sizeof(features),
		.abi_version = PGTABLE_CLEANUP_ABI_VERSION,
		.features = kernel_proved ? 0 :
					    PGTABLE_CLEANUP_FEATURE_UNPROVED,
		.flags = PGTC_FLAGS,
		.levels = PGTC_LEVELS,
		.max_ranges = PGTABLE_CLEANUP_MAX_RANGES,
		.batch = PGTC_BATCH,
		.default_max_hold_ns = PGTC_DEFAULT_MAX_HOLD_NS,
	};
	if (copy_to_user(user, &features,
			 min_t(size_t, size, sizeof(features))))
		return -EFAULT;
	return 0;
}

static long pgtc_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;

	if (_IOC_TYPE(cmd) != PGTABLE_CLEANUP_IOC_MAGIC)
		return -ENOTTY;
	switch (_IOC_NR(cmd)) {
	case _IOC_NR(PGTABLE_CLEANUP_IOC_RECLAIM):
		return ioctl_reclaim(user);
	case _IOC_NR(PGTABLE_CLEANUP_IOC_FEATURES):
		return ioctl_features(user);
	}
	return -ENOTTY;
}

static const struct file_operations pgtc_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = pgtc_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice pgtc_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pgtable_cleanup",
	.fops = &pgtc_fops,
};

static int __init pgtc_init(void)
{
	int err;

	if (mode & ~0777) {
		pr_err("mode=%#ho is not a file mode\n", mode);
		return -EINVAL;
	}
	err = pgtc_kernel_check(allow_unproved);
	if (err < 0)
		return err;
	kernel_proved = err;
	err = pgtc_symbols_init();
	if (!err)
		err = pgtc_unexported_init();
	if (err)
		return err;
	pgtc_device.mode = mode;
	return misc_register(&pgtc_device);
}

static void __exit pgtc_exit(void)
{
	misc_deregister(&pgtc_device);
	/* On 6.1 RCU callbacks of ours free tables: wait until all have run. */
	rcu_barrier();
}

module_init(pgtc_init);
module_exit(pgtc_exit);

MODULE_DESCRIPTION("Free empty user page tables on request");
MODULE_LICENSE("GPL");
