// SPDX-License-Identifier: MIT OR Apache-2.0
//! Assembly for x86-64, as gcc and clang write it, in either syntax.
//!
//! In the place of each call stands a check ([`rkcov_abi::sites::Check`]). It goes to its cold part,
//! which is in a subsection of the section that the code is in, so that section groups and the
//! linker's garbage collection treat both alike:
//!
//! ```text
//!     call __rkcov_hit
//!     jmp  PC              5 bytes, always
//! ```
//!
//! A jump to the callback, the last call of a function, becomes a check and a return: what is
//! recorded is a PC of the function itself. The callback would have recorded its caller's.
//!
//! The jumps are written as bytes: assemblers choose among forms, and may be told to put padding
//! before a jump, but whoever is called finds the site from its return address by these distances.
//! The comparison is written as an instruction, because only instructions get a line number.
//!
//! The call frame information of the cold part repeats that of the function up to each site, so that
//! what is called there can be unwound. A site is a byte of the section `rkcov_sites`; a note says
//! where the section's sites in this module begin and end.
//!
//! For fuzzers, a site can count instead ([`Form::Counters`]): it is one instruction, without a cold part.

mod counters;
mod emit;
mod line;
mod rewriter;

use rewriter::Rewriter;
use std::io::{self, BufRead, Write};

/// The callback that compilers call at each edge.
const CALLBACK: &[u8] = b"__sanitizer_cov_trace_pc";

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls that have become sites.
    pub sites: u64,
    /// Instructions with the callback's name in them that stay as they were.
    pub left: u64,
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

/// Copies assembly, and makes sites of this form of the calls of `__sanitizer_cov_trace_pc`. Assembly without
/// such calls is copied as it is. It is held in memory for one function's length at most.
///
/// # Errors
/// Those of `input` and of `output`.
pub fn rewrite(mut input: impl BufRead, output: impl Write, form: Form) -> io::Result<Summary> {
    let mut rewriter = Rewriter::new(output, form);
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
