// SPDX-License-Identifier: MIT
/*
 * jemalloc's extent hooks that know what each unit still holds.
 *
 * They stand in front of jemalloc's own, which go on mapping memory as they always do.
 * How it is locked, advised and accounted for stays the same.
 */

#include <stdatomic.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "hooks.h"
#include "pages.h"
#include "paging.h"
#include "remap.h"
#include "shim.h"
#include "syscalls.h"

static enum hooks_way way;

/* jemalloc's own hooks, which serve all memory that is not recorded. */
static struct extent_hooks *own;

static _Atomic uint64_t foreign;

/* Where the last recorded extent begins. */
static _Atomic uintptr_t lowest;

/*
 * Give the pages of a range back.  MADV_DONTNEED fails if any is locked, as without
 * these hooks: locked memory stays in memory, so that no access faults.
 *
 * Return: whether the whole range is zero now.  If not, jemalloc is told so and clears
 * it for calloc().  A memset() here would crash where the program has made memory
 * unwritable.
 */
static bool drop(uintptr_t addr, size_t length)
{
	return !shim_syscall3(__NR_madvise, addr, length, MADV_DONTNEED);
}

/* Give back a whole unit, and its table.  Return: whether all of it is zero now. */
static bool drop_unit(uintptr_t unit)
{
	/* mremap() would unlock memory that is locked: that is not dropped. */
	if (!drop(unit, SHIM_UNIT_SIZE))
		return false;
	if (way == HOOKS_REMAP)
		remap_unit(unit);
	if (way == HOOKS_MODULE)
		shim_released((void *)unit, SHIM_UNIT_SIZE,
			      SHIM_PAGES_AND_TABLES);
	return true;
}

static const struct pages_release release = {
	.unit = drop_unit,
	.part = drop,
};

/*
 * jemalloc may have got this from sbrk() (dss:primary, or where no mapping is to be
 * had).  The heap is one mapping, which others share.  It lies above the program,
 * in which the address AT_PHDR is.  Old layouts have mappings below it.
 */
static bool is_mapping(const void *addr)
{
	return addr >= sbrk(0) || (uintptr_t)addr < getauxval(AT_PHDR);
}

/*
 * Map an extent just below the last one, or else from the beginning of a unit on.
 * jemalloc asks for 2, 2.5, 3 MiB and so on.  At addresses of the kernel's choice each of
 * these would share its first and its last unit with a hole, or with what the program
 * maps, and the tables of such units can't be given back.
 */
static void *map_extent(void *wanted, size_t size, size_t alignment, bool *zero,
			bool *commit, unsigned int arena)
{
	uintptr_t end = atomic_load_explicit(&lowest, memory_order_relaxed);
	uintptr_t below = end > size ? end - size : 0;
	void *got;

	if (wanted)
		return own->alloc(own, wanted, size, alignment, zero, commit,
				  arena);
	if (below && !(below & (alignment - 1))) {
		/* jemalloc maps nothing if something else is there. */
		got = own->alloc(own, (void *)below, size, alignment, zero,
				 commit, arena);
		if (got)
			return got;
	}
	if (size >= SHIM_UNIT_SIZE && alignment < SHIM_UNIT_SIZE)
		alignment = SHIM_UNIT_SIZE;
	return own->alloc(own, NULL, size, alignment, zero, commit, arena);
}

/*
 * Let jemalloc take the new extent for uncommitted if it can cope with that.  Then it
 * calls commit() before it uses pages, so that the pages in use can be counted.
 */
static void *alloc(struct extent_hooks *hooks, void *wanted, size_t size,
		   size_t alignment, bool *zero, bool *commit,
		   unsigned int arena)
{
	bool must_commit = *commit;
	void *got = map_extent(wanted, size, alignment, zero, commit, arena);

	if (!got)
		return NULL;
	/* What jemalloc itself takes for uncommitted may not be accessible. */
	if (!*commit || !is_mapping(got) || !pages_add((uintptr_t)got, size)) {
		atomic_fetch_add(&foreign, 1);
		return got;
	}
	atomic_store_explicit(&lowest, (uintptr_t)got, memory_order_relaxed);
	*commit = must_commit;
	if (must_commit)
		pages_use((uintptr_t)got, size);
	return got;
}

