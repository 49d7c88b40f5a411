# SPDX-License-Identifier: MIT OR Apache-2.0
# The callbacks' names in a static program. Its start code resolves ifuncs before it has set up
# thread-local storage, and resolvers may be instrumented: until the program's first functions run,
# a callback has no block to look into and returns. What was renamed to `rkcov_late_NAME` is the
# callback itself.

	.intel_syntax noprefix

	.local	started
	.comm	started, 1, 1

	.macro callback name
	.p2align 5
	.globl	\name
	.type	\name, @function
\name:
	.cfi_startproc
	cmp	byte ptr [rip + started], 0
	je	1f
	jmp	rkcov_late_\name
1:	ret
	.cfi_endproc
	.size	\name, . - \name
	.endm

	.text
	callback __sanitizer_cov_trace_pc
	callback __sanitizer_cov_trace_pc_guard
	callback __sanitizer_cov_trace_pc_indir
	callback __sanitizer_cov_trace_cmp1
	callback __sanitizer_cov_trace_cmp2
	callback __sanitizer_cov_trace_cmp4
	callback __sanitizer_cov_trace_cmp8
	callback __sanitizer_cov_trace_const_cmp1
	callback __sanitizer_cov_trace_const_cmp2
	callback __sanitizer_cov_trace_const_cmp4
	callback __sanitizer_cov_trace_const_cmp8
	callback __sanitizer_cov_trace_cmpf
	callback __sanitizer_cov_trace_cmpd
	callback __sanitizer_cov_trace_switch

start:
	.cfi_startproc
	mov	byte ptr [rip + started], 1
	ret
	.cfi_endproc

	# glibc runs the first of these before all others, musl only the second.
	.section .preinit_array, "aw", @preinit_array
	.p2align 3
	.quad	start
	.section .init_array.00000, "aw", @init_array
	.p2align 3
	.quad	start

	.section .note.GNU-stack, "", @progbits
