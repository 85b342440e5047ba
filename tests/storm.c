// SPDX-License-Identifier: MIT
/*
 * Threads, signals and forks at once, with every allocation filled and checked.
 * Meanwhile memory is locked, advised, moved, mapped over and punched out of files.
 *
 *	storm SECONDS SEED
 *
 * Prints how much it did, and exits with 1 if a byte was lost.
 */

#include <errno.h>
#include <fcntl.h>
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
#define FILE_UNITS 4
/* One allocation in so many is locked, and never unlocked before it is freed. */
#define LOCKED_ONE_IN 64

struct slot {
	unsigned char *at;
	size_t size;
	unsigned char value;
};

/* What the child of a fork gets of a unit of the area: its bytes, zeros, or no memory. */
enum inherited { ALL, ZEROS, NOTHING };

struct worker {
	pthread_t thread;
	uint64_t state;
	struct slot slots[SLOTS];
	/* Pages that are released one by one, and the byte that fills each. */
	unsigned char *area;
	unsigned char pages[AREA / PAGE];
	enum inherited units[AREA / UNIT];
	/* Page `lane` of each unit of the global `sparse` is this thread's: what fills it, or 0. */
	size_t lane;
	unsigned char sparse[SPARSE];
	/* A unit that is moved about, and the byte that fills its first page. */
	unsigned char *moved, moved_value;
	/* A mapped file: its units, and the byte that fills the first page of each. */
	int file;
	unsigned char *in_file, file_values[FILE_UNITS];
};

/* Units that all threads share: their tables empty and fill all the time. */
static unsigned char *sparse;

static struct worker workers[THREADS];
static _Atomic bool ended;
static _Atomic uint64_t steps, signals, forks, spawns, lost;
static _Atomic uint64_t allocations, frees, zeros, locks, refusals;

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

/* Allocate and fill memory, half of it by calloc(), which must not give old bytes. */
static void allocate(struct worker *own, struct slot *slot)
{
	bool cleared = draw(&own->state) % 2;

	slot->size = some_size(&own->state);
	slot->value = draw(&own->state);
	slot->at = cleared ? calloc(1, slot->size) : malloc(slot->size);
	if (!slot->at)
		return;
	atomic_fetch_add(&allocations, 1);
	if (cleared) {
		check(slot->at, slot->size, 0);
		atomic_fetch_add(&zeros, 1);
	}
	memset(slot->at, slot->value, slot->size);
	/* Under a limit mlock() fails, which is no loss. */
	if (draw(&own->state) % LOCKED_ONE_IN == 0 &&
	    !mlock(slot->at, slot->size))
		atomic_fetch_add(&locks, 1);
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

/*
 * Release a page that holds a value.  Locked memory can't be released: it has to stay
 * as it was.
 *
 * Return: what the page holds now.
 */
static unsigned char release(unsigned char *at, unsigned char value)
{
	check(at, PAGE, value);
	if (!madvise(at, PAGE, MADV_DONTNEED)) {
		value = 0;
	} else {
		atomic_fetch_add(&refusals, 1);
		if (errno != EINVAL)
			atomic_fetch_add(&lost, 1);
	}
	check(at, PAGE, value);
	return value;
}

static void release_page(struct worker *own)
{
	size_t page = draw(&own->state) % (AREA / PAGE);
	unsigned char *at = own->area + page * PAGE;

	release(at, own->pages[page]);
	own->pages[page] = draw(&own->state);
	memset(at, own->pages[page], PAGE);
}

/* Let the kernel take a page when it likes: it holds its bytes until then, then zeros. */
static void release_lazily(struct worker *own)
{
	size_t page = draw(&own->state) % (AREA / PAGE);
	unsigned char *at = own->area + page * PAGE;

	check(at, PAGE, own->pages[page]);
	madvise(at, PAGE, MADV_FREE);
	if (!holds(at, PAGE, 0))
		check(at, PAGE, own->pages[page]);
	own->pages[page] = draw(&own->state);
	memset(at, own->pages[page], PAGE);
}

static void *map_at(void *at, size_t length)
{
	return mmap(at, length, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
			    (at ? MAP_FIXED : 0),
		    -1, 0);
}

/* Map a page anew in the place of an old one. */
static void map_over(struct worker *own)
{
	size_t page = draw(&own->state) % (AREA / PAGE);
	unsigned char *at = own->area + page * PAGE;

	/* A new mapping would lose its unit's advice, so leave units that have some. */
	if (own->units[page * PAGE / UNIT] != ALL)
		return;
	check(at, PAGE, own->pages[page]);
	if (map_at(at, PAGE) == MAP_FAILED)
		return;
	madvise(at, PAGE, MADV_NOHUGEPAGE);
	check(at, PAGE, 0);
	own->pages[page] = draw(&own->state);
	memset(at, own->pages[page], PAGE);
}

/* Map two units, and unmap them at once or one after the other. */
static void map_for_a_moment(struct worker *own)
{
	unsigned char *at = map_at(NULL, 2 * UNIT);

	if (at == MAP_FAILED)
		return;
	at[0] = at[UNIT] = 1;
	if (draw(&own->state) % 2) {
		munmap(at, UNIT);
		check(at + UNIT, 1, 1);
		munmap(at + UNIT, UNIT);
	} else {
		munmap(at, 2 * UNIT);
	}
}

/* Tell the kernel what a fork's child gets of a unit, or that it must have no huge page. */
static void advise(struct worker *own)
{
	static const int advice[] = { MADV_DOFORK, MADV_KEEPONFORK,
				      MADV_WIPEONFORK, MADV_DONTFORK,
				      MADV_NOHUGEPAGE };
	size_t unit = draw(&own->state) % (AREA / UNIT);
	size_t drawn = draw(&own->state) % (sizeof(advice) / sizeof(*advice));
	unsigned char *at = own->area + unit * UNIT;

	if (drawn < 4) {
		madvise(at, UNIT, MADV_DOFORK);
		madvise(at, UNIT, MADV_KEEPONFORK);
		own->units[unit] = drawn == 2 ? ZEROS :
				   drawn == 3 ? NOTHING :
						ALL;
	}
	if (madvise(at, UNIT, advice[drawn]))
		atomic_fetch_add(&lost, 1);
}

static void move(struct worker *own)
{
	unsigned char *to;

	check(own->moved, PAGE, own->moved_value);
	to = mremap(own->moved, UNIT, UNIT, MREMAP_MAYMOVE);
	/* mremap() to the same size moves nothing unless it is told where to. */
	if (to == own->moved) {
		unsigned char *place = map_at(NULL, UNIT);

		if (place == MAP_FAILED)
			return;
		to = mremap(own->moved, UNIT, UNIT,
			    MREMAP_MAYMOVE | MREMAP_FIXED, place);
	}
	if (to == MAP_FAILED) {
		atomic_fetch_add(&lost, 1);
		return;
	}
	own->moved = to;
	check(to, PAGE, own->moved_value);
	own->moved_value = draw(&own->state);
	memset(to, own->moved_value, PAGE);
}

/* Punch a unit out of the file, and fill the first page there again. */
static void punch(struct worker *own)
{
	size_t unit = draw(&own->state) % FILE_UNITS;
	unsigned char *at = own->in_file + unit * UNIT;

	check(at, PAGE, own->file_values[unit]);
	if (fallocate(own->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      unit * UNIT, UNIT))
		atomic_fetch_add(&lost, 1);
	check(at, PAGE, 0);
	own->file_values[unit] = draw(&own->state);
	memset(at, own->file_values[unit], PAGE);
}

/* Fill the thread's page of some unit, or release it if it is filled. */
static void turn_sparse_page(struct worker *own)
{
	size_t unit = draw(&own->state) % SPARSE;
	unsigned char *at = sparse + unit * UNIT + own->lane * PAGE;

	check(at, PAGE, own->sparse[unit]);
	if (own->sparse[unit]) {
		own->sparse[unit] = release(at, own->sparse[unit]);
	} else {
		own->sparse[unit] = 1 + draw(&own->state) % 255;
		memset(at, own->sparse[unit], PAGE);
	}
}

static void (*const rare[])(struct worker *) = {
	release_lazily, map_over, map_for_a_moment, advise, move, punch,
};

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
		atomic_fetch_add(&frees, 1);
	}
	release_page(own);
	turn_sparse_page(own);
	/* These change mappings, and are rarer in a program than the above. */
	if (draw(&own->state) % 8 == 0)
		rare[draw(&own->state) % (sizeof(rare) / sizeof(*rare))](own);
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

