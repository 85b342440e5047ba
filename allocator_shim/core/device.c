// SPDX-License-Identifier: MIT
/* The module's device, by a descriptor that a program may take away at any time. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "device.h"
#include "identity.h"
#include "proc.h"
#include "syscalls.h"

/*
 * The device's descriptor has at least this number.  Programs close low descriptors, or
 * expect the next one to have a certain number.  This is below 128, because the
 * kernel's table of a process's descriptors takes 1.1 kB up to 127, and more beyond.
 */
#define FD_FLOOR 100

static _Atomic int device = -1;
/* What shim_identity() said of the descriptor, and the device's number at the start. */
static _Atomic uint64_t identity;
static dev_t number;

static bool is_ours(int fd)
{
	return fd >= 0 && shim_identity(fd) == atomic_load(&identity);
}

/* Say whether a descriptor is of the device that there was at the start. */
static bool is_the_device(int fd)
{
	struct stat now;

	return !shim_syscall2(__NR_fstat, fd, &now) && S_ISCHR(now.st_mode) &&
	       now.st_rdev == number;
}

/* Return: a high descriptor, close-on-exec, or the negative errno. */
static long open_high(void)
{
	long low, high;

	low = shim_syscall4(__NR_openat, AT_FDCWD, PGTABLE_CLEANUP_DEVICE,
			    O_RDWR | O_CLOEXEC, 0);
	if (low < 0)
		return low;
	high = shim_syscall3(__NR_fcntl, low, F_DUPFD_CLOEXEC, FD_FLOOR);
	/* RLIMIT_NOFILE may forbid so high a descriptor. */
	if (high < 0)
		return low;
	shim_syscall1(__NR_close, low);
	return high;
}

/* Say whether a seccomp filter is in force.  It may forbid prctl(), so read a file. */
static bool is_filtered(void)
{
	unsigned long mode;

	return shim_proc_number("/proc/self/status", "Seccomp:", &mode) && mode;
}

static long features_of(int fd, struct pgtable_cleanup_features *features)
{
	*features =
		(struct pgtable_cleanup_features){ .size = sizeof(*features) };
	return shim_syscall3(__NR_ioctl, fd, PGTABLE_CLEANUP_IOC_FEATURES,
			     features);
}

/*
 * Say whether a process survives the ioctl under the seccomp filter.  A child
 * tries it, and this process waits for the child.
 */
static bool ioctl_is_survived(int fd)
{
	static struct pgtable_cleanup_features features;
	int status = 0;
	long pid;

	/*
	 * This process waits as in vfork(), but the child has its own memory,
	 * and its end raises no SIGCHLD.
	 */
	pid = shim_syscall5(__NR_clone, CLONE_VFORK, 0, 0, 0, 0);
	if (!pid) {
		features_of(fd, &features);
		shim_syscall1(__NR_exit_group, 0);
	}
	if (pid < 0)
		return false;
	while (shim_syscall4(__NR_wait4, pid, &status, __WALL, 0) == -EINTR)
		;
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

const char *shim_device_open(void)
{
	struct pgtable_cleanup_features features;
	long fd = open_high(), err;
	struct stat status;

	if (fd == -ENOENT || fd == -ENODEV || fd == -ENXIO)
		return PGTABLE_CLEANUP_DEVICE
			" is not there: the kernel module is not loaded";
	if (fd == -EACCES || fd == -EPERM)
		return PGTABLE_CLEANUP_DEVICE
			": permission denied (the module's parameter mode= lets "
			"users in)";
	if (fd < 0)
		return PGTABLE_CLEANUP_DEVICE " can't be opened";
	if (shim_syscall2(__NR_fstat, fd, &status) ||
	    !S_ISCHR(status.st_mode)) {
		shim_syscall1(__NR_close, fd);
		return PGTABLE_CLEANUP_DEVICE " is no device";
	}
	if (is_filtered() && !ioctl_is_survived(fd)) {
		shim_syscall1(__NR_close, fd);
		return "a seccomp filter kills who makes the ioctl";
	}
	err = features_of(fd, &features);
	if (err || features.abi_version != PGTABLE_CLEANUP_ABI_VERSION) {
		shim_syscall1(__NR_close, fd);
		return err == -EPERM || err == -EACCES ?
			       "the ioctl is not permitted" :
			       "the loaded module is of another version";
	}
	number = status.st_rdev;
	atomic_store(&identity, shim_identity(fd));
	atomic_store(&device, fd);
	return NULL;
}

/* Return the descriptor, or -1.  If the program has closed it, open another. */
static int proved_device(void)
{
	struct pgtable_cleanup_features features;
	int fd = atomic_load(&device);
	long again;

	if (is_ours(fd))
		return fd;
	again = open_high();
	if (again < 0)
		return -1;
	/* After a reload the module may be of another version. */
	if (!is_the_device(again) || features_of(again, &features) ||
	    features.abi_version != PGTABLE_CLEANUP_ABI_VERSION) {
		shim_syscall1(__NR_close, again);
		return -1;
	}
	/* In a chroot another file may stand for the same device. */
	atomic_store(&identity, shim_identity(again));
	/* If another thread has opened the device meanwhile, use its descriptor. */
	if (!atomic_compare_exchange_strong(&device, &fd, again)) {
		shim_syscall1(__NR_close, again);
		return is_ours(fd) ? fd : -1;
	}
	return again;
}

/* Add the counts of one ioctl to those of the whole call. */
static void add_counts(struct pgtable_cleanup_args *sum,
		       const struct pgtable_cleanup_args *part)
{
	unsigned int i;

	sum->holes += part->holes;
	for (i = 0; i < PGTABLE_CLEANUP_NR_LEVELS; i++) {
		sum->tables[i] += part->tables[i];
		sum->empty[i] += part->empty[i];
		sum->freed[i] += part->freed[i];
	}
	sum->zero_pages_dropped += part->zero_pages_dropped;
	for (i = 0; i < PGTABLE_CLEANUP_NR_SKIPS; i++)
		sum->skipped[i] += part->skipped[i];
	sum->flushes += part->flushes;
	if (part->longest_hold_ns > sum->longest_hold_ns)
		sum->longest_hold_ns = part->longest_hold_ns;
}

long shim_device_call(struct pgtable_cleanup_args *args)
{
	struct pgtable_cleanup_args sum = { 0 };
	bool retried = false;
	long result;

	args->size = sizeof(*args);
	args->pidfd = -1;
	args->inode_fd = -1;
	args->next_range = 0;
	args->next_level = 0;
	args->next_addr = 0;
	/* A signal or a full batch ends an ioctl early: the next one goes on from there. */
	do {
		int fd = proved_device();

		if (fd < 0)
			return -ENODEV;
		result = shim_syscall3(__NR_ioctl, fd,
				       PGTABLE_CLEANUP_IOC_RECLAIM, args);
		if (result && result != -ENOMEM && result != -EAGAIN) {
			/* The program may have closed the descriptor just before the ioctl. */
			if (retried || is_ours(fd))
				return result;
			retried = true;
			result = 0;
			continue;
		}
		add_counts(&sum, args);
	} while (!result && args->next_range < args->nr_ranges);
	sum.next_range = args->next_range;
	*args = sum;
	return result;
}
