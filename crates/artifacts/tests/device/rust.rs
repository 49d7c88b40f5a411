// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rust programs that are clients themselves, through the crate `rkcov`.

use crate::support::{functions, succeed, Lab};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the documentation says to give to rustc, with the lab's runtime for the installed one.
fn documented_flags(lab: &Lab) -> Vec<String> {
    let page = include_str!("../../../../docs/kcov.md");
    let (_, flags) = page.split_once("$ cargo rustc --bin client -- ").unwrap();
    let (flags, _) = flags.split_once("```").unwrap();
    let installed = "/usr/local/lib/rkcov";
    assert!(flags.contains(installed));
    flags
        .replace(installed, lab.path("").to_str().unwrap())
        .split_whitespace()
        .filter(|word| *word != "\\")
        .map(str::to_owned)
        .collect()
}

/// Builds one of the client's examples instrumented, with the runtime in it.
fn build(lab: &Lab, example: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    cargo
        .args([
            "rustc",
            "--quiet",
            "--package",
            "rkcov",
            "--example",
            example,
        ])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["--", "-Crelocation-model=static", "-Clink-arg=-no-pie"])
        .args(documented_flags(lab));
    succeed(&mut cargo);
    target.join("debug/examples").join(example)
}

/// Runs an example. Answers its notes, and the functions of the PCs that it printed.
fn example(name: &str) -> (Vec<String>, Vec<String>) {
    let lab = Lab::new();
    let program = build(&lab, name);
    let printed = succeed(&mut Command::new(&program));
    let (notes, pcs): (Vec<_>, Vec<_>) = printed.lines().partition(|line| line.starts_with('#'));
    let pcs = pcs
        .iter()
        .map(|pc| u64::from_str_radix(pc.trim_start_matches("0x"), 16).unwrap());
    let notes = notes.into_iter().map(str::to_owned).collect();
    (notes, functions(&program, 0, pcs))
}

#[test]
fn every_call_of_the_crate() {
    let lab = Lab::new();
    let printed = succeed(&mut Command::new(build(&lab, "calls")));
    assert_eq!(printed, "all calls\n");
}

#[test]
fn a_thread_that_always_runs() {
    let (notes, functions) = example("hub");
    assert_eq!(notes, ["# an event of bus 0", "# an event of bus 1"]);
    let handled = functions.iter().filter(|f| f.contains("handle_event"));
    assert_eq!(handled.count(), 1, "one bus of two: {functions:?}");
}

#[test]
fn a_worker_on_a_clients_behalf() {
    let (notes, functions) = example("vhost");
    assert_eq!(notes.len(), 5);
    let sent = functions.iter().filter(|f| f.contains("send_packet"));
    assert_eq!(sent.count(), 2, "two packets of five: {functions:?}");
}
