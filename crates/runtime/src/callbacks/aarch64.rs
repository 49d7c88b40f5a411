// SPDX-License-Identifier: MIT OR Apache-2.0
//! The callbacks for aarch64.
//!
//! `x9` holds the thread's block throughout, and `x30` the return address.

use super::COMPARES;
use crate::modules::offsets;
use crate::record;
use crate::tls;
use core::arch::global_asm;
use rkcov_abi::CmpType;
use rkcov_core::hot::Mode;

global_asm!(
    ".macro rkcov_begin name",
    "    .p2align 5",
    "    .globl \\name",
    "    .type \\name,@function",
    "\\name:",
    "    .cfi_startproc",
    ".endm",
    ".macro rkcov_end name",
    "    .cfi_endproc",
    "    .size \\name, . - \\name",
    ".endm",
    // Finds the thread's block, and its mode in w11.
    ".macro rkcov_mode",
    "    mrs x9, tpidr_el0",
    "    adrp x10, :gottprel:rkcov_tls",
    "    ldr x10, [x10, :gottprel_lo12:rkcov_tls]",
    "    add x9, x9, x10",
    "    ldr w11, [x9, {mode}]",
    ".endm",
    // Trace mode.
    ".macro rkcov_append",
    "    ldr x12, [x9, {area}]",
    "    ldr w13, [x9, {limit}]",
    "    ldr x14, [x12]",
    "    cmp x14, x13",
    "    b.hs 8f",
    "    add x15, x14, 1",
    "    str x15, [x12]",
    "    add x12, x12, x14, lsl 3",
    "    str x30, [x12, 8]",
    "    ret",
    "8:  mov x0, x30",
    "    b {full}",
    ".endm",
    // Unique mode: returns if bit x11 is set. Otherwise goes on with x11 as it was.
    ".macro rkcov_unless_seen",
    "    ldr x12, [x9, {bits}]",
    "    cmp x11, x12",
    "    b.hs 4f",
    "    ldr x12, [x9, {bitmap}]",
    "    lsr x13, x11, 6",
    "    ldr x12, [x12, x13, lsl 3]",
    "    lsr x12, x12, x11",
    "    tbz x12, 0, 4f",
    "    ret",
    "4:",
    ".endm",
    //
    ".text",
    "rkcov_begin __sanitizer_cov_trace_pc",
    // The same under a name that no other module can take over.
    "    .globl rkcov_own_trace_pc",
    "    .hidden rkcov_own_trace_pc",
    "rkcov_own_trace_pc:",
    "    rkcov_mode",
    "    cbnz w11, 1f",
    "    ret",
    "1:  cmp w11, {trace}",
    "    b.ne 2f",
    "    rkcov_append",
    "2:  cmp w11, {unique}",
    "    b.ne 3f",
    "    ldr x12, [x9, {range}]",
    "    ldr x13, [x12, {start}]",
    "    sub x11, x30, x13",
    "    ldr x13, [x12, {len}]",
    "    cmp x11, x13",
    "    b.hs 5f",
    "    ldr x13, [x12, {base}]",
    "    add x11, x11, x13",
    "    rkcov_unless_seen",
    "    mov x0, x11",
    "    mov x1, x30",
    "    b {unique_index}",
    "5:  mov x0, x30",
    "    b {unique_elsewhere}",
    "3:  mov x0, x30",
    "    b {pc}",
    "rkcov_end __sanitizer_cov_trace_pc",
    //
    "rkcov_begin __sanitizer_cov_trace_pc_guard",
    "    rkcov_mode",
    "    cbnz w11, 1f",
    "    ret",
    "1:  cmp w11, {trace}",
    "    b.ne 2f",
    "    rkcov_append",
    "2:  cmp w11, {unique}",
    "    b.ne 3f",
    "    ldr w11, [x0]",
    "    rkcov_unless_seen",
    "    mov w0, w11",
    "    mov x1, x30",
    "    b {unique_guard}",
    "3:  ldr w0, [x0]",
    "    mov x1, x30",
    "    b {pc_guard}",
    "rkcov_end __sanitizer_cov_trace_pc_guard",
    // A check calls by its last instruction: the return address is the PC.
    "rkcov_begin __rkcov_hit",
    "    rkcov_mode",
    "    cmp w11, {trace}",
    "    b.ne 1f",
    "    rkcov_append",
    "1:  mov x0, x30",
    "    b {hit}",
    "rkcov_end __rkcov_hit",
    //
    "rkcov_begin __sanitizer_cov_trace_pc_guard_init",
    "    b {number_guards}",
    "rkcov_end __sanitizer_cov_trace_pc_guard_init",
    "rkcov_begin __sanitizer_cov_trace_pc_indir",
    "    ret",
    "rkcov_end __sanitizer_cov_trace_pc_indir",
    mode = const tls::MODE,
    limit = const tls::LIMIT,
    area = const tls::AREA,
    bits = const tls::BITS,
    bitmap = const tls::BITMAP,
    range = const tls::RANGE,
    start = const offsets::START,
    len = const offsets::LEN,
    base = const offsets::BASE,
    trace = const Mode::Pc as u32,
    unique = const Mode::Unique as u32,
    full = sym record::full,
    hit = sym record::hit,
    unique_index = sym record::unique_index,
    unique_guard = sym record::unique_guard,
    unique_elsewhere = sym record::unique_elsewhere,
    pc = sym record::pc,
    pc_guard = sym record::pc_guard,
    number_guards = sym record::number_guards,
);

