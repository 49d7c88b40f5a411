// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs of Linux's own documentation of kcov, as they are.
//!
//! They are taken out of the kernel's source package when the test runs.

use crate::support::{functions, succeed, Lab, COMPARISONS};
use rkcov_linux::documentation::sources;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// What one of the programs printed, and where the instrumented library was.
struct Ran {
    printed: String,
    library: PathBuf,
    bias: u64,
}

fn run(lab: &Lab, name: &str, source: &str) -> Ran {
    let file = lab.path(&format!("{name}.c"));
    std::fs::write(&file, source).unwrap();
    let program = lab.path(name);
    succeed(
        Command::new("gcc")
            .arg("-w")
            .arg(&file)
            .arg("-o")
            .arg(&program),
    );
    let library = lab.library("subject.c", COMPARISONS);
    let bias_file = lab.path("bias");
    let printed = succeed(
        lab.preload(&program, &[&library])
            .env("SUBJECT_BIAS", &bias_file),
    );
    let bias = std::fs::read_to_string(bias_file).unwrap();
    Ran {
        printed,
        library,
        bias: hexadecimal(&bias),
    }
}

fn hexadecimal(text: &str) -> u64 {
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16)
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

impl Ran {
    fn functions(&self, pcs: impl IntoIterator<Item = u64>) -> BTreeSet<String> {
        functions(&self.library, self.bias, pcs)
            .into_iter()
            .collect()
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn coverage_of_one_call() {
    let lab = Lab::new();
    let [source, ..] = sources().unwrap();
    let ran = run(&lab, "local", &source);
    let pcs = ran.printed.lines().map(hexadecimal);
    assert_eq!(ran.functions(pcs), set(&["read", "is_bad_file"]));
}

#[test]
fn comparison_operands() {
    let lab = Lab::new();
    let [_, source, _] = sources().unwrap();
    let ran = run(&lab, "comparisons", &source);
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}: 0x")).unwrap();
        let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap();
        hexadecimal(&rest[..end])
    };
    let compared: Vec<_> = ran
        .printed
        .lines()
        .map(|line| (field(line, "arg1"), field(line, "arg2"), line))
        .collect();
    let pcs = compared.iter().map(|(_, _, line)| field(line, "ip"));
    assert_eq!(ran.functions(pcs), set(&["read", "is_bad_file"]));
    // The program asks for 0 bytes of file -1.
    let (_, _, line) = compared
        .iter()
        .find(|(arg1, arg2, _)| (*arg1, *arg2) == (0x1234_5678, 0))
        .expect("the comparison with the count");
    assert!(line.ends_with("size: 8, const"), "{line}");
    let files = (0x8765_4321, 0xffff_ffff);
    assert!(compared
        .iter()
        .any(|(arg1, arg2, _)| (*arg1, *arg2) == files));
}

#[test]
fn remote_coverage() {
    let lab = Lab::new();
    let [_, _, source] = sources().unwrap();
    let ran = run(&lab, "remote", &source);
    let pcs = ran.printed.lines().map(hexadecimal);
    // The threads also have sections of USB bus 2, and with other common handles.
    assert_eq!(ran.functions(pcs), set(&["hub_event", "vhost_worker"]));
}
