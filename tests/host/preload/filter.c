// SPDX-License-Identifier: MIT
/*
 * Seccomp filters that kill the program for getppid(), which is what the library calls
 * with backend:null, and for what it takes to print a message.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload.h"

#define KILL_FOR(name)                                          \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1),  \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

static struct sock_filter code[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	KILL_FOR(getppid),
	KILL_FOR(fstat),
	KILL_FOR(getpid),
	KILL_FOR(ppoll),
	KILL_FOR(gettid),
	KILL_FOR(futex),
	KILL_FOR(exit),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};
static struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

static void *refuse_to_share(void *ready)
{
	/* A thread with a filter that others lack can't get theirs by TSYNC. */
	CHECK(!unseen(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program,
		      0));
	*(_Atomic int *)ready = 1;
	for (;;)
		pause();
}

static void ask(void)
{
	unsigned int action = SECCOMP_RET_KILL_PROCESS, flag;
	struct seccomp_notif_sizes sizes;

	CHECK(!syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
	CHECK(!syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
	CHECK(prctl(PR_GET_SECCOMP) == 0);
	/* libseccomp asks in this way which flags the kernel knows. */
	for (flag = 1; flag <= 1 << 5; flag <<= 1)
		CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flag,
			      NULL) == -1);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == -1 &&
	      errno == EFAULT);
}

/* Try to set a filter in ways that the kernel refuses. */
static void fail(void)
{
	struct sock_fprog none = { 0, code };
	static _Atomic int ready;
	pthread_t thread;

	errno = 0;
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &none) == -1 &&
	      errno == EINVAL);
	CHECK(prctl(PR_SET_SECCOMP, 77, &program) == -1 && errno == EINVAL);
	errno = 0;
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 1 << 20,
		      &program) == -1 &&
	      errno == EINVAL);
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL) == -1);
	pthread_create(&thread, NULL, refuse_to_share, &ready);
	while (!ready)
		;
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		      SECCOMP_FILTER_FLAG_TSYNC, &program) > 0);
}

/* Build and load a filter like the above by libseccomp, of which there is the library alone. */
static long load(const char *path, bool all_threads)
{
	static const int calls[] = { SYS_getppid, SYS_fstat,  SYS_getpid,
				     SYS_poll,	  SYS_gettid, SYS_futex,
				     SYS_exit };
	enum { FLTATR_CTL_TSYNC = 4 };
	void *library = dlopen(path, RTLD_NOW);
	void *(*init)(uint32_t action) = dlsym(library, "seccomp_init");
	int (*set)(void *filter, int attribute, uint32_t value) =
		dlsym(library, "seccomp_attr_set");
	int (*add)(void *filter, uint32_t action, int call, unsigned int count,
		   ...) = dlsym(library, "seccomp_rule_add");
	int (*load)(const void *filter) = dlsym(library, "seccomp_load");
	void *filter;
	size_t i;

	CHECK(library && init && set && add && load);
	filter = init(SECCOMP_RET_ALLOW);
	CHECK(filter && !set(filter, FLTATR_CTL_TSYNC, all_threads));
	for (i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		CHECK(!add(filter, SECCOMP_RET_KILL_PROCESS, calls[i], 0));
	return load(filter);
}

int main(int argc, char **argv)
{
	char *area = map_units(2);
	uint64_t drains;
	long result = 0;

	CHECK(argc >= 2 && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(drains_at(area));
	if (!strcmp(argv[1], "ask")) {
		ask();
		CHECK(drains_at(area));
		return 0;
	}
	if (!strcmp(argv[1], "fail")) {
		fail();
		CHECK(drains_at(area));
		return 0;
	}
	if (!strcmp(argv[1], "syscall"))
		result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0,
				 &program);
	else if (!strcmp(argv[1], "all threads"))
		result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				 SECCOMP_FILTER_FLAG_TSYNC, &program);
	else if (!strcmp(argv[1], "listener"))
		result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				 SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	else if (!strcmp(argv[1], "prctl"))
		result = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	else if (!strcmp(argv[1], "prctl by syscall"))
		result = syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER,
				 &program);
	else if (!strcmp(argv[1], "libseccomp"))
		result = load(argv[2], false);
	else if (!strcmp(argv[1], "libseccomp, all threads"))
		result = load(argv[2], true);
	else if (!strcmp(argv[1], "strict"))
		result = prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	else
		return 2;
	CHECK(result >= 0);
	if (!strcmp(argv[1], "strict")) {
		/* No call but these two is allowed now. */
		CHECK(write(STDOUT_FILENO, "alive\n", 6) == 6);
		unseen(SYS_exit, 0, 0, 0, 0);
	}
	CHECK(prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER);
	drains = counts().drains;
	release(area);
	pgtable_cleanup_drain();
	CHECK(counts().drains == drains);
	usleep(20000);
	CHECK(write(STDOUT_FILENO, "alive\n", 6) == 6);
	return 0;
}
