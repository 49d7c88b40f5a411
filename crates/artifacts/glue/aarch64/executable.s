// SPDX-License-Identifier: MIT OR Apache-2.0
// What an executable has of the runtime beside the runtime itself: its own record as a module, and
// the calls before all constructors and after all destructors.

	.section .data.rkcov, "aw", %progbits
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
	mov	w9, 1
	adrp	x10, begun
	strb	w9, [x10, :lo12:begun]
	stp	x29, x30, [sp, -16]!
	.cfi_def_cfa_offset 16
	.cfi_offset 29, -16
	.cfi_offset 30, -8
	bl	rkcov_start
	adrp	x0, record
	add	x0, x0, :lo12:record
	bl	__rkcov_module_register
	ldp	x29, x30, [sp], 16
	.cfi_restore 29
	.cfi_restore 30
	.cfi_def_cfa_offset 0
	ret
	.cfi_endproc

	// musl has no .preinit_array, and passes nothing to constructors. To register is to start.
late:
	.cfi_startproc
	adrp	x10, begun
	ldrb	w9, [x10, :lo12:begun]
	cbnz	w9, 1f
	mov	w9, 1
	strb	w9, [x10, :lo12:begun]
	adrp	x0, record
	add	x0, x0, :lo12:record
	b	__rkcov_module_register
1:	ret
	.cfi_endproc

	.section .preinit_array, "aw", %preinit_array
	.p2align 3
	.quad	begin
	.section .init_array.00000, "aw", %init_array
	.p2align 3
	.quad	late
	.section .fini_array.00000, "aw", %fini_array
	.p2align 3
	.quad	rkcov_end

	.section .note.GNU-stack, "", %progbits
