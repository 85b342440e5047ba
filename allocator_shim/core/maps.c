// SPDX-License-Identifier: MIT
/* Find the borders of this process's mappings. */

#include <fcntl.h>
#include <linux/ioctl.h>

#include "maps.h"
#include "syscalls.h"

/* These are struct procmap_query and PROCMAP_QUERY of linux/fs.h since Linux 6.11. */
struct query {
	uint64_t size, flags, address;
	uint64_t start, end, vma_flags, page_size, offset, inode;
	uint32_t major, minor, name_size, build_id_size;
	uint64_t name, build_id;
};
#define QUERY _IOWR('f', 17, struct query)
#define COVERING_OR_NEXT 0x10

struct shim_maps shim_maps_open(void)
{
	return (struct shim_maps){ shim_syscall4(__NR_openat, AT_FDCWD,
						 "/proc/self/maps",
						 O_RDONLY | O_CLOEXEC, 0) };
}

void shim_maps_close(struct shim_maps *maps)
{
	if (maps->fd >= 0)
		shim_syscall1(__NR_close, maps->fd);
}

uint64_t shim_maps_border(struct shim_maps *maps, uint64_t from, uint64_t to)
{
	struct query query = { .size = sizeof(query),
			       .flags = COVERING_OR_NEXT,
			       .address = from };

	if (maps->fd < 0 ||
	    shim_syscall3(__NR_ioctl, maps->fd, QUERY, &query) ||
	    query.end >= to || query.end <= from)
		return to;
	return query.end;
}
