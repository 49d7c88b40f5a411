// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runtime on aarch64: compiled, linked into a static program, and run by an emulator.
//!
//! The compiler that builds rkcov may have no library for that machine, so Debian's is used, which
//! brings `core` as source.

use rkcov_rewrite::assembly::{rewrite, Branches, Machine};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's Rust, whose sources of `core` are in `rust-web-src`.
const RUSTC: &str = "/usr/bin/rustc";
const PACKAGES: &str = "gcc-aarch64-linux-gnu qemu-user rustc-web rust-web-src";
const TARGET: &str = "aarch64-unknown-linux-gnu";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}\n(on Debian: apt-get install {PACKAGES})")
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stderr}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The runtime as a static library.
fn archive(folder: &Path) -> PathBuf {
    let flags = [
        "--cfg",
        "rkcov_object",
        "-Cpanic=abort",
        "-Copt-level=3",
        "-Clto=fat",
        "-Ccodegen-units=1",
        "-Cembed-bitcode=yes",
        "-Crelocation-model=pic",
        "-Cforce-unwind-tables=yes",
    ];
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(cargo)
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTC_WRAPPER")
        .args(["rustc", "-Zbuild-std=core", "--release", "--lib"])
        .args(["--crate-type=staticlib", "--target", TARGET])
        .arg("--manifest-path")
        .arg(here().join("../runtime/Cargo.toml"))
        .arg("--target-dir")
        .arg(folder));
    folder.join(TARGET).join("release/librkcov_runtime.a")
}

fn tool(name: &str) -> Command {
    Command::new(format!("aarch64-linux-gnu-{name}"))
}

/// The runtime as an object for static programs, in this folder.
fn runtime(folder: &Path) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let archive = archive(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("aarch64"));
    let mut glue = Vec::new();
    for source in ["executable", "memory", "library", "module"] {
        let object = folder.join(format!("{source}.o"));
        let source = here().join(format!("glue/aarch64/{source}.s"));
        run(tool("gcc").arg("-c").arg(source).arg("-o").arg(&object));
        glue.push(object);
    }
    let (whole, runtime) = (folder.join("whole.o"), folder.join("rkcov-static.o"));
    run(tool("ld")
        .args(["-r", "--gc-sections"])
        .args([
            "-u__rkcov_hit",
            "-u__sanitizer_cov_trace_pc",
            "-u__sanitizer_cov_trace_pc_guard",
        ])
        .args([
            "-u__sanitizer_cov_trace_cmp1",
            "-u__sanitizer_cov_trace_cmp4",
        ])
        .args(["-u__sanitizer_cov_trace_switch", "-u__wrap_pthread_create"])
        .args([
            "-urkcov_open",
            "-urkcov_ioctl",
            "-urkcov_drops",
            "-urkcov_mmap",
        ])
        .args(["--defsym=rkcov_pin=rkcov_pin_static"])
        .args(["--defsym=rkcov_create=rkcov_create_static"])
        .args([&glue[0], &glue[1], &archive])
        .arg("-o")
        .arg(&whole));
    run(tool("objcopy")
        .args(["--localize-symbol=pthread_create", "--strip-debug"])
        .args([
            "--strip-unneeded-symbol=dlopen",
            "--strip-unneeded-symbol=dlclose",
        ])
        .args([
            "--strip-unneeded-symbol=dlsym",
            "--strip-unneeded-symbol=dladdr",
        ])
        .args([&whole, &runtime]));
    runtime
}

/// A static program of these sources and the runtime.
fn link(folder: &Path, name: &str, flags: &[&str], sources: &[&Path], runtime: &Path) -> PathBuf {
    let program = folder.join(name);
    run(tool("gcc")
        .args(["-static", "-pthread", "-Wl,--wrap=pthread_create", "-I"])
        .arg(here().join("include"))
        .args(flags)
        .args(sources)
        .arg(runtime)
        .arg("-o")
        .arg(&program));
    program
}

#[test]
fn callbacks_and_the_device_under_an_emulator() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aarch64-callbacks");
    let runtime = runtime(&folder);
    let source = here().join("tests/programs/callbacks.c");
    let program = link(&folder, "callbacks", &[], &[&source], &runtime);
    assert_eq!(
        run(Command::new("qemu-aarch64").arg(&program)),
        "all callbacks\n"
    );
}

/// A client gets the same records by checks as by calls, and checks call only while somebody collects.
#[test]
fn checks_under_an_emulator() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aarch64-checks");
    let runtime = runtime(&folder);
    let programs = here().join("tests/programs");
    for flags in [
        &["-O0"][..],
        &["-O2"],
        &["-O2", "-mbranch-protection=standard"],
    ] {
        let said = [false, true].map(|checks| {
            let text = folder.join("checked_work.s");
            run(tool("gcc")
                .args(flags)
                .args(["-fsanitize-coverage=trace-pc", "-S"])
                .arg(programs.join("checked_work.c"))
                .arg("-o")
                .arg(&text));
            if checks {
                let called = std::fs::read(&text).unwrap();
                let mut checked = Vec::new();
                let machine = Machine::Arm64(Branches::Kept);
                let summary = rewrite(machine, &called[..], &mut checked).unwrap();
                assert!(summary.sites > 10 && summary.left == 0, "{summary:?}");
                std::fs::write(&text, checked).unwrap();
            }
            let source = programs.join("checked.c");
            let wrap = ["-Wl,--wrap=__rkcov_hit"];
            let name = format!("checks-{checks}");
            let program = link(&folder, &name, &wrap, &[&source, &text], &runtime);
            run(Command::new("qemu-aarch64").arg(&program))
        });
        let [called, checked] = said.map(|text| {
            let (records, hits) = text.rsplit_once("hits: ").unwrap();
            (in_order(records), hits.trim().parse::<u32>().unwrap())
        });
        assert_eq!(called.0, checked.0, "{flags:?}");
        assert!(called.0.starts_with("nobody collects: 0 hits\nunique: 0 "));
        assert_eq!(called.1, 0);
        assert!(checked.1 > 20, "{}", checked.1);
    }
}

/// The text with PCs as their places among all of it, by address: code with checks is the same code at other
/// addresses.
fn in_order(text: &str) -> String {
    let pc = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let all: BTreeSet<u64> = text.split_whitespace().filter_map(pc).collect();
    let place = |pc| all.iter().position(|other| *other == pc);
    let line = |line: &str| {
        let words = line.split(' ').map(|word| match pc(word).and_then(place) {
            Some(place) => place.to_string(),
            None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ") + "\n"
    };
    text.lines().map(line).collect()
}