/*
 * Refuse to deallocate, as jemalloc itself does with retain:true.  It then keeps the
 * extent, and decommits it.
 */
static bool dalloc(struct extent_hooks *hooks, void *addr, size_t size,
		   bool is_committed, unsigned int arena)
{
	return pages_known((uintptr_t)addr) || !own->dalloc ||
	       own->dalloc(own, addr, size, is_committed, arena);
}

static void destroy(struct extent_hooks *hooks, void *addr, size_t size,
		    bool is_committed, unsigned int arena)
{
	if (pages_known((uintptr_t)addr))
		pages_remove((uintptr_t)addr, size, is_committed);
	if (own->destroy)
		own->destroy(own, addr, size, is_committed, arena);
}

static bool commit(struct extent_hooks *hooks, void *addr, size_t size,
		   size_t offset, size_t length, unsigned int arena)
{
	if (!pages_known((uintptr_t)addr))
		return !own->commit ||
		       own->commit(own, addr, size, offset, length, arena);
	pages_use((uintptr_t)addr + offset, length);
	return false;
}

static bool decommit(struct extent_hooks *hooks, void *addr, size_t size,
		     size_t offset, size_t length, unsigned int arena)
{
	if (!pages_known((uintptr_t)addr))
		return !own->decommit ||
		       own->decommit(own, addr, size, offset, length, arena);
	if (pages_unuse((uintptr_t)addr + offset, length, &release))
		return false;
	/* jemalloc still takes the range for committed, so its pages are in use again. */
	pages_use((uintptr_t)addr + offset, length);
	return true;
}

/* Refuse MADV_FREE: the pages would stay for a time, and so would their tables. */
static bool purge_lazy(struct extent_hooks *hooks, void *addr, size_t size,
		       size_t offset, size_t length, unsigned int arena)
{
	return pages_known((uintptr_t)addr) || !own->purge_lazy ||
	       own->purge_lazy(own, addr, size, offset, length, arena);
}

static bool purge_forced(struct extent_hooks *hooks, void *addr, size_t size,
			 size_t offset, size_t length, unsigned int arena)
{
	if (!pages_known((uintptr_t)addr))
		return !own->purge_forced ||
		       own->purge_forced(own, addr, size, offset, length,
					 arena);
	return !drop((uintptr_t)addr + offset, length);
}

/* Split wherever jemalloc would: pages are counted by address, not by extent. */
static bool split(struct extent_hooks *hooks, void *addr, size_t size,
		  size_t size_a, size_t size_b, bool is_committed,
		  unsigned int arena)
{
	return !own->split ||
	       own->split(own, addr, size, size_a, size_b, is_committed, arena);
}

/* Never merge recorded memory with other memory: an extent's first page stands for all. */
static bool merge(struct extent_hooks *hooks, void *addr_a, size_t size_a,
		  void *addr_b, size_t size_b, bool is_committed,
		  unsigned int arena)
{
	return pages_known((uintptr_t)addr_a) !=
		       pages_known((uintptr_t)addr_b) ||
	       !own->merge ||
	       own->merge(own, addr_a, size_a, addr_b, size_b, is_committed,
			  arena);
}

struct extent_hooks hooks_in_front = {
	.alloc = alloc,
	/* jemalloc 5.3.1 takes all hooks for its own if there is no dalloc. */
	.dalloc = dalloc,
	.destroy = destroy,
	.commit = commit,
	.decommit = decommit,
	.purge_lazy = purge_lazy,
	.purge_forced = purge_forced,
	.split = split,
	.merge = merge,
};

void hooks_stand_before(struct extent_hooks *jemallocs, enum hooks_way wanted)
{
	own = jemallocs;
	way = wanted;
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
	struct pages_stats pages = pages_stats();

	return (struct hooks_stats){
		.mapped = pages.known,
		.units = pages.units,
		.waits = pages.waits,
		.foreign = atomic_load(&foreign),
	};
}
