// SPDX-License-Identifier: MIT
/* jemalloc's extent hooks that know what each 2 MiB unit still holds. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hooks.h"
#include "kernel.h"
#include "shim.h"
#include "syscalls.h"
#include "text.h"
#include "units.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)

/* The tests define HOOKS_PAUSE() to let another thread run at that point. */
#ifndef HOOKS_PAUSE
#define HOOKS_PAUSE() ((void)0)
#endif

/* The unit's table is being freed: a thread that wants to use the unit waits. */
#define BUSY UINT32_MAX

/* jemalloc/jemalloc.h has declared the hooks like this since 5.0. */
struct extent_hooks {
	void *(*alloc)(struct extent_hooks *hooks, void *addr, size_t size,
		       size_t alignment, bool *zero, bool *commit,
		       unsigned int arena);
	bool (*dalloc)(struct extent_hooks *hooks, void *addr, size_t size,
		       bool committed, unsigned int arena);
	void (*destroy)(struct extent_hooks *hooks, void *addr, size_t size,
			bool committed, unsigned int arena);
	bool (*commit)(struct extent_hooks *hooks, void *addr, size_t size,
		       size_t offset, size_t length, unsigned int arena);
	bool (*decommit)(struct extent_hooks *hooks, void *addr, size_t size,
			 size_t offset, size_t length, unsigned int arena);
	bool (*purge_lazy)(struct extent_hooks *hooks, void *addr, size_t size,
			   size_t offset, size_t length, unsigned int arena);
	bool (*purge_forced)(struct extent_hooks *hooks, void *addr,
			     size_t size, size_t offset, size_t length,
			     unsigned int arena);
	bool (*split)(struct extent_hooks *hooks, void *addr, size_t size,
		      size_t size_a, size_t size_b, bool committed,
		      unsigned int arena);
	bool (*merge)(struct extent_hooks *hooks, void *addr_a, size_t size_a,
		      void *addr_b, size_t size_b, bool committed,
		      unsigned int arena);
};

/*
 * The address space that the hooks hand out, from its start on.  They never take it
 * back, so each unit of it holds jemalloc's extents alone.
 */
static uintptr_t base, end;
static _Atomic uintptr_t next;

/* The number of pages of each unit that are committed, or BUSY. */
static _Atomic uint32_t *committed;

static enum hooks_way way;
static _Atomic uint64_t units, waits, foreign;

static bool is_ours(uintptr_t addr)
{
	return addr >= base && addr < end;
}

static uintptr_t round_up(uintptr_t number, uintptr_t to)
{
	return (number + to - 1) & -to;
}

/* Return how many bytes of a range are in its first unit. */
static size_t in_first_unit(uintptr_t addr, size_t length)
{
	size_t left = SHIM_UNIT_SIZE - (addr & (SHIM_UNIT_SIZE - 1));

	return length < left ? length : left;
}

static _Atomic uint32_t *count_of(uintptr_t addr)
{
	return &committed[(addr - base) >> SHIM_UNIT_SHIFT];
}

static bool advise(uintptr_t addr, size_t length, int advice)
{
	return !shim_syscall3(__NR_madvise, addr, length, advice);
}

/*
 * Give the pages of a range back.  MADV_DONTNEED stops at the first locked mapping.
 * MADV_DONTNEED_LOCKED does not, and leaves it locked; it came with Linux 5.18.
 *
 * Return: whether the whole range is zero now.  If not, jemalloc is told so and clears
 * it for calloc().  A memset() here would bring pages back, and crash where the program
 * has made memory unwritable.
 */
static bool drop(uintptr_t addr, size_t length)
{
	return advise(addr, length, MADV_DONTNEED) ||
	       advise(addr, length, MADV_DONTNEED_LOCKED);
}

static void use(uintptr_t addr, size_t length)
{
	while (length) {
		size_t part = in_first_unit(addr, length);
		_Atomic uint32_t *count = count_of(addr);
		uint32_t seen = atomic_load(count);

		for (;;) {
			if (seen == BUSY) {
				atomic_fetch_add(&waits, 1);
				sched_yield();
				seen = atomic_load(count);
			} else if (atomic_compare_exchange_weak(
					   count, &seen,
					   seen + (part >> PAGE_SHIFT))) {
				break;
			}
		}
		addr += part;
		length -= part;
	}
}

/* Put a new mapping in the unit's place.  If this fails the old one stays. */
static void remap(uintptr_t unit)
{
	shim_syscall6(__NR_mmap, unit, SHIM_UNIT_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
		      -1, 0);
}

