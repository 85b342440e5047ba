// SPDX-License-Identifier: MIT
/*
 * Threads, signals and forks at once, with every allocation filled and checked.
 *
 *	storm SECONDS SEED
 *
 * Prints how much it did, and exits with 1 if a byte was lost.
 */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef STORM_INSIDE
/*
 * Sanitizers interpose the same functions as the library: for them only its
 * core is linked into the program, which tells it of each release.
 */
#include "release.h"

static int noted_madvise(void *at, size_t length, int advice)
{
	int err = madvise(at, length, advice);

	if (!err)
		release_advised(at, length, advice);
	return err;
}

#define madvise noted_madvise
/* A sanitizer's malloc() may be locked for good in the child of a fork. */
#define CHILD_ALLOCATES false
#else
#define CHILD_ALLOCATES true
#endif

#define THREADS 4
#define SLOTS 64
#define PAGE 4096UL
#define UNIT (2UL << 20)
#define AREA (4 * UNIT)
#define CHILD_STEPS 100
#define SPARSE 32

struct slot {
	unsigned char *at;
	size_t size;
	unsigned char value;
};

struct worker {
	pthread_t thread;
	uint64_t state;
	struct slot slots[SLOTS];
	/* Pages that are released one by one, and the byte that fills each. */
	unsigned char *area;
	unsigned char pages[AREA / PAGE];
	/* Page `lane` of each unit of the global `sparse` is this thread's: what fills it, or 0. */
	size_t lane;
	unsigned char sparse[SPARSE];
};

/* Units that all threads share: their tables empty and fill all the time. */
static unsigned char *sparse;

static struct worker workers[THREADS];
static _Atomic bool ended;
static _Atomic uint64_t steps, signals, forks, spawns, lost;

/* A page that the signal handler releases, whatever it interrupted. */
static _Atomic unsigned char *handled;

static uint64_t draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static bool holds(const unsigned char *at, size_t size, unsigned char value)
{
	return !size || (at[0] == value && !memcmp(at, at + 1, size - 1));
}

static void check(const unsigned char *at, size_t size, unsigned char value)
{
	if (!holds(at, size, value))
		atomic_fetch_add(&lost, 1);
}

/* Draw a size: mostly small, now and then up to two units. */
static size_t some_size(uint64_t *state)
{
	uint64_t drawn = draw(state);

	return 1 + (drawn >> 8) % (drawn % 50 ? 4000 : 2 * UNIT);
}

static void allocate(struct worker *own, struct slot *slot)
{
	slot->size = some_size(&own->state);
	slot->value = draw(&own->state);
	slot->at = malloc(slot->size);
	if (slot->at)
		memset(slot->at, slot->value, slot->size);
}

static void resize(struct worker *own, struct slot *slot)
{
	size_t size = some_size(&own->state);
	unsigned char *at = realloc(slot->at, size);

	if (!at)
		return;
	check(at, size < slot->size ? size : slot->size, slot->value);
	slot->at = at;
	slot->size = size;
	memset(at, slot->value, size);
}

static void release_page(struct worker *own)
{
	size_t page = draw(&own->state) % (AREA / PAGE);
	unsigned char *at = own->area + page * PAGE;

	check(at, PAGE, own->pages[page]);
	if (madvise(at, PAGE, MADV_DONTNEED))
		atomic_fetch_add(&lost, 1);
	check(at, PAGE, 0);
	own->pages[page] = draw(&own->state);
	memset(at, own->pages[page], PAGE);
}

/* Fill the thread's page of some unit, or release it if it is filled. */
static void turn_sparse_page(struct worker *own)
{
	size_t unit = draw(&own->state) % SPARSE;
	unsigned char *at = sparse + unit * UNIT + own->lane * PAGE;

	check(at, PAGE, own->sparse[unit]);
	if (own->sparse[unit]) {
		own->sparse[unit] = 0;
		if (madvise(at, PAGE, MADV_DONTNEED))
			atomic_fetch_add(&lost, 1);
	} else {
		own->sparse[unit] = 1 + draw(&own->state) % 255;
		memset(at, own->sparse[unit], PAGE);
	}
}

