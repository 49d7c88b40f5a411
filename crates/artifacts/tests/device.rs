// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device inside of a process, in C programs that are compiled here.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder of the test programs.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs")
}

/// The artifacts, installed once for this run of the tests.
fn installed() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("artifacts");
    rkcov_artifacts::install(&folder).unwrap();
    folder
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [&output.stdout[..], &output.stderr].concat();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&text)
    );
    output
}

/// How a program is instrumented and linked.
#[derive(Clone, Copy)]
struct Build {
    name: &'static str,
    compiler: &'static str,
    compile: &'static [&'static str],
    link: &'static [&'static str],
    /// Among the artifacts, or C files among the test programs.
    runtime: &'static [&'static str],
}

const GCC: Build = Build {
    name: "gcc",
    compiler: "gcc",
    compile: &["-fsanitize-coverage=trace-pc"],
    link: &[],
    runtime: &["rkcov.o", "rkcov-module.o"],
};

const STATIC: Build = Build {
    name: "static",
    link: &["-static", "-Wl,--wrap=pthread_create"],
    runtime: &["rkcov-static.o", "rkcov-module.o"],
    ..GCC
};

/// Compiles `program`.c and answers the executable.
fn build(program: &str, build: Build) -> PathBuf {
    let artifacts = installed();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let executable = folder.join(format!("{program}-{}", build.name));
    let object = folder.join(format!("{program}-{}.o", build.name));
    let source = programs().join(format!("{program}.c"));
    let include = format!("-I{}", artifacts.display());
    run(Command::new(build.compiler)
        .args(["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-c", &include])
        .args(build.compile)
        .args([&source, Path::new("-o"), &object]));
    let mut link = Command::new(build.compiler);
    link.args(["-pthread", &include])
        .args(build.link)
        .arg(&object);
    for part in build.runtime {
        let folder = if part.ends_with(".c") {
            programs()
        } else {
            artifacts.clone()
        };
        link.arg(folder.join(part));
    }
    run(link.arg("-o").arg(&executable));
    executable
}

#[test]
fn clients_of_one_pool_are_isolated() {
    for how in [GCC, STATIC] {
        let output = run(Command::new(build("isolation", how)).arg("1000"));
        assert!(String::from_utf8_lossy(&output.stdout).contains("shared"));
    }
}

#[test]
fn a_process_wide_runtime_fails_the_test_of_isolation() {
    let how = Build {
        name: "process-wide",
        runtime: &["process_wide.c"],
        ..GCC
    };
    let output = Command::new(build("isolation", how))
        .arg("1000")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn the_devices_calls() {
    for how in [GCC, STATIC] {
        run(&mut Command::new(build("device", how)));
    }
}
