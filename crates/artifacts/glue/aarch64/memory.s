// SPDX-License-Identifier: MIT OR Apache-2.0
// The functions that the compiler calls for copies and comparisons of memory, for the runtime alone.
// In a program these names may be a sanitizer's, which would take our writes for the program's.

	.macro begin name
	.section .text.\name, "ax", %progbits
	.p2align 4
	.globl	\name
	.type	\name, %function
\name:
	.cfi_startproc
	.endm
	.macro end name
	.cfi_endproc
	.size	\name, . - \name
	.endm

	begin	memcpy
	mov	x3, x0
1:	cmp	x2, 8
	b.lo	2f
	ldr	x4, [x1], 8
	str	x4, [x3], 8
	sub	x2, x2, 8
	b	1b
2:	cbz	x2, 3f
	ldrb	w4, [x1], 1
	strb	w4, [x3], 1
	sub	x2, x2, 1
	b	2b
3:	ret
	end	memcpy

	begin	memset
	mov	x3, x0
	and	x1, x1, 255
	mov	x4, 0x0101010101010101
	mul	x4, x4, x1
1:	cmp	x2, 8
	b.lo	2f
	str	x4, [x3], 8
	sub	x2, x2, 8
	b	1b
2:	cbz	x2, 3f
	strb	w4, [x3], 1
	sub	x2, x2, 1
	b	2b
3:	ret
	end	memset

	begin	bcmp
1:	cbz	x2, 2f
	ldrb	w3, [x0], 1
	ldrb	w4, [x1], 1
	sub	x2, x2, 1
	cmp	w3, w4
	b.eq	1b
	mov	w0, 1
	ret
2:	mov	w0, 0
	ret
	end	bcmp

	.section .note.GNU-stack, "", %progbits
