// SPDX-License-Identifier: MIT
/*
 * The library's core with a device that the test plays: the core's system calls come to
 * answered() here, which answers some of them in the kernel's place.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include "syscalls.h"

static long really(long number, long a, long b, long c, long d, long e, long f)
{
	return shim_syscall(number, a, b, c, d, e, f);
}

static long answered(long number, long a, long b, long c, long d, long e,
		     long f);

#define shim_syscall answered

#include "batch.c"
#include "claim.c"
#include "conf.c"
#include "device.c"
#include "identity.c"
#include "interval.c"
#include "kernel.c"
#include "maps.c"
#include "paging.c"
#include "proc.c"
#include "proposed.c"
#include "shim.c"
#include "stats.c"
#include "text.c"
#include "units.c"

#include "preload.h"

/* How many ioctls are to fail, with which errno, and what is called at each. */
static int failing;
static long failure;
static void (*at_ioctl)(int fd);
static bool wipes = true;

/* What VmPTE is said to be, one figure at each reading. */
static const unsigned int *figures;
static long status_fd = -1;

static long answer_ioctl(int fd, unsigned long request, void *argument)
{
	struct pgtable_cleanup_features *features = argument;
	struct pgtable_cleanup_args *args = argument;

	if (request == PGTABLE_CLEANUP_IOC_FEATURES) {
		features->abi_version = PGTABLE_CLEANUP_ABI_VERSION;
		return 0;
	}
	if (failing) {
		failing--;
		if (at_ioctl)
			at_ioctl(fd);
		return failure;
	}
	args->next_range = args->nr_ranges;
	args->freed[0] = 1;
	return 0;
}

static long answered(long number, long a, long b, long c, long d, long e,
		     long f)
{
	const char *path = (const char *)b;
	char text[100];
	long length;

	switch (number) {
	case __NR_openat:
		/* Another device stands in for the module's. */
		if (!strcmp(path, PGTABLE_CLEANUP_DEVICE))
			path = "/dev/zero";
		length = really(number, a, (long)path, c, d, e, f);
		if (figures && !strcmp(path, "/proc/self/status"))
			status_fd = length;
		return length;
	case __NR_read:
		if (!figures || a != status_fd)
			break;
		status_fd = -1;
		length = snprintf(text, sizeof(text),
				  "Name:\tVmPTE:\nVmPTE:\t%8u kB\nx:\t1\n",
				  *figures++);
		memcpy((void *)b, text, length);
		return length;
	case __NR_ioctl:
		if ((unsigned long)b == QUERY)
			break;
		return answer_ioctl(a, b, (void *)c);
	case __NR_madvise:
		if (c == MADV_WIPEONFORK && !wipes)
			return -EINVAL;
		break;
	}
	return really(number, a, b, c, d, e, f);
}

/* Put another file at the descriptor, as a program may do just before the ioctl. */
static void take_away(int fd)
{
	CHECK(dup2(memfd_create("other", 0), fd) == fd);
}

static void drain_one(char *area)
{
	shim_released(area, PAGE, SHIM_PAGES);
	shim_drain();
}

int main(int argc, char **argv)
{
	static const unsigned int disturbed[] = { 1000, 744, 900, 900 },
				  clear[] = { 1000, 744, 1000, 840 },
				  kept[] = { 1000, 1000, 1000, 1000 };
	char *area = map_units(2);
	const char *way = argv[1];
	uint64_t before;
	unsigned int i;

	CHECK(argc == 2);
	wipes = strcmp(way, "no wiping");
	shim_start("threshold:1000,interval_ms:86400000", false);
	if (!wipes) {
		CHECK(!shim_is_on() && !shim_own);
		return 0;
	}
	CHECK(shim_is_on());
	if (!strcmp(way, "descriptor")) {
		CHECK(device >= 64 && device < 128);
		CHECK(fcntl(device, F_GETFD) == FD_CLOEXEC);
	} else if (!strcmp(way, "taken away")) {
		failing = 1;
		failure = -ENOTTY;
		at_ioctl = take_away;
		drain_one(area);
		CHECK(shim_is_on() && shim_stats().drains == 1 && !failing);
		CHECK(is_ours(device));
	} else if (!strcmp(way, "refused")) {
		failing = 1;
		failure = -EPERM;
		drain_one(area);
		CHECK(!shim_is_on() && !shim_stats().drains);
	} else if (!strcmp(way, "contended")) {
		failing = 10;
		failure = -EAGAIN;
		for (i = 0; i < 10; i++)
			drain_one(area);
		CHECK(shim_stats().contended == 10 &&
		      shim_stats().backoff == 1);
	} else if (!strcmp(way, "disturbed probe")) {
		figures = disturbed;
		drain_one(area);
		CHECK(!shim_kernel_frees_units() && figures == disturbed + 4);
		figures = clear;
		drain_one(area);
		CHECK(shim_kernel_frees_units() && figures == clear + 4);
		drain_one(area);
		CHECK(figures == clear + 4);
	} else if (!strcmp(way, "kept")) {
		figures = kept;
		drain_one(area);
		drain_one(area);
		CHECK(!shim_kernel_frees_units() && figures == kept + 4);
	} else if (!strcmp(way, "shared unit")) {
		struct shim_maps maps = shim_maps_open();

		/* Make a unit of several mappings, and a unit of a single one. */
		CHECK(!mprotect(area + PAGE, PAGE, PROT_READ));
		CHECK(!mprotect(area + 2 * PAGE, 2 * UNIT - 2 * PAGE,
				PROT_NONE));
		if (shim_maps_border(&maps, (uintptr_t)area, UINT64_MAX) ==
		    UINT64_MAX)
			return 77;
		figures = clear;
		drain_one(area);
		CHECK(shim_kernel_frees_units());
		before = shim_stats().units;
		shim_released(area, 2 * UNIT, SHIM_PAGES_AND_TABLES);
		shim_drain();
		CHECK(shim_stats().units == before + 1);
		shim_released(area + UNIT, UNIT, SHIM_PAGES_AND_TABLES);
		shim_drain();
		CHECK(shim_stats().units == before + 1);
		shim_maps_close(&maps);
	} else {
		return 2;
	}
	return 0;
}
