// SPDX-License-Identifier: MIT
/* Check that functions of libc work as ever with the library in front of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* This is in behind.c, if that is preloaded, too. */
extern unsigned int calls_behind __attribute__((weak));

static void *allocate(void *unused)
{
	int fd = memfd_create("test", 0);

	pthread_cancel(pthread_self());
	fallocate(fd, 0, 0, PAGE);
	return unused;
}

static void call_each(void)
{
	char *at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = memfd_create("test", 0);

	CHECK(at != MAP_FAILED && calls_behind == 1);
	CHECK(!madvise(at, PAGE, MADV_DONTNEED) && calls_behind == 2);
	CHECK(mremap(at, 2 * PAGE, PAGE, 0) == at && calls_behind == 3);
	CHECK(!munmap(at, PAGE) && calls_behind == 4);
	CHECK(!ftruncate(fd, PAGE) && calls_behind == 5);
	CHECK(!fallocate(fd, 0, 0, PAGE) && calls_behind == 6);
	CHECK(prctl(PR_GET_DUMPABLE) >= 0 && calls_behind == 7);
	CHECK(syscall(SYS_getpid) == getpid() && calls_behind == 8);
	CHECK(!syscall(SYS_ftruncate, fd, 0) && calls_behind == 9);
	errno = 0;
	CHECK(munmap(at + 1, PAGE) == -1 && errno == EINVAL);
}

int main(int argc, char **argv)
{
	void *hint = (void *)0x200000000000UL, *result;
	pthread_t thread;
	char *area;

	CHECK(argc == 2);
	if (!strcmp(argv[1], "behind")) {
		call_each();
	} else if (!strcmp(argv[1], "hint")) {
		area = map_units(1);
		CHECK(mremap(area, PAGE, PAGE,
			     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, hint) == hint);
		CHECK((void *)syscall(SYS_mremap, area + PAGE, PAGE, PAGE,
				      MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
				      (char *)hint + PAGE) ==
		      (char *)hint + PAGE);
	} else if (!strcmp(argv[1], "cancel")) {
		CHECK(!pthread_create(&thread, NULL, allocate, NULL));
		CHECK(!pthread_join(thread, &result) &&
		      result == PTHREAD_CANCELED);
	} else {
		release(map_units(1));
	}
	return 0;
}
