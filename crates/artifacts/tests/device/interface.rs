// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of `rkcov.h`.

use crate::support::{finish, succeed, told, Compiler, Lab, OBJECT, PCS, STATIC};
use std::process::Command;

#[test]
fn clients_of_one_pool_are_isolated() {
    for runtime in [OBJECT, STATIC] {
        let lab = Lab::new();
        let program = lab.program("isolation.c", runtime);
        let printed = succeed(Command::new(program).arg("1000"));
        assert!(printed.contains("shared"), "{printed}");
    }
}

#[test]
fn a_process_wide_runtime_fails_the_test_of_isolation() {
    let lab = Lab::new();
    let objects = [
        lab.object("gcc", "isolation.c", PCS),
        lab.object("gcc", "process_wide.c", &[]),
    ];
    let program = lab.link("gcc", "isolation", &objects, &[]);
    let mut command = Command::new(program);
    let output = finish(command.arg("1000"));
    assert_eq!(output.status.code(), Some(3), "{}", told(&command, &output));
}

#[test]
fn the_devices_calls() {
    for runtime in [OBJECT, STATIC] {
        let lab = Lab::new();
        succeed(&mut Command::new(lab.program("device.c", runtime)));
    }
}

#[test]
fn the_header_is_clean_in_every_language() {
    let lab = Lab::new();
    let source = lab.path("header.c");
    let text = "#include \"rkcov.h\"\nint main(void) { return rkcov_is_kcov(-1); }\n";
    std::fs::write(&source, text).unwrap();
    let warnings = [
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Wconversion",
        "-Wundef",
        "-Werror",
        "-fsyntax-only",
    ];
    let languages = ["c99", "c11", "gnu17", "c++11", "c++20"];
    for compiler in Compiler::all() {
        for standard in languages {
            let language = if standard.contains("++") { "c++" } else { "c" };
            let mut command = Command::new(compiler.name("header.c"));
            command.args(warnings).args(["-x", language]);
            command.arg(format!("-std={standard}"));
            command.arg("-I").arg(lab.path("")).arg(&source);
            succeed(&mut command);
        }
    }
}
