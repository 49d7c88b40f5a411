// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text of counters: what stands at a site, and the tables that a fuzzer reads.
//!
//! The sections, what they contain and the two functions that are told where they are, are those of
//! clang's `-fsanitize-coverage=inline-8bit-counters,pc-table`. They are ordered as the code is, and the
//! linker drops them with it.

use super::x86_64::Syntax;
use super::CALLBACK;
use std::io::{self, Write};

/// A byte for each site.
const COUNTERS: &str = "__sancov_cntrs";

/// Two words for each site: its PC, and whether it is the first of a function.
const PCS: &str = "__sancov_pcs";

/// Tells a fuzzer of both. Each object has it; the linker keeps one.
const INIT: &str = "rkcov.counters";

/// The functions of a fuzzer, and the section that each is told of.
const TOLD: [(&str, &str); 2] = [
    ("__sanitizer_cov_8bit_counters_init", COUNTERS),
    ("__sanitizer_cov_pcs_init", PCS),
];

/// One site: its number in the text, and whether it is the first of a function.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    pub(super) number: u64,
    pub(super) first: bool,
}

/// Adds one to the counter of site `number`.
pub(super) fn count(to: &mut impl Write, syntax: Syntax, number: u64) -> io::Result<()> {
    writeln!(to, ".Lrkcov_h{number}:")?;
    match syntax {
        Syntax::Att => writeln!(to, "\tincb\t.Lrkcov_s{number}(%rip)"),
        Syntax::Intel => writeln!(to, "\tinc\tBYTE PTR .Lrkcov_s{number}[rip]"),
    }
}

/// The counters and the PCs of some code of the section that the text is in.
pub(super) fn tables(to: &mut impl Write, sites: &[Counted]) -> io::Result<()> {
    let Some(&Counted { number, .. }) = sites.first() else {
        return Ok(());
    };
    writeln!(
        to,
        "\t.pushsection\t{COUNTERS},\"awo?\",@progbits,.Lrkcov_h{number}"
    )?;
    for site in sites {
        writeln!(to, ".Lrkcov_s{}:\n\t.byte\t0", site.number)?;
    }
    writeln!(
        to,
        "\t.popsection\n\t.pushsection\t{PCS},\"awo?\",@progbits,.Lrkcov_h{number}\n\t.balign\t8"
    )?;
    for Counted { number, first } in sites {
        writeln!(to, "\t.quad\t.Lrkcov_h{number}, {}", u8::from(*first))?;
    }
    to.write_all(b"\t.popsection\n")
}

/// The constructor that tells a fuzzer, if one is linked.
pub(super) fn constructor(to: &mut impl Write) -> io::Result<()> {
    write!(
        to,
        "\t.att_syntax\n\
         \t.section\t.text.{INIT},\"axG\",@progbits,{INIT},comdat\n\
         \t.weak\t{INIT}\n\
         \t.hidden\t{INIT}\n\
         \t.type\t{INIT}, @function\n\
         {INIT}:\n\
         \t.cfi_startproc\n\
         \tsubq\t$8, %rsp\n\
         \t.cfi_adjust_cfa_offset 8\n"
    )?;
    for (number, (function, section)) in TOLD.into_iter().enumerate() {
        write!(
            to,
            "\tmovq\t{function}@GOTPCREL(%rip), %rax\n\
             \ttestq\t%rax, %rax\n\
             \tje\t.Lrkcov_i{number}\n\
             \tmovq\t__start_{section}@GOTPCREL(%rip), %rdi\n\
             \tmovq\t__stop_{section}@GOTPCREL(%rip), %rsi\n\
             \tcall\t*%rax\n\
             .Lrkcov_i{number}:\n"
        )?;
    }
    write!(
        to,
        "\taddq\t$8, %rsp\n\
         \t.cfi_adjust_cfa_offset -8\n\
         \tret\n\
         \t.cfi_endproc\n\
         \t.size\t{INIT}, .-{INIT}\n\
         \t.section\t.init_array.00002,\"awG\",@init_array,{INIT},comdat\n\
         \t.balign\t8\n\
         \t.quad\t{INIT}\n"
    )?;
    for (function, section) in TOLD {
        write!(
            to,
            "\t.weak\t{function}\n\
             \t.weak\t__start_{section}\n\
             \t.weak\t__stop_{section}\n\
             \t.hidden\t__start_{section}\n\
             \t.hidden\t__stop_{section}\n"
        )?;
    }
    Ok(())
}

/// A function for the calls that stay as they are: no fuzzer has one.
pub(super) fn callback(to: &mut impl Write) -> io::Result<()> {
    let name = CALLBACK.escape_ascii();
    write!(
        to,
        "\n\t.att_syntax\n\
         \t.section\t.text.{name},\"axG\",@progbits,{name},comdat\n\
         \t.weak\t{name}\n\
         \t.type\t{name}, @function\n\
         {name}:\n\
         \tret\n\
         \t.size\t{name}, .-{name}\n"
    )
}
