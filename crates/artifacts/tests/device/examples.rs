// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worked examples: what they print is what ran in the sections, and nothing else.

use crate::support::{functions, succeed, Lab, OBJECT, PCS};
use std::process::Command;

/// Compiles and runs an example. Answers its notes, and the functions of the PCs that it printed.
fn example(name: &str) -> (Vec<String>, Vec<String>) {
    let lab = Lab::new();
    // A path that leads out of the folder of the test programs.
    let source = format!("../../../../examples/{name}.c");
    // They define nothing that they do not use.
    let flags = [PCS, &["-fno-pie", "-Wunused-macros"]].concat();
    let object = lab.object("gcc", &source, &flags);
    let program = lab.link("gcc", name, &[object], &[OBJECT, &["-no-pie"]].concat());
    let printed = succeed(&mut Command::new(&program));
    let (notes, pcs): (Vec<_>, Vec<_>) = printed.lines().partition(|line| line.starts_with('#'));
    let pcs = pcs
        .iter()
        .map(|pc| u64::from_str_radix(pc.trim_start_matches("0x"), 16).unwrap());
    let notes = notes.into_iter().map(str::to_owned).collect();
    (notes, functions(&program, 0, pcs))
}

#[test]
fn a_thread_that_always_runs() {
    let (notes, functions) = example("hub");
    assert_eq!(notes, ["# an event of bus 0", "# an event of bus 1"]);
    assert!(!functions.is_empty());
    assert!(
        functions
            .iter()
            .all(|function| function == "handle_event" || function == "hub"),
        "{functions:?}"
    );
    let handled = functions.iter().filter(|f| *f == "handle_event").count();
    assert_eq!(handled, 1, "one bus of two: {functions:?}");
}

#[test]
fn a_worker_on_a_clients_behalf() {
    let (notes, functions) = example("vhost");
    assert_eq!(notes.len(), 5);
    assert!(
        functions
            .iter()
            .all(|function| function == "send_packet" || function == "run"),
        "{functions:?}"
    );
    let sent = functions.iter().filter(|f| *f == "send_packet").count();
    assert_eq!(sent, 2, "two packets of five: {functions:?}");
}
