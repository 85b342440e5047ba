/* SPDX-License-Identifier: MIT */
/*
 * madvise(addr, length, MADV_CLEANUP_PGTABLE) for programs that link nothing:
 *
 *	#include <pgtable_cleanup_madvise.h>
 *
 *	pgtable_cleanup_madvise(addr, length, MADV_CLEANUP_PGTABLE);
 *
 * This calls madvise() first.  That answers on a kernel that has the proposed
 * call, and under libpgtable_cleanup.so.  Elsewhere the module is asked.
 *
 * One include path is enough: allocator_shim/include in a checkout, or where
 * `meson install` puts headers.  Any C from C99 on will do, and C++.
 */
#ifndef PGTABLE_CLEANUP_MADVISE_H
#define PGTABLE_CLEANUP_MADVISE_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pgtable_cleanup.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * gcc -std=c11 hides from the system's headers what ISO C does not have, and
 * defining _GNU_SOURCE here would come too late if the program has included any
 * of them before.
 */
#ifndef O_CLOEXEC
#define O_CLOEXEC	02000000 /* the value on x86-64 and aarch64 */
#endif
#if !defined(__cplusplus) && !defined(_DEFAULT_SOURCE)
extern int madvise(void *addr, size_t length, int advice);
#endif

/*
 * Ask the module.  Returns 0 or an errno: EINVAL where there is no module, which
 * is what a kernel without the advice answers.
 */
static inline int pgtable_cleanup_by_module(void *addr, size_t length)
{
	struct pgtable_cleanup_range range;
	struct pgtable_cleanup_args args;
	int fd, err;

	fd = open(PGTABLE_CLEANUP_DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return EINVAL;
	memset(&args, 0, sizeof(args));
	range.addr = (uintptr_t)addr;
	range.len = length;
	args.size = sizeof(args);
	args.levels = PGTABLE_CLEANUP_LEVEL_PTE | PGTABLE_CLEANUP_LEVEL_PMD |
		      PGTABLE_CLEANUP_LEVEL_PUD;
	args.pidfd = -1;
	args.inode_fd = -1;
	args.nr_ranges = 1;
	args.ranges = (uintptr_t)&range;
	/* A signal ends a call early; the next one goes on from there. */
	do
		err = ioctl(fd, PGTABLE_CLEANUP_IOC_RECLAIM, &args) ? errno : 0;
	while (!err && args.next_range < args.nr_ranges);
	close(fd);
	/* A device of that name which is not the module's knows no such call. */
	return err == ENOTTY ? EINVAL : err;
}

/**
 * pgtable_cleanup_probe() - find out whether MADV_CLEANUP_PGTABLE can be called
 *
 * If the call fails by EINVAL, this tells why: the range is wrong if this returns
 * 0; otherwise nobody knows the advice.
 *
 * Return: 0, or an errno that says why it can't be called: ENOENT if the module is
 * not loaded, EACCES if its device may not be opened, EPROTO if the module is of
 * another version, or any other errno of open().
 */
static inline int pgtable_cleanup_probe(void)
{
	struct pgtable_cleanup_features features;
	int before = errno;
	int fd, err;

	/* A call for no bytes changes nothing, and succeeds where the advice is known. */
	if (!madvise((void *)0, 0, MADV_CLEANUP_PGTABLE))
		return 0;
	fd = open(PGTABLE_CLEANUP_DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		err = errno;
		errno = before;
		return err;
	}
	memset(&features, 0, sizeof(features));
	features.size = sizeof(features);
	err = ioctl(fd, PGTABLE_CLEANUP_IOC_FEATURES, &features) ? errno : 0;
	close(fd);
	if (!err && features.abi_version != PGTABLE_CLEANUP_ABI_VERSION)
		err = EPROTO;
	errno = before;
	return err == ENOTTY ? EPROTO : err;
}

/**
 * pgtable_cleanup_madvise() - madvise() that knows MADV_CLEANUP_PGTABLE
 * @addr: first byte, page-aligned
 * @length: bytes, rounded up to whole pages
 * @advice: MADV_CLEANUP_PGTABLE, or any other, which goes to madvise() alone
 *
 * Return: 0, or -1 with errno set: see MADV_CLEANUP_PGTABLE(2).
 */
static inline int pgtable_cleanup_madvise(void *addr, size_t length, int advice)
{
	int before = errno;
	int err;

	if (!madvise(addr, length, advice))
		return 0;
	if (advice != MADV_CLEANUP_PGTABLE || errno != EINVAL)
		return -1;
	err = pgtable_cleanup_by_module(addr, length);
	errno = err ? err : before;
	return err ? -1 : 0;
}

#ifdef __cplusplus
}
#endif

#endif /* PGTABLE_CLEANUP_MADVISE_H */
