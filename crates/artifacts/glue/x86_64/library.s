# SPDX-License-Identifier: MIT OR Apache-2.0
# Where the shared library begins and ends. It stays passive in a process whose executable has the
# runtime in it: then the callbacks' names, even as seen from here, are the executable's.

	.intel_syntax noprefix

	.text
begin:
	.cfi_startproc
	mov	rax, qword ptr [rip + __sanitizer_cov_trace_pc@GOTPCREL]
	lea	rcx, [rip + rkcov_own_trace_pc]
	cmp	rax, rcx
	je	rkcov_start_late
	ret
	.cfi_endproc

	.section .init_array.00000, "aw", @init_array
	.p2align 3
	.quad	begin
	.section .fini_array.00000, "aw", @fini_array
	.p2align 3
	.quad	rkcov_end

	.section .note.GNU-stack, "", @progbits
