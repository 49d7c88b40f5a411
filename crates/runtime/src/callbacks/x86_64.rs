// SPDX-License-Identifier: MIT OR Apache-2.0
//! The callbacks for x86-64.
//!
//! `rax` holds the offset of the thread's block throughout, and `[rsp]` the return address.

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
    // Returns if the thread records nothing. Otherwise leaves its mode in ecx.
    ".macro rkcov_unless_off",
    "    mov rax, qword ptr [rip + rkcov_tls@GOTTPOFF]",
    "    mov ecx, dword ptr fs:[rax + {mode}]",
    "    test ecx, ecx",
    "    jne 1f",
    "    ret",
    "1:",
    ".endm",
    // Trace mode.
    ".macro rkcov_append",
    "    mov rcx, qword ptr fs:[rax + {area}]",
    "    mov esi, dword ptr fs:[rax + {limit}]",
    "    mov rdx, qword ptr [rcx]",
    "    cmp rdx, rsi",
    "    jae 9f",
    "    lea rsi, [rdx + 1]",
    "    mov qword ptr [rcx], rsi",
    "    mov rsi, qword ptr [rsp]",
    "    mov qword ptr [rcx + rdx * 8 + 8], rsi",
    "    ret",
    "9:  mov rdi, qword ptr [rsp]",
    "    jmp {full}",
    ".endm",
    // Unique mode: returns if bit rcx is set. Otherwise goes on with rcx as it was.
    ".macro rkcov_unless_seen",
    "    cmp rcx, qword ptr fs:[rax + {bits}]",
    "    jae 4f",
    "    mov rdx, qword ptr fs:[rax + {bitmap}]",
    "    mov rsi, rcx",
    "    shr rsi, 6",
    "    mov rsi, qword ptr [rdx + rsi * 8]",
    "    bt rsi, rcx",
    "    jnc 4f",
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
    "    rkcov_unless_off",
    "    cmp ecx, {trace}",
    "    jne 2f",
    "    rkcov_append",
    "2:  cmp ecx, {unique}",
    "    jne 3f",
    "    mov rdx, qword ptr fs:[rax + {range}]",
    "    mov rcx, qword ptr [rsp]",
    "    sub rcx, qword ptr [rdx + {start}]",
    "    cmp rcx, qword ptr [rdx + {len}]",
    "    jae 5f",
    "    add rcx, qword ptr [rdx + {base}]",
    "    rkcov_unless_seen",
    "    mov rdi, rcx",
    "    mov rsi, qword ptr [rsp]",
    "    jmp {unique_index}",
    "5:  mov rdi, qword ptr [rsp]",
    "    jmp {unique_elsewhere}",
    "3:  mov rdi, qword ptr [rsp]",
    "    jmp {pc}",
    "rkcov_end __sanitizer_cov_trace_pc",
    //
    "rkcov_begin __sanitizer_cov_trace_pc_guard",
    "    rkcov_unless_off",
    "    cmp ecx, {trace}",
    "    jne 2f",
    "    rkcov_append",
    "2:  cmp ecx, {unique}",
    "    jne 3f",
    "    mov ecx, dword ptr [rdi]",
    "    rkcov_unless_seen",
    "    mov edi, ecx",
    "    mov rsi, qword ptr [rsp]",
    "    jmp {unique_guard}",
    "3:  mov edi, dword ptr [rdi]",
    "    mov rsi, qword ptr [rsp]",
    "    jmp {pc_guard}",
    "rkcov_end __sanitizer_cov_trace_pc_guard",
    // The cold part of a check calls. At the return address stands the jump back, five bytes, whose
    // target is the PC.
    "rkcov_begin __rkcov_hit",
    "    mov rdx, qword ptr [rsp]",
    "    mov rax, qword ptr [rip + rkcov_tls@GOTTPOFF]",
    "    movsxd rcx, dword ptr [rdx + 1]",
    "    lea rdi, [rdx + rcx + 5]",
    "    cmp dword ptr fs:[rax + {mode}], {trace}",
    "    jne {hit}",
    "    mov rcx, qword ptr fs:[rax + {area}]",
    "    mov esi, dword ptr fs:[rax + {limit}]",
    "    mov rdx, qword ptr [rcx]",
    "    cmp rdx, rsi",
    "    jae {full}",
    "    lea rsi, [rdx + 1]",
    "    mov qword ptr [rcx], rsi",
    "    mov qword ptr [rcx + rdx * 8 + 8], rdi",
    "    ret",
    "rkcov_end __rkcov_hit",
    //
    // The same calls in a module in which most of them are stores.
    "rkcov_begin __sanitizer_cov_trace_pc_store",
    "    rkcov_unless_off",
    "    cmp ecx, {trace}",
    "    jne 2f",
    "    rkcov_append",
    // Unique mode: the thread's own map knows, in the guard's second byte.
    "2:  cmp ecx, {unique}",
    "    jne 3f",
    "    cmp qword ptr fs:[rax + {map}], 0",
    "    je 3f",
    "    cmp byte ptr gs:[rdi + 1], 0",
    "    je 3f",
    "    ret",
    "3:  mov rsi, qword ptr [rsp]",
    "    jmp {store}",
    "rkcov_end __sanitizer_cov_trace_pc_store",
    "rkcov_begin __sanitizer_cov_trace_pc_store_init",
    "    jmp {stores_init}",
    "rkcov_end __sanitizer_cov_trace_pc_store_init",
    //
    "rkcov_begin __sanitizer_cov_trace_pc_guard_init",
    "    jmp {number_guards}",
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
    map = const tls::MAP,
    start = const offsets::START,
    len = const offsets::LEN,
    base = const offsets::BASE,
    trace = const Mode::Pc as u32,
    unique = const Mode::Unique as u32,
    full = sym record::full,
    hit = sym record::hit,
    store = sym record::store,
    stores_init = sym crate::stores::init,
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
            concat!(".type ", $name, ",@function"),
            concat!($name, ":"),
            ".cfi_startproc",
            "    mov rax, qword ptr [rip + rkcov_tls@GOTTPOFF]",
            "    test dword ptr fs:[rax + {mode}], {compares}",
            "    jne 1f",
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

