// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The other build: `abi` and `core` as modules of one crate, as a kernel's crate root has them.
#![cfg(not(loom))]

use std::path::Path;
use std::process::Command;

/// Compiles the crate root that a kernel would have, with the lints that Kbuild sets, without std
/// and without a panic left in: what may panic would name `core::panicking` in its symbols.
#[test]
fn compiles_as_modules_without_a_panic() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (root, object) = (folder.join("kernel_root.rs"), folder.join("kernel_root.o"));
    let shared = |path: &str| here.join(path).canonicalize().unwrap();
    std::fs::write(
        &root,
        include_str!("by_path/root.rs")
            .replace("ABI", &format!("{:?}", shared("../abi/src/abi/mod.rs")))
            .replace("RULES", &format!("{:?}", shared("src/rules/mod.rs"))),
    )
    .unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiled = Command::new(rustc)
        .args([
            "--edition=2021",
            "--crate-type=lib",
            "--emit=obj",
            "-Cpanic=abort",
        ])
        .args(["-Copt-level=2", "-Coverflow-checks=on", "-Ccodegen-units=1"])
        .args([
            "-Dunsafe_op_in_unsafe_fn",
            "-Dnon_ascii_idents",
            "-Drust_2018_idioms",
        ])
        .args(["-Dunreachable_pub", "-Dwarnings", "-Adead_code"])
        .arg("-o")
        .args([&object, &root])
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let symbols = Command::new("nm").arg("-u").arg(&object).output().unwrap();
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let panics: Vec<&str> = symbols
        .lines()
        .filter(|line| line.contains("panic"))
        .collect();
    assert!(panics.is_empty(), "{panics:#?}");
    assert!(
        symbols.contains("host_lock"),
        "the rules are in the object: {symbols}"
    );
}
