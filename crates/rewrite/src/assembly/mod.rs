// SPDX-License-Identifier: MIT OR Apache-2.0
//! Assembly as gcc and clang write it.
//!
//! In the place of each call stands a check ([`rkcov_abi::sites`]). What belongs to one machine is in a
//! module of its name.
//!
//! A jump to the callback, the last call of a function, becomes a check and a return: what is
//! recorded is a PC of the function itself. The callback would have recorded its caller's.
//!
//! A site is a byte of the section `rkcov_sites`; a note says where the section's sites in this module
//! begin and end.
//!
//! For fuzzers, a site of x86-64 can count instead ([`Form::Counters`]): it is one instruction, without a
//! cold part.

mod arm64;
mod counters;
mod line;
mod rewriter;
mod sites;
mod x86_64;

use rewriter::Rewriter;
use std::io::{self, BufRead, Write};

/// The callback that compilers call at each edge.
const CALLBACK: &[u8] = b"__sanitizer_cov_trace_pc";

/// What a check calls. It is weak: a program that is linked without the runtime is linked all the same,
/// and never calls it.
const HIT: &str = "__rkcov_hit";

/// What assembly is for, and what is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// x86-64, in either syntax.
    X86_64(Form),
    /// arm64, with checks.
    Arm64(Branches),
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A check, which calls the runtime.
    #[default]
    Checks,
    /// An instruction that adds one to a byte, for fuzzers that read clang's
    /// `inline-8bit-counters`.
    Counters,
}

/// What becomes of conditional branches that do not reach all of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branches {
    /// They stay as they are. In a large function, the assembler may then refuse what was written.
    Kept,
    /// They become jumps, which reach everything, with the opposite branch before them.
    Long,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls that have become sites.
    pub sites: u64,
    /// Instructions with the callback's name in them that stay as they were.
    pub left: u64,
}

/// Copies assembly, and makes sites of the calls of `__sanitizer_cov_trace_pc`. Assembly without
/// such calls is copied as it is. It is held in memory for one function's length at most.
///
/// # Errors
/// Those of `input` and of `output`, and on arm64, tables of jump targets that are not understood: with
/// checks, their entries may be too small.
pub fn rewrite(
    machine: Machine,
    mut input: impl BufRead,
    output: impl Write,
) -> io::Result<Summary> {
    let mut rewriter = Rewriter::new(machine, output);
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? != 0 {
        rewriter.line(&line)?;
        line.clear();
    }
    rewriter.finish()
}

/// Whether `text` can have something to rewrite in it.
#[must_use]
pub fn mentions_callback(text: &[u8]) -> bool {
    memchr::memmem::find(text, CALLBACK).is_some()
}
