// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ways out of a section, and what is recorded after them.

use crate::support::{covered, lists, succeed, Compiler, Lab, OBJECT, STATIC};
use std::process::Command;

/// What a way covers in its section.
pub(crate) const WAYS: [(&str, &[&str]); 7] = [
    ("exception", &["throws"]),
    // It goes on until somebody stops it.
    ("unguarded", &["throws", "outside"]),
    ("jump", &["inside"]),
    ("handler", &["inside"]),
    ("deep", &["inside"]),
    // The end of a thread ends its sections, after all destructors.
    ("exit", &["inside", "in_key_destructor", "in_destructor"]),
    ("cancel", &["inside", "in_key_destructor", "in_destructor"]),
];

fn every_way(compiler: Compiler, runtime: &[&str]) {
    let lab = Lab::new();
    let program = lab.client(compiler, "leaves.cc", runtime, &[]);
    for (way, section) in WAYS {
        let printed = succeed(Command::new(&program).arg(way));
        let expected = lists([("mine", &["own_work"]), ("theirs", section)]);
        assert_eq!(covered(&printed), expected, "{compiler:?} {way}");
    }
}

#[test]
fn every_way_out_of_a_section() {
    for compiler in Compiler::all() {
        every_way(compiler, OBJECT);
    }
}

#[test]
fn every_way_out_of_a_section_of_a_static_program() {
    every_way(Compiler::Gcc, STATIC);
}
