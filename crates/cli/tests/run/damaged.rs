// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports of trace files that are none, or not what was written. The reader's own tests change
//! every byte; here is what people are told.

use crate::support::{Compiler, Lab, RKCOV};
use rkcov_report::trace::Mode;
use std::fs;
use std::process::Command;

#[test]
fn every_sort_of_damage_is_one_line_and_a_failure() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    lab.run(Mode::Unique).of::<&str>(&program, &[]).exited(0);
    let bytes = fs::read(lab.path("trace.rkcov")).unwrap();
    let middle = bytes.len() / 2;
    let mut changed = bytes.clone();
    changed[middle] ^= 1;
    let mut newer = bytes.clone();
    newer[8] += 1;
    let sum = crc32fast::hash(&newer[..12]);
    newer[12..16].copy_from_slice(&sum.to_le_bytes());

    let report = |name: &str, more: &[&str]| {
        let output = Command::new(RKCOV)
            .args(["report", "--format", "pcs"])
            .args(more)
            .arg(lab.path(name))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let folder = lab.path("");
        let said = said.replace(folder.to_str().unwrap(), "LAB/");
        (output.status.code(), output.stdout, said)
    };
    let mut all = String::new();
    for (name, bytes) in [
        ("empty", &bytes[..0]),
        ("cut", &bytes[..middle]),
        ("changed", &changed),
        ("newer", &newer),
        ("other", &fs::read(&program).unwrap()),
    ] {
        fs::write(lab.path(name), bytes).unwrap();
        let (status, stdout, said) = report(name, &[]);
        assert_eq!((status, stdout.len()), (Some(1), 0), "{name}: {said}");
        all += &said;
    }
    fs::create_dir(lab.path("folder")).unwrap();
    for name in ["folder", "nothing"] {
        let (status, _, said) = report(name, &[]);
        assert_eq!(status, Some(1));
        all += &said;
    }
    assert_eq!(all.lines().count(), 7, "{all}");
    // Where the middle is depends on the program's path and size.
    let plain = regex::Regex::new("at byte [0-9]+").unwrap();
    insta::assert_snapshot!(plain.replace_all(&all, "at byte N"));

    for name in ["cut", "changed"] {
        let (status, stdout, said) = report(name, &["--salvage"]);
        assert_eq!(status, Some(0), "{said}");
        assert!(!stdout.is_empty());
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