static void step(struct worker *own)
{
	struct slot *slot = &own->slots[draw(&own->state) % SLOTS];

	if (!slot->at) {
		allocate(own, slot);
	} else if (draw(&own->state) % 4 == 0) {
		check(slot->at, slot->size, slot->value);
		resize(own, slot);
	} else {
		check(slot->at, slot->size, slot->value);
		free(slot->at);
		slot->at = NULL;
	}
	release_page(own);
	turn_sparse_page(own);
}

static void *work(void *argument)
{
	struct worker *own = argument;

	while (!atomic_load(&ended)) {
		step(own);
		atomic_fetch_add(&steps, 1);
	}
	return NULL;
}

static void handle(int number)
{
	int before = errno;

	(void)number;
	handled[0] = 1;
	madvise((void *)handled, PAGE, MADV_DONTNEED);
	atomic_fetch_add(&signals, 1);
	errno = before;
}

static void *send(void *unused)
{
	unsigned int next = 0;

	(void)unused;
	while (!atomic_load(&ended)) {
		usleep(200);
		pthread_kill(workers[next++ % THREADS].thread, SIGUSR1);
	}
	return NULL;
}

/* Have a forked child use its copy of the forking thread's memory. */
static void go_on(struct worker *own)
{
	unsigned int i;

	atomic_store(&lost, 0);
	for (i = 0; i < CHILD_STEPS; i++) {
		if (CHILD_ALLOCATES)
			step(own);
		else
			release_page(own);
	}
	_exit(atomic_load(&lost) ? 1 : 0);
}

static void fork_one(struct worker *own)
{
	int status = 0;
	pid_t child = fork();

	if (!child)
		go_on(own);
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		atomic_fetch_add(&lost, 1);
	atomic_fetch_add(&forks, 1);
}

static void spawn_one(void)
{
	char *arguments[] = { "true", NULL };
	pid_t child;
	int status = 0;

	if (posix_spawn(&child, "/bin/true", NULL, NULL, arguments, NULL) ||
	    waitpid(child, &status, 0) != child || status)
		atomic_fetch_add(&lost, 1);
	atomic_fetch_add(&spawns, 1);
}

/* Map whole units, aligned, without huge pages. */
static unsigned char *map_units(size_t units)
{
	unsigned char *at =
		mmap(NULL, (units + 1) * UNIT, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		exit(2);
	at += -(uintptr_t)at % UNIT;
	madvise(at, units * UNIT, MADV_NOHUGEPAGE);
	return at;
}

static void begin(struct worker *own, size_t lane, uint64_t seed)
{
	own->state = seed * 2654435761 + 1;
	own->lane = lane;
	own->area = map_units(AREA / UNIT);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = handle,
				    .sa_flags = SA_RESTART };
	static struct worker own;
	pthread_t sender;
	unsigned int i;
	time_t end;

	if (argc != 3)
		return 2;
	end = time(NULL) + atoi(argv[1]);
	handled = (_Atomic unsigned char *)map_units(1);
	sparse = map_units(SPARSE);
	sigaction(SIGUSR1, &action, NULL);
	begin(&own, THREADS, strtoull(argv[2], NULL, 10));
	for (i = 0; i < THREADS; i++) {
		begin(&workers[i], i, own.state + i + 1);
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	pthread_create(&sender, NULL, send, NULL);
	while (time(NULL) < end) {
		for (i = 0; i < CHILD_STEPS; i++)
			step(&own);
		if (atomic_load(&forks) % 4 == 0)
			spawn_one();
		fork_one(&own);
	}
	atomic_store(&ended, true);
	/* The sender ends first: a thread that is gone can't be signalled. */
	pthread_join(sender, NULL);
	for (i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	printf("steps=%lu signals=%lu forks=%lu spawns=%lu lost=%lu\n",
	       (unsigned long)steps, (unsigned long)signals,
	       (unsigned long)forks, (unsigned long)spawns,
	       (unsigned long)lost);
	return lost != 0;
}
