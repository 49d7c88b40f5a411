# SPDX-License-Identifier: MIT OR Apache-2.0
# What an executable has of the runtime beside the runtime itself: its own record as a module, and
# the calls before all constructors and after all destructors.

	.intel_syntax noprefix

	.section .data.rkcov, "aw", @progbits
	.p2align 3
record:
	.quad	1
	.quad	__sancov_should_track
	.quad	0
	.weak	__sancov_should_track
	.hidden	__sancov_should_track

	.local	begun
	.comm	begun, 1, 1

	.text
begin:
	.cfi_startproc
	mov	byte ptr [rip + begun], 1
	sub	rsp, 8
	.cfi_def_cfa_offset 16
	call	rkcov_start
	lea	rdi, [rip + record]
	call	__rkcov_module_register
	add	rsp, 8
	.cfi_def_cfa_offset 8
	ret
	.cfi_endproc

	# musl has no .preinit_array, and passes nothing to constructors. To register is to start.
late:
	.cfi_startproc
	cmp	byte ptr [rip + begun], 0
	jne	1f
	mov	byte ptr [rip + begun], 1
	lea	rdi, [rip + record]
	jmp	__rkcov_module_register
1:	ret
	.cfi_endproc

	.section .preinit_array, "aw", @preinit_array
	.p2align 3
	.quad	begin
	.section .init_array.00000, "aw", @init_array
	.p2align 3
	.quad	late
	.section .fini_array.00000, "aw", @fini_array
	.p2align 3
	.quad	rkcov_end

	.section .note.GNU-stack, "", @progbits
