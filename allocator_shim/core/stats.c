// SPDX-License-Identifier: MIT
/* Tell what the shim did. */

#include "counts.h"
#include "shim.h"
#include "state.h"

/* A figure that SHIM_FIGURES lacks would never be reported. */
#define FIGURE(name, member) +1
_Static_assert((SHIM_FIGURES(FIGURE)) * sizeof(uint64_t) ==
		       sizeof(struct pgtable_cleanup_stats),
	       "the list names each member of struct pgtable_cleanup_stats");
#undef FIGURE

struct pgtable_cleanup_stats shim_stats(void)
{
	struct pgtable_cleanup_stats stats = { .backoff = 1 };

	if (!shim_own)
		return stats;
#define COUNT(name, member) \
	stats.member = atomic_load(&shim_own->counts[SHIM_COUNT_##name]);
	SHIM_COUNTS(COUNT)
#undef COUNT
	stats.backoff = UINT64_C(1) << atomic_load(&shim_own->backoff);
	return stats;
}