/*
 * Give back the whole unit.  Nobody uses it, and nobody can begin to while it is BUSY.
 *
 * Return: whether all of it is zero now.
 */
static bool give_back(uintptr_t unit)
{
	/* Memory that the program locked would not be locked in a new mapping. */
	if (way == HOOKS_REMAP && advise(unit, SHIM_UNIT_SIZE, MADV_DONTNEED)) {
		remap(unit);
		return true;
	}
	if (!drop(unit, SHIM_UNIT_SIZE))
		return false;
	if (way == HOOKS_MODULE)
		shim_released((void *)unit, SHIM_UNIT_SIZE,
			      SHIM_PAGES_AND_TABLES);
	return true;
}

/*
 * Take a range out of use, and give its pages back, or its whole units.
 *
 * The count goes down first, and decides whether to give back the whole unit in place
 * of the range.  Were that decided before, another thread could begin to use the unit
 * meanwhile: the unit would not be given back, and the old bytes of the range would
 * pass for zeros.
 *
 * Return: whether all of the range is zero now.
 */
static bool unuse(uintptr_t addr, size_t length)
{
	bool all_zero = true;

	while (length) {
		size_t part = in_first_unit(addr, length);
		_Atomic uint32_t *count = count_of(addr);
		uint32_t pages = part >> PAGE_SHIFT;
		uint32_t seen = atomic_load(count), left;
		bool is_zero;

		do
			left = seen == pages ? BUSY : seen - pages;
		while (!atomic_compare_exchange_weak(count, &seen, left));
		HOOKS_PAUSE();
		if (left == BUSY) {
			is_zero = give_back(addr & -SHIM_UNIT_SIZE);
			atomic_fetch_add(&units, is_zero);
			/* On failure drop just the range: the unit's rest is zero already. */
			is_zero = is_zero || drop(addr, part);
			atomic_store(count, 0);
		} else {
			is_zero = drop(addr, part);
		}
		all_zero = all_zero && is_zero;
		addr += part;
		length -= part;
	}
	return all_zero;
}

/* The reservation is full: map memory as jemalloc does without hooks. */
static void *map_foreign(size_t size, size_t alignment)
{
	uintptr_t got, addr;
	long result;

	result = shim_map(size + alignment);
	if (shim_failed(result))
		return NULL;
	got = result;
	addr = round_up(got, alignment);
	if (addr > got)
		shim_syscall2(__NR_munmap, got, addr - got);
	if (got + alignment > addr)
		shim_syscall2(__NR_munmap, addr + size, got + alignment - addr);
	atomic_fetch_add(&foreign, 1);
	return (void *)addr;
}

static void *alloc(struct extent_hooks *hooks, void *wanted, size_t size,
		   size_t alignment, bool *zero, bool *commit,
		   unsigned int arena)
{
	uintptr_t from = atomic_load(&next), addr;

	/* An extent can't grow in place: the memory behind it is another extent's. */
	if (wanted)
		return NULL;
	*zero = true;
	do {
		addr = round_up(from, alignment);
		if (addr + size > end || addr + size < addr) {
			*commit = true;
			return map_foreign(size, alignment);
		}
	} while (!atomic_compare_exchange_weak(&next, &from, addr + size));
	if (*commit)
		use(addr, size);
	return (void *)addr;
}

/* Refuse to deallocate: jemalloc then keeps the extent, and decommits it. */
static bool dalloc(struct extent_hooks *hooks, void *addr, size_t size,
		   bool is_committed, unsigned int arena)
{
	return true;
}

static void destroy(struct extent_hooks *hooks, void *addr, size_t size,
		    bool is_committed, unsigned int arena)
{
	if (!is_ours((uintptr_t)addr))
		shim_syscall2(__NR_munmap, addr, size);
	/* Whether the memory is zero doesn't matter: it is never handed out again. */
	else if (is_committed)
		unuse((uintptr_t)addr, size);
}

static bool commit(struct extent_hooks *hooks, void *addr, size_t size,
		   size_t offset, size_t length, unsigned int arena)
{
	if (!is_ours((uintptr_t)addr))
		return true;
	use((uintptr_t)addr + offset, length);
	return false;
}

static bool decommit(struct extent_hooks *hooks, void *addr, size_t size,
		     size_t offset, size_t length, unsigned int arena)
{
	/* Extents older than the hooks were never counted. */
	if (!is_ours((uintptr_t)addr))
		return true;
	if (unuse((uintptr_t)addr + offset, length))
		return false;
	/* jemalloc still takes this range to be committed: count it again. */
	use((uintptr_t)addr + offset, length);
	return true;
}

