/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Calls of the callbacks, at addresses that depend on no compiler.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>

/* As many as docs/test-module.md promises at least. */
#define MARKERS 1024

/*
 * SITE_SHIFT: the logarithm of the distance from one marker to the next.
 * PASS_ON: passes the arguments on to a callback; a label for where it returns to follows.
 * Calls through pointers land on a function's first instruction; return addresses are only looked at.
 */
#ifdef CONFIG_ARM64
#define SITE_SHIFT 5
.macro PASS_ON callback
	hint	#34	/* bti c */
	stp	x29, x30, [sp, #-16]!
	bl	\callback
.endm
.macro PASS_BACK
	ldp	x29, x30, [sp], #16
	ret
.endm
#else
#define SITE_SHIFT 4
#ifdef CONFIG_UML
#define ENDBR
#endif
.macro PASS_ON callback
	ENDBR
	call	\callback
	ANNOTATE_NOENDBR
.endm
.macro PASS_BACK
	RET
.endm
#endif

	.text

/* A function that passes its arguments on to @callback, and a label where that returns to. */
.macro SITE callback
	.p2align SITE_SHIFT
SYM_CODE_START(rkcov_site_\callback)
	PASS_ON	__sanitizer_cov_trace_\callback
SYM_INNER_LABEL(rkcov_pc_\callback, SYM_L_GLOBAL)
	PASS_BACK
SYM_CODE_END(rkcov_site_\callback)
.endm


	.p2align SITE_SHIFT
SYM_CODE_START(rkcov_markers)
.set i, 0
.rept MARKERS
	.p2align SITE_SHIFT
	PASS_ON	__sanitizer_cov_trace_pc
	.if i == 0
SYM_INNER_LABEL(rkcov_pc_first_marker, SYM_L_GLOBAL)
	.endif
	PASS_BACK
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
