// SPDX-License-Identifier: MIT OR Apache-2.0
//! A build with checks records exactly what a build with calls records, and computes the same: a few
//! programs, in a few ways to build. `cargo xtask check-differential` has many.

use std::path::Path;

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "checks are for x86-64")]
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
