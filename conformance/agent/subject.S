/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Calls of the callbacks, at addresses that depend on no compiler. With GUARDS, markers have guards,
 * and those the numbers of the markers.
 */
#define MARKERS 1024

#ifdef GUARDS
#define TRACE __sanitizer_cov_trace_pc_guard
#else
#define TRACE __sanitizer_cov_trace_pc
#endif

	.text

/* A function that passes its arguments on to a callback, and where that returns to. */
#if defined(__x86_64__)
.macro PUSH_FRAME
	subq	$8, %rsp
.endm
.macro POP_FRAME
	addq	$8, %rsp
	ret
.endm
.macro CALLBACK function
	call	\function@PLT
.endm
.macro GUARD_OF number
	leaq	subject_first_guard + 4 * \number(%rip), %rdi
.endm
#elif defined(__aarch64__)
.macro PUSH_FRAME
	stp	x29, x30, [sp, -16]!
.endm
.macro POP_FRAME
	ldp	x29, x30, [sp], 16
	ret
.endm
.macro CALLBACK function
	bl	\function
.endm
.macro GUARD_OF number
	adrp	x0, subject_first_guard + 4 * \number
	add	x0, x0, :lo12:subject_first_guard + 4 * \number
.endm
#else
#error "no calls for this architecture"
#endif

.macro SITE name
	.p2align 4
	.globl	subject_\name, subject_pc_\name
	.type	subject_\name, %function
subject_\name:
	PUSH_FRAME
	CALLBACK	__sanitizer_cov_trace_\name
subject_pc_\name:
	POP_FRAME
	.size	subject_\name, . - subject_\name
.endm

	SITE cmp1
	SITE cmp2
	SITE cmp4
	SITE cmp8
	SITE const_cmp1
	SITE const_cmp2
	SITE const_cmp4
	SITE const_cmp8
	SITE switch

	.globl	subject_markers, subject_second_marker, subject_pc_marker
	.p2align 5
	.set	i, 0
subject_markers:
.rept MARKERS
	.p2align 5
	.if i == 1
subject_second_marker:
	.endif
	PUSH_FRAME
#ifdef GUARDS
	GUARD_OF	i
#endif
	CALLBACK	TRACE
	.if i == 0
subject_pc_marker:
	.endif
	POP_FRAME
	.set	i, i + 1
.endr

#ifdef GUARDS
	.bss
	.globl	subject_first_guard
	.hidden	subject_first_guard
	.globl	subject_guards /* the same, for dlsym() */
	.p2align 3
subject_guards:
subject_first_guard:
	.zero	4 * MARKERS

	.text

	.p2align 4
number:
	PUSH_FRAME
#if defined(__x86_64__)
	leaq	subject_first_guard(%rip), %rdi
	leaq	subject_first_guard + 4 * MARKERS(%rip), %rsi
#else
	adrp	x0, subject_first_guard
	add	x0, x0, :lo12:subject_first_guard
	add	x1, x0, 4 * MARKERS
#endif
	CALLBACK	__sanitizer_cov_trace_pc_guard_init
	POP_FRAME

	.section .init_array, "aw"
	.p2align 3
	.quad	number
#endif

	.section .note.GNU-stack, "", %progbits
