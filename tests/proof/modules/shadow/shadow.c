// SPDX-License-Identifier: GPL-2.0
/*
 * A small secondary MMU: it remembers which page it found at an address, as do
 * KVM and devices, until the mmu notifier of the address space invalidates it.
 *
 * Opening /dev/pgtable_cleanup_shadow makes a shadow of the caller's memory.
 * pread(fd, &byte, 1, address) reads a byte of the page that is remembered.
 */
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>

#define ENTRIES 512

struct entry {
	unsigned long addr;
	struct page *page;
};

struct shadow {
	struct mmu_notifier notifier;
	spinlock_t lock;
	unsigned long invalidations;
	unsigned int invalidating;
	struct entry entry[ENTRIES];
};

static struct entry *entry_of(struct shadow *shadow, unsigned long addr)
{
	return &shadow->entry[(addr >> PAGE_SHIFT ^ addr >> PMD_SHIFT) %
			      ENTRIES];
}

static int range_start(struct mmu_notifier *notifier,
		       const struct mmu_notifier_range *range)
{
	struct shadow *shadow = container_of(notifier, struct shadow, notifier);
	unsigned int i;

	spin_lock(&shadow->lock);
	shadow->invalidations++;
	shadow->invalidating++;
	for (i = 0; i < ENTRIES; i++)
		if (shadow->entry[i].addr >= range->start &&
		    shadow->entry[i].addr < range->end)
			shadow->entry[i].page = NULL;
	spin_unlock(&shadow->lock);
	return 0;
}

static void range_end(struct mmu_notifier *notifier,
		      const struct mmu_notifier_range *range)
{
	struct shadow *shadow = container_of(notifier, struct shadow, notifier);

	spin_lock(&shadow->lock);
	shadow->invalidating--;
	spin_unlock(&shadow->lock);
}

static void free_notifier(struct mmu_notifier *notifier)
{
	kfree(container_of(notifier, struct shadow, notifier));
}

static struct mmu_notifier *alloc_notifier(struct mm_struct *mm)
{
	struct shadow *shadow = kzalloc(sizeof(*shadow), GFP_KERNEL);

	if (!shadow)
		return ERR_PTR(-ENOMEM);
	spin_lock_init(&shadow->lock);
	return &shadow->notifier;
}

static const struct mmu_notifier_ops notifier_ops = {
	.invalidate_range_start = range_start,
	.invalidate_range_end = range_end,
	.alloc_notifier = alloc_notifier,
	.free_notifier = free_notifier,
};

/* Look a page up, and remember it unless it is invalidated meanwhile. */
static int fill(struct shadow *shadow, unsigned long addr)
{
	struct entry *entry = entry_of(shadow, addr);
	unsigned long seen;
	struct page *page;
	int found;

	spin_lock(&shadow->lock);
	seen = shadow->invalidations;
	spin_unlock(&shadow->lock);
	found = get_user_pages_fast(addr, 1, 0, &page);
	if (found != 1)
		return found < 0 ? found : -EFAULT;
	spin_lock(&shadow->lock);
	if (seen == shadow->invalidations && !shadow->invalidating) {
		entry->addr = addr;
		entry->page = page;
	}
	spin_unlock(&shadow->lock);
	put_page(page);
	return 0;
}

/* A valid entry's page can't be freed: the notifier would be called before. */
static bool read_entry(struct shadow *shadow, unsigned long addr, u8 *byte)
{
	unsigned long base = addr & PAGE_MASK;
	struct entry *entry = entry_of(shadow, base);
	bool valid;
	u8 *mapped;

	spin_lock(&shadow->lock);
	valid = entry->page && entry->addr == base;
	if (valid) {
		mapped = kmap_local_page(entry->page);
		*byte = READ_ONCE(mapped[addr - base]);
		kunmap_local(mapped);
	}
	spin_unlock(&shadow->lock);
	return valid;
}

static ssize_t shadow_read(struct file *file, char __user *to, size_t length,
			   loff_t *position)
{
	struct mmu_notifier *notifier = file->private_data;
	struct shadow *shadow = container_of(notifier, struct shadow, notifier);
	unsigned long addr = *position;
	u8 byte;

	if (length != 1 || notifier->mm != current->mm)
		return -EINVAL;
	while (!read_entry(shadow, addr, &byte)) {
		int err = fill(shadow, addr & PAGE_MASK);

		if (err)
			return err;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return put_user(byte, to) ?: 1;
}

static int shadow_open(struct inode *inode, struct file *file)
{
	struct mmu_notifier *notifier;

	notifier = mmu_notifier_get(&notifier_ops, current->mm);
	if (IS_ERR(notifier))
		return PTR_ERR(notifier);
	file->private_data = notifier;
	return 0;
}

static int shadow_release(struct inode *inode, struct file *file)
{
	mmu_notifier_put(file->private_data);
	return 0;
}

static const struct file_operations shadow_fops = {
	.owner = THIS_MODULE,
	.open = shadow_open,
	.release = shadow_release,
	.read = shadow_read,
	.llseek = default_llseek,
};

static struct miscdevice shadow_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pgtable_cleanup_shadow",
	.fops = &shadow_fops,
};

static int __init shadow_init(void)
{
	return misc_register(&shadow_device);
}

static void __exit shadow_exit(void)
{
	misc_deregister(&shadow_device);
	mmu_notifier_synchronize();
}

module_init(shadow_init);
module_exit(shadow_exit);

MODULE_DESCRIPTION("A shadow of a mapping, for the proofs of pgtable_cleanup");
MODULE_LICENSE("GPL");
