// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runtime on aarch64: compiled, linked into a static program, and run by an emulator.
//!
//! The compiler that builds rkcov may have no library for that machine, so Debian's is used, which
//! brings `core` as source.

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

#[test]
fn callbacks_and_the_device_under_an_emulator() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aarch64");
    std::fs::create_dir_all(&folder).unwrap();
    let archive = archive(&folder);
    let tool = |name: &str| Command::new(format!("aarch64-linux-gnu-{name}"));

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
            "-u__sanitizer_cov_trace_pc",
            "-u__sanitizer_cov_trace_pc_guard",
        ])
        .args([
            "-u__sanitizer_cov_trace_cmp1",
            "-u__sanitizer_cov_trace_cmp4",
        ])
        .args(["-u__sanitizer_cov_trace_switch", "-u__wrap_pthread_create"])
        .args(["-urkcov_open", "-urkcov_ioctl", "-urkcov_drops"])
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
    let program = folder.join("callbacks");
    run(tool("gcc")
        .args(["-static", "-pthread", "-Wl,--wrap=pthread_create", "-I"])
        .arg(here().join("include"))
        .arg(here().join("tests/programs/callbacks.c"))
        .arg(&runtime)
        .arg("-o")
        .arg(&program));
    assert_eq!(
        run(Command::new("qemu-aarch64").arg(&program)),
        "all callbacks\n"
    );
}