/// A callback that leaves its off path when comparisons are recorded. It does not use the assembler
/// macros above: the compiler may put it into another unit of assembly.
macro_rules! on_comparisons {
    ($name:literal, $($line:literal),*; $($operands:tt)*) => {
        global_asm!(
            ".text",
            ".p2align 5",
            concat!(".globl ", $name),
            concat!(".type ", $name, ",%function"),
            concat!($name, ":"),
            ".cfi_startproc",
            "    mrs x9, tpidr_el0",
            "    adrp x10, :gottprel:rkcov_tls",
            "    ldr x10, [x10, :gottprel_lo12:rkcov_tls]",
            "    add x9, x9, x10",
            "    ldr w11, [x9, {mode}]",
            "    tst w11, {compares}",
            "    b.ne 1f",
            "    ret",
            "1:",
            $($line,)*
            ".cfi_endproc",
            concat!(".size ", $name, ", . - ", $name),
            mode = const tls::MODE,
            compares = const COMPARES,
            $($operands)*
        );
    };
}

/// A comparison's callback: `$widen` brings both operands to 64 bits in x0 and x1.
macro_rules! comparison {
    ($name:literal, $kind:expr, $($widen:literal),*) => {
        on_comparisons!(
            $name,
            $($widen,)*
            "    mov x2, x30",
            "    mov w3, {kind}",
            "    b {compare}";
            kind = const $kind.raw(),
            compare = sym record::compare,
        );
    };
}

comparison!(
    "__sanitizer_cov_trace_cmp1",
    CmpType::new(0, false),
    "uxtb w0, w0",
    "uxtb w1, w1"
);
comparison!(
    "__sanitizer_cov_trace_cmp2",
    CmpType::new(1, false),
    "uxth w0, w0",
    "uxth w1, w1"
);
comparison!(
    "__sanitizer_cov_trace_cmp4",
    CmpType::new(2, false),
    "mov w0, w0",
    "mov w1, w1"
);
comparison!("__sanitizer_cov_trace_cmp8", CmpType::new(3, false),);
comparison!(
    "__sanitizer_cov_trace_const_cmp1",
    CmpType::new(0, true),
    "uxtb w0, w0",
    "uxtb w1, w1"
);
comparison!(
    "__sanitizer_cov_trace_const_cmp2",
    CmpType::new(1, true),
    "uxth w0, w0",
    "uxth w1, w1"
);
comparison!(
    "__sanitizer_cov_trace_const_cmp4",
    CmpType::new(2, true),
    "mov w0, w0",
    "mov w1, w1"
);
comparison!("__sanitizer_cov_trace_const_cmp8", CmpType::new(3, true),);
comparison!(
    "__sanitizer_cov_trace_cmpf",
    CmpType::new(2, false),
    "fmov w0, s0",
    "fmov w1, s1"
);
comparison!(
    "__sanitizer_cov_trace_cmpd",
    CmpType::new(3, false),
    "fmov x0, d0",
    "fmov x1, d1"
);

on_comparisons!(
    "__sanitizer_cov_trace_switch",
    "    mov x2, x30",
    "    b {switch}";
    switch = sym record::switch,
);