/* Refuse MADV_FREE: the pages would stay for a time, and so would their tables. */
static bool purge_lazy(struct extent_hooks *hooks, void *addr, size_t size,
		       size_t offset, size_t length, unsigned int arena)
{
	return true;
}

static bool purge_forced(struct extent_hooks *hooks, void *addr, size_t size,
			 size_t offset, size_t length, unsigned int arena)
{
	return !drop((uintptr_t)addr + offset, length);
}

/* Allow every split: the counts go by address, not by the extents' bounds. */
static bool split(struct extent_hooks *hooks, void *addr, size_t size,
		  size_t size_a, size_t size_b, bool is_committed,
		  unsigned int arena)
{
	return false;
}

static bool merge(struct extent_hooks *hooks, void *addr_a, size_t size_a,
		  void *addr_b, size_t size_b, bool is_committed,
		  unsigned int arena)
{
	return !is_ours((uintptr_t)addr_a) || !is_ours((uintptr_t)addr_b);
}

static struct extent_hooks own_hooks = {
	.alloc = alloc,
	.dalloc = dalloc,
	.destroy = destroy,
	.commit = commit,
	.decommit = decommit,
	.purge_lazy = purge_lazy,
	.purge_forced = purge_forced,
	.split = split,
	.merge = merge,
};

/* Free the empty tables before the fork, which would copy them. */
static void forking(void)
{
	if (way == HOOKS_MODULE)
		shim_drain();
}

/* In the child, release the units that a thread of the parent had made BUSY. */
static void forked(void)
{
	uintptr_t unit;

	for (unit = base; unit < atomic_load(&next); unit += SHIM_UNIT_SIZE)
		if (atomic_load(count_of(unit)) == BUSY)
			atomic_store(count_of(unit), 0);
}

static bool reserve(size_t bytes)
{
	size_t room = bytes >> SHIM_UNIT_SHIFT;
	long area, counts;

	area = shim_map(bytes + SHIM_UNIT_SIZE);
	if (shim_failed(area))
		return false;
	counts = shim_map(room * sizeof(*committed));
	if (shim_failed(counts)) {
		shim_syscall2(__NR_munmap, area, bytes + SHIM_UNIT_SIZE);
		return false;
	}
	committed = (_Atomic uint32_t *)counts;
	base = round_up(area, SHIM_UNIT_SIZE);
	end = base + bytes;
	atomic_store(&next, base);
	/* The mapping was larger by a unit, for the sake of alignment. */
	if (base > (uintptr_t)area)
		shim_syscall2(__NR_munmap, area, base - area);
	shim_syscall2(__NR_munmap, end, area + SHIM_UNIT_SIZE + bytes - end);
	return true;
}

static void unreserve(void)
{
	size_t room = (end - base) >> SHIM_UNIT_SHIFT;

	shim_syscall2(__NR_munmap, base, end - base);
	shim_syscall2(__NR_munmap, committed, room * sizeof(*committed));
	base = 0;
	end = 0;
}

/* Get the VmFlags of an address's mapping, and the number of all mappings. */
static bool describe(uintptr_t addr, char *flags, size_t room,
		     unsigned int *mappings)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long from, to;
	bool wanted = false, found = false;
	char *line = NULL;
	size_t size = 0;

	if (!smaps)
		return false;
	*mappings = 0;
	while (getline(&line, &size, smaps) > 0) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
			++*mappings;
			wanted = addr >= from && addr < to;
		} else if (wanted && !strncmp(line, "VmFlags:", 8)) {
			snprintf(flags, room, "%s", line);
			found = true;
		}
	}
	free(line);
	fclose(smaps);
	return found;
}

/*
 * Say whether a new mapping would be like the old one.  It would not if the program
 * locks all future memory, or has a memory policy: then its flags differ, or it does
 * not merge with its neighbours.
 */
static bool remap_is_faithful(void)
{
	uintptr_t unit = base + SHIM_UNIT_SIZE;
	char before[256], after[256];
	unsigned int nr_before, nr_after;

	if (!describe(unit, before, sizeof(before), &nr_before))
		return false;
	/* Ask twice: the first describe() may have allocated, and so added a mapping. */
	if (!describe(unit, before, sizeof(before), &nr_before))
		return false;
	remap(unit);
	return describe(unit, after, sizeof(after), &nr_after) &&
	       nr_before == nr_after && !strcmp(before, after);
}

