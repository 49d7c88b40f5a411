// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text that is put in.

use super::CALLBACK;
use std::io::{self, Write};

/// What the cold part calls. It is weak: a program that is linked without the runtime is linked all
/// the same, and never calls it.
const HIT: &str = "__rkcov_hit";

/// The subsection of the cold parts. Compilers use none but 0.
const SUBSECTION: u32 = 7;

/// The two syntaxes of instructions, as compilers select them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// AT&T's, with prefixes of registers.
    Att,
    /// Intel's, without.
    Intel,
}

/// The check of site `number`.
pub(super) fn check(to: &mut impl Write, syntax: Syntax, number: u64) -> io::Result<()> {
    match syntax {
        Syntax::Att => writeln!(to, "\tcmpb\t$0, %gs:.Lrkcov_s+{number}(%rip)")?,
        Syntax::Intel => writeln!(to, "\tcmp\tBYTE PTR gs:.Lrkcov_s[rip+{number}], 0")?,
    }
    // je
    write!(
        to,
        "\t.byte\t15, 132\n\t.long\t.Lrkcov_c{number}-.-4\n.Lrkcov_h{number}:\n"
    )
}

/// Makes a call's stack of a jump's, or the other way round.
pub(super) fn align(
    to: &mut impl Write,
    syntax: Syntax,
    down: bool,
    cfi: Option<&[u8]>,
) -> io::Result<()> {
    let instruction: &[u8] = match (syntax, down) {
        (Syntax::Att, true) => b"\tsubq\t$8, %rsp\n",
        (Syntax::Att, false) => b"\taddq\t$8, %rsp\n",
        (Syntax::Intel, true) => b"\tsub\trsp, 8\n",
        (Syntax::Intel, false) => b"\tadd\trsp, 8\n",
    };
    to.write_all(instruction)?;
    to.write_all(cfi.unwrap_or_default())
}

/// The cold part of site `number`. It calls as the compiler would have: `operand` has the callback's
/// name in it.
pub(super) fn cold(to: &mut impl Write, number: u64, operand: &[u8]) -> io::Result<()> {
    write!(to, ".Lrkcov_c{number}:\n\tcall\t")?;
    let at = memchr::memmem::find(operand, CALLBACK).unwrap_or(operand.len());
    let behind = operand.get(at + CALLBACK.len()..).unwrap_or_default();
    to.write_all(&operand[..at])?;
    to.write_all(HIT.as_bytes())?;
    to.write_all(behind.trim_ascii_end())?;
    // jmp
    write!(to, "\n\t.byte\t233\n\t.long\t.Lrkcov_h{number}-.-4\n")
}

/// Goes to the cold parts of the section that the code is in. No directive names the current section
/// without its flags and group, but `.previous` leads back to it from another, and what it changes
/// is on the stack of sections.
pub(super) fn enter_cold(to: &mut impl Write) -> io::Result<()> {
    write!(
        to,
        "\t.pushsection\trkcov_sites,\"a\",@progbits\n\t.previous\n\t.subsection\t{SUBSECTION}\n"
    )
}

/// Goes back.
pub(super) fn leave_cold(to: &mut impl Write) -> io::Result<()> {
    to.write_all(b"\t.popsection\n")
}

/// Begins the symbol of the cold part of `function`, the `part`th.
pub(super) fn begin_function(to: &mut impl Write, name: &[u8]) -> io::Result<()> {
    to.write_all(b"\t.type\t")?;
    to.write_all(name)?;
    to.write_all(b", @function\n")?;
    to.write_all(name)?;
    to.write_all(b":\n")
}

/// Ends it.
pub(super) fn end_function(to: &mut impl Write, name: &[u8]) -> io::Result<()> {
    to.write_all(b"\t.size\t")?;
    to.write_all(name)?;
    to.write_all(b", .-")?;
    to.write_all(name)?;
    to.write_all(b"\n")
}

/// The sites, and the note that leads to them. The symbols are weak: a linker may drop all sites of
/// a module and keep a note.
pub(super) fn sites(to: &mut impl Write, count: u64) -> io::Result<()> {
    write!(
        to,
        "\t.section\trkcov_sites,\"a\",@progbits\n\
         .Lrkcov_s:\n\
         \t.fill\t{count}, 1, 1\n\
         \t.section\t.note.rkcov,\"a\",@note\n\
         \t.balign\t4\n\
         \t.long\t6, 8, 1\n\
         \t.asciz\t\"rkcov\"\n\
         \t.balign\t4\n\
         \t.long\t__start_rkcov_sites-.\n\
         \t.long\t__stop_rkcov_sites-.\n\
         \t.weak\t{HIT}\n\
         \t.weak\t__start_rkcov_sites\n\
         \t.weak\t__stop_rkcov_sites\n\
         \t.hidden\t__start_rkcov_sites\n\
         \t.hidden\t__stop_rkcov_sites\n"
    )
}
