// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clients that fork and execute with descriptors open.

use crate::support::{covered, lists, succeed, Compiler, Lab, OBJECT, STATIC};
use std::process::Command;

/// Builds `processes.c`, runs it, and compares what it covered.
fn covers(compiler: Compiler, runtime: &[&str], arguments: &[&str]) {
    let lab = Lab::new();
    let program = lab.client(compiler, "processes.c", runtime, &[]);
    let printed = succeed(Command::new(program).args(arguments));
    let parent = ("parent", &["parent_work"][..]);
    let expected = match arguments {
        ["run" | "raw" | "leave"] => lists([parent]),
        _ => lists([parent, ("child", &["child_work"])]),
    };
    assert_eq!(covered(&printed), expected, "{compiler:?} {arguments:?}");
}

#[test]
fn ten_thousand_children_of_a_fork_server() {
    covers(Compiler::Gcc, OBJECT, &["server", "10000"]);
}

#[test]
fn children_of_a_static_fork_server() {
    covers(Compiler::Gcc, STATIC, &["server", "400"]);
}

#[test]
fn two_children_that_want_one_descriptor() {
    for compiler in Compiler::all() {
        covers(compiler, OBJECT, &["both"]);
    }
}

#[test]
fn exec_ends_the_old_image() {
    for compiler in Compiler::all() {
        covers(compiler, OBJECT, &["exec"]);
    }
}

#[test]
fn programs_that_are_run_are_not_their_parents_work() {
    for compiler in Compiler::all() {
        covers(compiler, OBJECT, &["run"]);
    }
}

#[test]
fn children_made_behind_libcs_back() {
    for compiler in Compiler::all() {
        covers(compiler, OBJECT, &["raw"]);
    }
}

#[test]
fn children_that_leave_from_inside_of_a_section() {
    for compiler in Compiler::all() {
        covers(compiler, OBJECT, &["leave"]);
    }
}
