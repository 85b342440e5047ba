// SPDX-License-Identifier: GPL-2.0
/* Is this a kernel whose page-table walkers have been read and tested? */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "proved.h"

#include <linux/kernel.h>
#include <linux/panic.h>
#include <linux/printk.h>
#include <linux/string.h>
#include <linux/utsname.h>
#include <linux/version.h>

#include <asm/cpufeature.h>

/* Tests build with another vendor's name, to see the module refuse to load. */
#ifndef PGTC_VENDOR
#define PGTC_VENDOR "Debian"
#endif
/* The debug kernels that the project's lab builds from Debian's sources. */
#define PGTC_LAB_SUFFIX "-pgtable-cleanup-debug"

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);

	return length >= tail && !strcmp(text + length - tail, end);
}

/*
 * Is this Debian's own build of the series?  Then its version says "Debian
 * 6.12.117-1", and its release is named by the kernel's ABI and flavour.
 * Another vendor's kernel of the same number may carry backported mm code.  The
 * cloud flavour has another configuration.
 */
static bool debian_build(const struct new_utsname *uts)
{
	char vendor[32];

	snprintf(vendor, sizeof(vendor), " " PGTC_VENDOR " %u.%u.",
		 (unsigned int)LINUX_VERSION_MAJOR,
		 (unsigned int)LINUX_VERSION_PATCHLEVEL);
	return strstr(uts->version, vendor) &&
	       ends_with(uts->release, "-amd64") &&
	       !ends_with(uts->release, "-cloud-amd64");
}

/**
 * pgtc_kernel_check() - refuse every kernel that the module isn't proved on
 * @allow_unproved: load on another vendor's build of a supported series anyway
 *
 * Return: 1 on a proved kernel, 0 on one that @allow_unproved let pass,
 * -EOPNOTSUPP otherwise, with the reason in the log.
 */
int pgtc_kernel_check(bool allow_unproved)
{
	const struct new_utsname *uts = init_utsname();

	/* RT's spinlocks sleep: our lock nesting and RCU use are unproved. */
	if (IS_ENABLED(CONFIG_PREEMPT_RT)) {
		pr_err("refused: PREEMPT_RT kernels are not supported\n");
		return -EOPNOTSUPP;
	}
	/* CFI may expect another type hash than a looked-up function has. */
	if (IS_ENABLED(CONFIG_CFI_CLANG) || IS_ENABLED(CONFIG_CFI)) {
		pr_err("refused: kernels built with CFI are not supported\n");
		return -EOPNOTSUPP;
	}
	/* Xen PV pins page tables read-only and needs hypercalls to free them. */
	if (cpu_feature_enabled(X86_FEATURE_XENPV)) {
		pr_err("refused: Xen PV guests are not supported\n");
		return -EOPNOTSUPP;
	}
	if (debian_build(uts) || ends_with(uts->release, PGTC_LAB_SUFFIX))
		return 1;
	if (allow_unproved) {
		pr_warn("%s is not a proved kernel: allow_unproved=1, the kernel is tainted\n",
			uts->release);
		add_taint(TAINT_USER, LOCKDEP_STILL_OK);
		return 0;
	}
	pr_err("refused: %s is not one of the proved kernels (Debian's own 6.1, 6.12 and 7.3)\n",
	       uts->release);
	return -EOPNOTSUPP;
}