/// A comparison's callback: `$widen` brings both operands to 64 bits in rdi and rsi.
macro_rules! comparison {
    ($name:literal, $kind:expr, $($widen:literal),*) => {
        on_comparisons!(
            $name,
            $($widen,)*
            "    mov rdx, qword ptr [rsp]",
            "    mov ecx, {kind}",
            "    jmp {compare}";
            kind = const $kind.raw(),
            compare = sym record::compare,
        );
    };
}

comparison!(
    "__sanitizer_cov_trace_cmp1",
    CmpType::new(0, false),
    "movzx edi, dil",
    "movzx esi, sil"
);
comparison!(
    "__sanitizer_cov_trace_cmp2",
    CmpType::new(1, false),
    "movzx edi, di",
    "movzx esi, si"
);
comparison!(
    "__sanitizer_cov_trace_cmp4",
    CmpType::new(2, false),
    "mov edi, edi",
    "mov esi, esi"
);
comparison!("__sanitizer_cov_trace_cmp8", CmpType::new(3, false),);
comparison!(
    "__sanitizer_cov_trace_const_cmp1",
    CmpType::new(0, true),
    "movzx edi, dil",
    "movzx esi, sil"
);
comparison!(
    "__sanitizer_cov_trace_const_cmp2",
    CmpType::new(1, true),
    "movzx edi, di",
    "movzx esi, si"
);
comparison!(
    "__sanitizer_cov_trace_const_cmp4",
    CmpType::new(2, true),
    "mov edi, edi",
    "mov esi, esi"
);
comparison!("__sanitizer_cov_trace_const_cmp8", CmpType::new(3, true),);
comparison!(
    "__sanitizer_cov_trace_cmpf",
    CmpType::new(2, false),
    "movd edi, xmm0",
    "movd esi, xmm1"
);
comparison!(
    "__sanitizer_cov_trace_cmpd",
    CmpType::new(3, false),
    "movq rdi, xmm0",
    "movq rsi, xmm1"
);

on_comparisons!(
    "__sanitizer_cov_trace_switch",
    "    mov rdx, qword ptr [rsp]",
    "    jmp {switch}";
    switch = sym record::switch,
);