/* Make a file, and map it at an address, in place of what is mapped there. */
static int new_file(unsigned char *at)
{
	int file = memfd_create("storm", MFD_CLOEXEC);

	if (file < 0 || ftruncate(file, FILE_UNITS * UNIT) ||
	    mmap(at, FILE_UNITS * UNIT, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED)
		exit(2);
	return file;
}

/* Take stock of what a child has of its parent's memory. */
static void inherit(struct worker *own)
{
	size_t unit;

	for (unit = 0; unit < AREA / UNIT; unit++) {
		if (own->units[unit] == NOTHING)
			map_at(own->area + unit * UNIT, UNIT);
		if (own->units[unit] != ALL)
			memset(own->pages + unit * (UNIT / PAGE), 0,
			       UNIT / PAGE);
	}
	/* The child takes another file, since it must not change its parent's. */
	own->in_file = map_at(NULL, FILE_UNITS * UNIT);
	memset(own->file_values, 0, sizeof(own->file_values));
	own->file = new_file(own->in_file);
}

/* Have a forked child use its copy of the forking thread's memory. */
static void go_on(struct worker *own)
{
	unsigned int i;

	atomic_store(&lost, 0);
	inherit(own);
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
	own->moved = map_units(1);
	own->in_file = map_units(FILE_UNITS);
	own->file = new_file(own->in_file);
}

/* Lock all that is mapped, each page once it is used; unlock all now and then. */
static void turn_locks(uint64_t *state)
{
	if (draw(state) % 4 == 0 && !mlockall(MCL_CURRENT | MCL_ONFAULT))
		atomic_fetch_add(&locks, 1);
	else
		munlockall();
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
		turn_locks(&own.state);
		fork_one(&own);
	}
	atomic_store(&ended, true);
	/* The sender ends first: a thread that is gone can't be signalled. */
	pthread_join(sender, NULL);
	for (i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	printf("steps=%lu signals=%lu forks=%lu spawns=%lu ",
	       (unsigned long)steps, (unsigned long)signals,
	       (unsigned long)forks, (unsigned long)spawns);
	printf("allocations=%lu frees=%lu zeros=%lu locks=%lu refusals=%lu lost=%lu\n",
	       (unsigned long)allocations, (unsigned long)frees,
	       (unsigned long)zeros, (unsigned long)locks,
	       (unsigned long)refusals, (unsigned long)lost);
	return lost != 0;
}
