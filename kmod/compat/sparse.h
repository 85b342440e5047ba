/* SPDX-License-Identifier: GPL-2.0 */
/* Seen by sparse alone: what the headers of 7.x use and sparse 0.6.4 lacks. */
#define __typeof_unqual__ __typeof__
/* In the static assertions of MODULE_INFO(), on string literals. */
#define __builtin_strlen(literal) (sizeof(literal) - 1)
