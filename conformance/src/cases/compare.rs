// SPDX-License-Identifier: MIT OR Apache-2.0
//! Comparisons: every size, const and not, switches; exact type words.

use super::{Case, Clause};
use crate::stage::{Checked, Stage};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "compare.sizes",
        text: "comparisons of 1, 2, 4 and 8 bytes have their type words",
    },
    Clause {
        id: "compare.const",
        text: "comparisons with a constant have their type words",
    },
    Clause {
        id: "compare.switch",
        text: "a switch over 8, 16, 32 or 64 bits records one comparison with each case",
    },
    Clause {
        id: "compare.nothing",
        text: "a switch without cases, or of an invalid size, records nothing",
    },
    Clause {
        id: "compare.modes",
        text: "a trace of comparisons has no PCs, and a trace of PCs no comparisons",
    },
];

/// What these steps record, in a section and by a task itself.
fn both_ways(stage: &mut Stage<'_>, steps: &str, recorded: &str) -> Checked {
    stage.tell(&format!(
        "t0 client f0
         t0 client f1
         t0 thread t1
         t0 remote f0 cmp area 256 handles [ usb:9 ]
         t1 run start usb:9 {steps} stop
         ? t0 m0 recorded {recorded}
         t0 enable f1 cmp
         t0 run {steps}
         t0 disable f1
         ? t0 m1 among {recorded}"
    ))
}

macro_rules! records_itself {
    ($id:literal, $title:literal, $steps:literal) => {
        Case::code($id, $title, |stage| both_ways(stage, $steps, $steps))
    };
}

pub(super) const CASES: &[Case] = &[
    records_itself!("compare.sizes.1", "one byte", "cmp1 0x12 0xfe cmp1 0 0xff"),
    records_itself!("compare.sizes.2", "two bytes", "cmp2 0x1234 0xfedc"),
    records_itself!(
        "compare.sizes.4",
        "four bytes",
        "cmp4 0x12345678 0xfedcba98"
    ),
    records_itself!(
        "compare.sizes.8",
        "eight bytes",
        "cmp8 0x123456789abcdef0 0xfedcba9876543210"
    ),
    records_itself!("compare.const.1", "one byte", "const1 0x12 0xfe"),
    records_itself!("compare.const.2", "two bytes", "const2 0x1234 0xfedc"),
    records_itself!(
        "compare.const.4",
        "four bytes",
        "const4 0x12345678 0xfedcba98"
    ),
    records_itself!(
        "compare.const.8",
        "eight bytes",
        "const8 0x123456789abcdef0 0xfedcba9876543210"
    ),
    records_itself!("compare.switch.8", "eight bits", "switch 8 3 [ 1 2 3 ]"),
    records_itself!(
        "compare.switch.16",
        "sixteen bits",
        "switch 16 0x1234 [ 1 0x1234 ]"
    ),
    records_itself!(
        "compare.switch.32",
        "thirty-two bits",
        "switch 32 7 [ 5 6 7 8 ]"
    ),
    records_itself!(
        "compare.switch.64",
        "sixty-four bits",
        "switch 64 0x123456789abcdef0 [ 0xffffffffffffffff 0 ]"
    ),
    Case::code(
        "compare.nothing.no-cases",
        "a switch without cases",
        |stage| {
            both_ways(
                stage,
                "cmp4 1 2 switch 32 7 [ ] cmp4 3 4",
                "cmp4 1 2 cmp4 3 4",
            )
        },
    ),
    Case::code(
        "compare.nothing.bad-size",
        "switches over 7, 0 and 128 bits",
        |stage| {
            both_ways(
                stage,
                "switch 7 7 [ 1 2 ] switch 0 7 [ 1 ] switch 128 7 [ 1 ] cmp4 3 4",
                "cmp4 3 4",
            )
        },
    ),
    Case::text(
        "compare.modes.apart",
        "code that does both",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t0 thread t2
         t0 remote f0 cmp area 64 handles [ usb:8 ]
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t2 run start usb:8 pcs 0 2 cmp4 1 2 pcs 2 1 stop
         t2 run start usb:9 pcs 0 2 cmp4 1 2 pcs 2 1 stop
         ? t0 m0 recorded cmp4 1 2
         ? t0 m1 recorded pcs 0 3",
    ),
];
