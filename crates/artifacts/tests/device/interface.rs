// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of `rkcov.h`.

use crate::support::{finish, succeed, told, Lab, OBJECT, PCS, STATIC};
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
