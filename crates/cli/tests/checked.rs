// SPDX-License-Identifier: MIT OR Apache-2.0
//! A build with checks records exactly what a build with calls records, and computes the same: a few
//! programs, in a few ways to build. `cargo xtask check-differential` has many.

use object::{Object, ObjectSymbol};
use rkcov_abi::sites::CHECKED;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

#[test]
#[cfg_attr(
    not(target_arch = "x86_64"),
    ignore = "the options are those for x86-64"
)]
fn checks_record_what_calls_record() {
    let rkcov = Path::new(env!("CARGO_BIN_EXE_rkcov"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("checked");
    let compared = xtask::differential::matrix::few(rkcov, &folder).unwrap();
    for (what, compared) in &compared {
        println!("{what}: {compared:?}");
        // The large model calls through a register.
        let large = what.contains("-mcmodel=large");
        assert!(compared.records > 100, "{what}: {compared:?}");
        assert_eq!(compared.calls, 0, "{what}: {compared:?}");
        assert_eq!(compared.sites == 0, large, "{what}: {compared:?}");
        assert!(compared.as_without, "{what}: {compared:?}");
    }
    assert!(compared.len() >= 8, "{compared:?}");
}

#[test]
fn checks_of_arm64_record_what_calls_record() {
    let rkcov = Path::new(env!("CARGO_BIN_EXE_rkcov"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("checked-arm64");
    let compared = xtask::differential::matrix::few_for_arm64(rkcov, &folder).unwrap();
    for (what, compared) in &compared {
        println!("{what}: {compared:?}");
        assert!(compared.records > 100, "{what}: {compared:?}");
        assert_eq!(compared.calls, 0, "{what}: {compared:?}");
        assert!(compared.as_without, "{what}: {compared:?}");
    }
    assert!(compared.len() >= 7, "{compared:?}");
}

/// Compiles C for arm64 with us in the assembler's place: what was said, and what is called at edges.
fn assembled(source: &str) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    symlink(env!("CARGO_BIN_EXE_rkcov"), path("as")).unwrap();
    fs::write(path("large.c"), source).unwrap();
    let output = Command::new("aarch64-linux-gnu-gcc")
        .args(["-O1", "-fno-reorder-blocks", "-c", "large.c", "-B."])
        .arg("-fsanitize-coverage=trace-pc")
        .current_dir(folder.path())
        .env("RKCOV_AS", "aarch64-linux-gnu-as")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let object = fs::read(path("large.o")).unwrap();
    let file = object::File::parse(&*object).unwrap();
    let has_sites = file.section_by_name(CHECKED).is_some();
    let called: Vec<String> = file
        .symbols()
        .filter_map(|symbol| Some(symbol.name().ok()?.to_owned()))
        .filter(|name| ["__rkcov_hit", "__sanitizer_cov_trace_pc"].contains(&&**name))
        .collect();
    assert_eq!(has_sites, called == ["__rkcov_hit"], "{called:?}");
    (said, called)
}

/// A function with many edges between the statement `before`, on whether `condition` holds, and `after`.
fn large(before: &str, condition: &str, after: &str) -> String {
    let edge = |n: u32| format!("if (y == {n}) y = g({n});\n");
    let edges: String = (0..600).map(edge).collect();
    format!(
        "int g(int); int f(unsigned x, int y) {{ {before} if ({condition}) {{ {edges} }} {after} return y; }}"
    )
}

#[test]
fn functions_for_arm64_may_be_larger_than_branches_reach() {
    let checks = (String::new(), vec![String::from("__rkcov_hit")]);
    // 32 KiB, of which the compiler has counted half; and 1 MiB.
    assert_eq!(assembled(&large("", "x & 8", "")), checks);
    let far = "({ __asm__ volatile(\".skip 1000000\"); x == 8; })";
    assert_eq!(assembled(&large("if (g(7))", far, "")), checks);
    // A branch of the program's own does not become longer: calls stay.
    let own = "__asm__ volatile(\"tbz %w0, #3, .Lown\" : : \"r\"(x));";
    let there = "__asm__ volatile(\".Lown:\");";
    let calls = vec![String::from("__sanitizer_cov_trace_pc")];
    assert_eq!(
        assembled(&large(own, "x == 7", there)),
        (String::new(), calls)
    );
}
