// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is put in on x86-64.
//!
//! A check goes to its cold part, which is in a subsection of the section that the code is in, so that
//! section groups and the linker's garbage collection treat both alike:
//!
//! ```text
//!     call __rkcov_hit
//!     jmp  PC              5 bytes, always
//! ```
//!
//! The jumps are written as bytes: assemblers choose among forms, and may be told to put padding
//! before a jump, but whoever is called finds the site from its return address by these distances.
//! The comparison is written as an instruction, because only instructions get a line number.
//!
//! The call frame information of the cold part repeats that of the function up to each site, so that
//! what is called there can be unwound.

use super::{CALLBACK, HIT};
use std::io::{self, Write};

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
