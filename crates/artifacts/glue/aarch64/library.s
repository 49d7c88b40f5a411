// SPDX-License-Identifier: MIT OR Apache-2.0
// Where the shared library begins and ends. It stays passive in a process whose executable has the
// runtime in it: then the callbacks' names, even as seen from here, are the executable's.

	.text
begin:
	.cfi_startproc
	adrp	x9, :got:__sanitizer_cov_trace_pc
	ldr	x9, [x9, :got_lo12:__sanitizer_cov_trace_pc]
	adrp	x10, rkcov_own_trace_pc
	add	x10, x10, :lo12:rkcov_own_trace_pc
	cmp	x9, x10
	b.ne	1f
	b	rkcov_start_late
1:	ret
	.cfi_endproc

	.section .init_array.00000, "aw", %init_array
	.p2align 3
	.quad	begin
	.section .fini_array.00000, "aw", %fini_array
	.p2align 3
	.quad	rkcov_end

	.section .note.GNU-stack, "", %progbits
