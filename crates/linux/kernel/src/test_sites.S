/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Calls of the callbacks, at addresses that depend on no compiler.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>

/* As many as docs/test-module.md promises at least, 16 bytes apart. */
#define MARKERS 1024

/* Calls through pointers land on the first; return addresses are only looked at. */
#ifdef CONFIG_UML
#define ENDBR
#endif

	.text

/* A function that passes its arguments on to @callback, and a label where that returns to. */
.macro SITE callback
	.p2align 4
SYM_CODE_START(rkcov_site_\callback)
	ENDBR
	call	__sanitizer_cov_trace_\callback
	ANNOTATE_NOENDBR
SYM_INNER_LABEL(rkcov_pc_\callback, SYM_L_GLOBAL)
	RET
SYM_CODE_END(rkcov_site_\callback)
.endm


	.p2align 4
SYM_CODE_START(rkcov_markers)
.set i, 0
.rept MARKERS
	.p2align 4
	ENDBR
	call	__sanitizer_cov_trace_pc
	.if i == 0
	ANNOTATE_NOENDBR
SYM_INNER_LABEL(rkcov_pc_first_marker, SYM_L_GLOBAL)
	.endif
	RET
	.set i, i + 1
.endr
SYM_CODE_END(rkcov_markers)

#ifdef CONFIG_KCOV_ENABLE_COMPARISONS
	SITE cmp1
	SITE cmp2
	SITE cmp4
	SITE cmp8
	SITE const_cmp1
	SITE const_cmp2
	SITE const_cmp4
	SITE const_cmp8
	SITE switch
#endif
