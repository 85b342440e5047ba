/* SPDX-License-Identifier: GPL-2.0 */
/* For sparse alone: words that 7.x's headers use and sparse 0.6.4 lacks. */
#define __typeof_unqual__ __typeof__
/* MODULE_INFO() asserts a literal's length at compile time, by this builtin. */
#define __builtin_strlen(literal) (sizeof(literal) - 1)