/* Read an arena's hooks, and set them if there are new ones. */
static int arena_hooks(const struct jemalloc *jemalloc, unsigned int arena,
		       struct extent_hooks **now, struct extent_hooks *new)
{
	char name[] = "arena.0000.extent_hooks";
	unsigned int digit, rest = arena;
	size_t length = sizeof(*now);

	for (digit = 0; digit < 4; digit++, rest /= 10)
		name[9 - digit] = '0' + rest % 10;
	return jemalloc->mallctl(name, now, &length, new ? &new : NULL,
				 new ? sizeof(new) : 0);
}

static const char *say_others(const char *file)
{
	static char text[SHIM_TEXT_ROOM];

	snprintf(
		text, sizeof(text),
		"jemalloc has extent hooks already, of %s, and takes one set: "
		"leave out hooks:jemalloc, install_hooks() or the program's own",
		file ? file : "the program itself");
	return text;
}

/*
 * Look for hooks that are not jemalloc's own.  Hooks that replace others get memory
 * that they never handed out, and lose what the others kept count of.  jemalloc's
 * default hooks are in its own object, and the same in all arenas.  One case
 * looks just like that: a program that is linked with jemalloc statically, and
 * has given all arenas one set of hooks of its own.
 *
 * Return: NULL if the hooks are jemalloc's, or why they can't be replaced.
 */
static const char *look_for_others(const struct jemalloc *jemalloc,
				   unsigned int narenas)
{
	struct extent_hooks *hooks, *first = NULL;
	const char *file;
	unsigned int i;

	for (i = 0; i < narenas; i++) {
		/* An arena that was destroyed has no hooks to read. */
		if (arena_hooks(jemalloc, i, &hooks, NULL))
			continue;
		if (!jemalloc_holds(jemalloc, hooks, &file) ||
		    (first && hooks != first))
			return say_others(file);
		first = hooks;
	}
	return first ? NULL : "jemalloc takes no extent hooks";
}

const char *hooks_install(const struct jemalloc *jemalloc, size_t bytes,
			  enum hooks_way wanted)
{
	struct extent_hooks *replaced;
	unsigned int narenas = 0, i;
	const char *why;
	size_t length;
	bool retain;
	void *large;

	if (base)
		return "the hooks are installed already";
	length = sizeof(retain);
	if (jemalloc->mallctl("opt.retain", &retain, &length, NULL, 0))
		return "this jemalloc is too old, or another one";
	if (!retain)
		return "it runs with retain:false, which unmaps memory instead "
		       "of keeping it: leave that out of MALLOC_CONF";
	/* jemalloc makes its arena for oversize memory at the first use. */
	large = jemalloc->malloc(9 << 20);
	if (large)
		*(volatile char *)large = 1;
	jemalloc->free(large);
	length = sizeof(narenas);
	if (jemalloc->mallctl("arenas.narenas", &narenas, &length, NULL, 0) ||
	    narenas > 9999)
		return "this jemalloc is too old, or another one";
	why = look_for_others(jemalloc, narenas);
	if (why)
		return why;
	if (!reserve(bytes & -SHIM_UNIT_SIZE))
		return "there is no address space";
	way = wanted;
	if (way == HOOKS_REMAP && !remap_is_faithful()) {
		unreserve();
		return "a mapping made now is not like one made before (VmFlags "
		       "in smaps; mlockall(), say): the way remap is none here";
	}
	pthread_atfork(forking, NULL, forked);
	for (i = 0; i < narenas; i++)
		if (arena_hooks(jemalloc, i, &replaced, &own_hooks) && !i)
			return "jemalloc takes no extent hooks";
	return NULL;
}

enum hooks_way hooks_best_way(void)
{
	shim_kernel_probe();
	if (shim_kernel_frees_units())
		return HOOKS_ZAP;
	return shim_is_on() && shim_conf()->backend == SHIM_BACKEND_MODULE ?
		       HOOKS_MODULE :
		       HOOKS_REMAP;
}

const char *hooks_way_name(enum hooks_way wanted)
{
	static const char *const names[] = {
		[HOOKS_NOTHING] = "nothing",
		[HOOKS_ZAP] = "zap",
		[HOOKS_REMAP] = "remap",
		[HOOKS_MODULE] = "module",
	};

	return names[wanted];
}

struct hooks_stats hooks_stats(void)
{
	return (struct hooks_stats){
		.reserved = base ? atomic_load(&next) - base : 0,
		.units = atomic_load(&units),
		.waits = atomic_load(&waits),
		.foreign = atomic_load(&foreign),
	};
}
