// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of sites, of whatever machine.

use super::HIT;
use std::io::{self, Write};

/// The sites, and the note that leads to them. The symbols are weak: a linker may drop all sites of
/// a module and keep a note.
pub(super) fn write(to: &mut impl Write, count: u64) -> io::Result<()> {
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
