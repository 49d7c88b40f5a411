// SPDX-License-Identifier: MIT OR Apache-2.0
// The record of a module that is not an executable with the runtime in it. The runtime is that of
// the executable, or else librkcov.so.

	.section .data.rkcov, "aw", %progbits
	.p2align 3
record:
	.quad	1
	.quad	__sancov_should_track
	.quad	0
	.weak	__sancov_should_track
	.hidden	__sancov_should_track

	.text
begin:
	.cfi_startproc
	adrp	x0, record
	add	x0, x0, :lo12:record
	b	__rkcov_module_register
	.cfi_endproc
end:
	.cfi_startproc
	adrp	x0, record
	add	x0, x0, :lo12:record
	b	__rkcov_module_unregister
	.cfi_endproc

	.section .init_array.00000, "aw", %init_array
	.p2align 3
	.quad	begin
	.section .fini_array.00000, "aw", %fini_array
	.p2align 3
	.quad	end

	.section .note.GNU-stack, "", %progbits
