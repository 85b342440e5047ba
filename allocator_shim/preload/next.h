/* SPDX-License-Identifier: MIT */
/*
 * The functions that this library's stand in front of: libc's, or those of another
 * library that stands in front of libc, too, such as a profiler.
 */
#ifndef PGTC_NEXT_H
#define PGTC_NEXT_H

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/*
 * Variadic functions are declared here with all their arguments, because in machine code
 * each argument has its register, whether the caller has set it or not.
 */
struct next {
	int (*madvise)(void *addr, size_t length, int advice);
	ssize_t (*process_madvise)(int pidfd, const struct iovec *ranges,
				   size_t nr, int advice, unsigned int flags);
	int (*munmap)(void *addr, size_t length);
	void *(*mremap)(void *old, size_t old_length, size_t length, int flags,
			void *wanted);
	void *(*mmap)(void *addr, size_t length, int prot, int flags, int fd,
		      off_t offset);
	int (*fallocate)(int fd, int mode, off_t offset, off_t length);
	int (*ftruncate)(int fd, off_t length);
	int (*prctl)(int option, unsigned long a, unsigned long b,
		     unsigned long c, unsigned long d);
	int (*mlock)(const void *addr, size_t length);
	int (*mlock2)(const void *addr, size_t length, unsigned int flags);
	int (*mlockall)(int flags);
	/* NULL until next_find() has run. */
	int (*pthread_create)(pthread_t *thread,
			      const pthread_attr_t *attributes,
			      void *(*routine)(void *), void *argument);
};

/* Until next_find() has run, all but pthread_create() make the system calls themselves. */
extern struct next next;
extern long (*next_syscall)(long number, long a, long b, long c, long d, long e,
			    long f);

/* Look the functions up.  A constructor does so: the look-up may allocate. */
void next_find(void);

/* Return a system call's result as libc does. */
long next_answer(long result);

#endif
