// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exceptions, debuggers and profilers go through the code of checks.

use crate::support::{succeed, Compiler, Lab, RKCOV};
use std::path::Path;
use std::process::Command;

/// Builds the program in this way, runs it in both modes, and says in how many of its instructions it
/// was inside the callback.
#[cfg(target_arch = "x86_64")]
fn unwinds(lab: &Lab, compiler: Compiler, flags: &[&str]) -> [u64; 2] {
    let program = lab.path("unwinds");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/programs/unwinds.c");
    let cc = compiler.command().unwrap();
    let mut build = Command::new(RKCOV);
    build.args(["cc", "--compiler"]).arg(cc.get_program());
    build.args(["-Wall", "-Werror"]).args(flags);
    succeed(build.arg(source).arg("-o").arg(&program));
    ["unique", "trace"].map(|mode| {
        let mut run = Command::new(RKCOV);
        run.args(["run", "--mode", mode, "-o"]);
        run.arg(lab.path("trace.rkcov")).arg("--").arg(&program);
        let output = run.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{flags:?}, {mode}: {said}");
        let numbers: Vec<u64> = said
            .split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect();
        assert!(numbers[0] > 1_000, "{flags:?}, {mode}: {said}");
        numbers[1]
    })
}

#[test]
#[cfg(target_arch = "x86_64")]
fn at_each_instruction_of_a_check_the_stack_can_be_unwound() {
    let lab = Lab::new();
    for compiler in Compiler::all() {
        for flags in [
            &["-O0"][..],
            &["-O2"],
            &[
                "-O2",
                "-fno-omit-frame-pointer",
                "-fPIC",
                "-ffunction-sections",
            ],
            &["-Os", "-fcf-protection"],
        ] {
            let [once, always] = unwinds(&lab, compiler, flags);
            assert!(once > 0, "{compiler:?} {flags:?}");
            assert!(always > once, "{compiler:?} {flags:?}: {always} {once}");
        }
    }
}
