/* SPDX-License-Identifier: MIT */
/*
 * libc's syscall() on x86-64.  A call that is not for syscall_seen() costs a look into
 * the table and a jump to libc's function.  This is assembly because C may write to the
 * place of the last argument on the stack, which is the caller's if a call has fewer
 * arguments.
 */
#include "actions.h"

#ifdef __CET__
#include <cet.h>
#else
#define _CET_ENDBR
#endif

	.text
	.globl	syscall
	.type	syscall, @function
	.hidden	syscall_actions, syscall_seen, next_syscall
	.p2align 4
syscall:
	.cfi_startproc
	_CET_ENDBR
	cmpq	$SYSCALL_ACTIONS, %rdi
	jae	1f
	leaq	syscall_actions(%rip), %r11
	cmpb	$0, (%r11, %rdi)
	jne	2f
1:	jmp	*next_syscall(%rip)
2:	pushq	8(%rsp)
	.cfi_adjust_cfa_offset 8
	call	syscall_seen
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	ret
	.cfi_endproc
	.size	syscall, . - syscall

	.section .note.GNU-stack, "", @progbits
