// SPDX-License-Identifier: MIT
/*
 * A drain that never returns.  A seccomp filter that the library does not see raises
 * SIGSYS at getppid(), which is what a drain calls with backend:null.
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "preload.h"

static struct sock_filter code[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};
static struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

static volatile enum { RETURN, JUMP, CANCEL } then;
static volatile int handled;
static sigjmp_buf outside;
static char *area;

static void handle(int number)
{
	int now = then;

	(void)number;
	handled = 1;
	then = RETURN;
	if (now == JUMP)
		siglongjmp(outside, 1);
	if (now == CANCEL)
		pthread_cancel(pthread_self());
}

static void *be_cancelled(void *unused)
{
	int type;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	release(area);
	return unused;
}

static void wait_for_a_drain(void)
{
	time_t end = time(NULL) + 60;

	while (!drains_at(area)) {
		CHECK(time(NULL) < end);
		usleep(10000);
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = handle };
	pthread_t thread;
	void *result;
	int status;
	pid_t child;

	CHECK(argc == 2);
	area = map_units(1);
	sigaction(SIGSYS, &action, NULL);
	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!unseen(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program,
		      0));
	if (!strcmp(argv[1], "jump")) {
		then = JUMP;
		if (!sigsetjmp(outside, 1))
			release(area);
	} else if (!strcmp(argv[1], "cancel")) {
		then = CANCEL;
		CHECK(!pthread_create(&thread, NULL, be_cancelled, NULL));
		CHECK(!pthread_join(thread, &result) &&
		      result == PTHREAD_CANCELED);
	} else if (!strcmp(argv[1], "vfork")) {
		/* A child of vfork() drains nothing, and its filter is not the parent's. */
		child = vfork();
		if (!child) {
			release(area);
			prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
			_exit(handled);
		}
		CHECK(waitpid(child, &status, 0) == child && !status);
		CHECK(drains_at(area));
		return 0;
	}
	CHECK(handled && then == RETURN);
	wait_for_a_drain();
	return 0;
}
