# SPDX-License-Identifier: MIT OR Apache-2.0
# The functions that the compiler calls for copies and comparisons of memory, for the runtime alone.
# In a program these names may be a sanitizer's, which would take our writes for the program's.

	.intel_syntax noprefix

	.macro begin name
	.section .text.\name, "ax", @progbits
	.p2align 4
	.globl	\name
	.type	\name, @function
\name:
	.cfi_startproc
	.endm
	.macro end name
	.cfi_endproc
	.size	\name, . - \name
	.endm

	begin	memcpy
	mov	rax, rdi
	mov	rcx, rdx
	rep movsb
	ret
	end	memcpy

	begin	memset
	mov	r8, rdi
	mov	eax, esi
	mov	rcx, rdx
	rep stosb
	mov	rax, r8
	ret
	end	memset

	begin	bcmp
	xor	eax, eax
	mov	rcx, rdx
	# Equal if there is nothing to compare.
	cmp	ecx, ecx
	repe cmpsb
	setne	al
	ret
	end	bcmp

	.section .note.GNU-stack, "", @progbits
