// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes that are killed after any instruction of a call, which `steps.c` steps through.

use crate::support::{succeed, Lab, OBJECT, PLAIN};
use std::process::Command;

/// Instructions between one death and the next, of each call, for a run of seconds.
const STRIDES: [(&str, u32); 13] = [
    ("open", 41),
    ("init", 41),
    ("init-again", 41),
    ("close", 17),
    ("enable", 211),
    ("disable", 17),
    ("remote-enable", 307),
    ("remote-enable-many", 1511),
    ("remote-enable-taken", 4001),
    ("remote-disable", 37),
    ("remote-disable-many", 431),
    ("section", 31),
    ("own-section", 13),
];

/// A whole run has `part` of the strides.
fn steps(part: u32) {
    let lab = Lab::new();
    // It calls the callback itself.
    let object = lab.object("gcc", "steps.c", PLAIN);
    let program = lab.link("gcc", "steps", &[object], OBJECT);
    for (call, stride) in STRIDES {
        let stride = (stride / part).max(1).to_string();
        let printed = succeed(Command::new(&program).args([call, &stride]));
        let says = format!("{call}: ");
        assert!(printed.starts_with(&says), "{printed}");
    }
}

#[test]
fn a_process_may_be_killed_anywhere_in_a_call() {
    steps(1);
}

#[test]
#[ignore = "takes minutes: .ci/programs"]
fn a_process_may_be_killed_after_any_instruction_of_a_call() {
    steps(4);
}
