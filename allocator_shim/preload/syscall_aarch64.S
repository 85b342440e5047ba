/* SPDX-License-Identifier: MIT */
/*
 * libc's syscall() on aarch64.  A call that is not for syscall_seen() costs a look into
 * the table and a jump to libc's function.  All seven arguments are in registers, and
 * stay there.
 */
#include "actions.h"

	.text
	.globl	syscall
	.type	syscall, %function
	.hidden	syscall_actions, syscall_seen, next_syscall
	.p2align 2
syscall:
	.cfi_startproc
	hint	#34			/* bti c, where indirect branches are checked */
	cmp	x0, #SYSCALL_ACTIONS
	b.hs	1f
	adrp	x9, syscall_actions
	add	x9, x9, :lo12:syscall_actions
	ldrb	w9, [x9, x0]
	cbnz	w9, 2f
1:	adrp	x9, next_syscall
	ldr	x16, [x9, :lo12:next_syscall]
	br	x16
2:	b	syscall_seen
	.cfi_endproc
	.size	syscall, . - syscall

#ifdef __ARM_FEATURE_BTI_DEFAULT
	/* BTI and PAC: without this note the loader would check none of the library. */
	.section .note.gnu.property, "a"
	.p2align 3
	.word	4, 16, 5
	.asciz	"GNU"
	.word	0xc0000000, 4, 3, 0
#endif

	.section .note.GNU-stack, "", %progbits
