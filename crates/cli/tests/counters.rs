// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov cc --counters`: what is counted is what calls of the callback would have counted, and fuzzers find
//! their way by it.
#![cfg(target_arch = "x86_64")]

mod here;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const RKCOV: &str = env!("CARGO_BIN_EXE_rkcov");
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/counters");

fn source(name: &str) -> PathBuf {
    Path::new(SOURCES).join(name)
}

fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    output
}

fn run(command: &mut Command) -> String {
    String::from_utf8(output(command).stdout).unwrap()
}

fn has_clang() -> bool {
    here::can(&["clang-22", "--version"])
}

/// A compiler that counts, one that calls, and the options of both.
fn compilers(compiler: &str, options: &[&str]) -> [Vec<String>; 2] {
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let counts: Vec<String> = strings(&[RKCOV, "cc", "--counters", compiler]);
    let calls: Vec<String> = match compiler.starts_with("clang") {
        false => strings(&[
            compiler,
            "-fsanitize-coverage=trace-pc",
            "-fno-optimize-sibling-calls",
        ]),
        true => strings(&[
            compiler,
            "-Xclang",
            "-fsanitize-coverage-type=3",
            "-Xclang",
            "-fsanitize-coverage-trace-pc",
        ]),
    };
    [counts, calls].map(|mut line| {
        line.extend(strings(options));
        line
    })
}

/// Builds the parts of a target, and runs the engine with it.
fn counted(
    folder: &Path,
    compiler: &[String],
    parts: &[(&str, &[&str])],
    link: &[&str],
) -> (String, String) {
    let mut objects = Vec::new();
    for (number, (name, options)) in parts.iter().enumerate() {
        let object = folder.join(format!("part-{number}.o"));
        let mut compile = Command::new(&compiler[0]);
        compile.args(&compiler[1..]).args(*options).arg("-c");
        run(compile.arg(source(name)).arg("-o").arg(&object));
        objects.push(object);
    }
    let engine = folder.join("engine.o");
    run(Command::new("gcc")
        .args(["-O2", "-c"])
        .arg(source("engine.c"))
        .arg("-o")
        .arg(&engine));
    let program = folder.join("program");
    let mut command = Command::new(&compiler[0]);
    command.args(&compiler[1..]).args(&objects).arg(&engine);
    run(command.args(link).arg("-o").arg(&program));
    let output = output(&mut Command::new(&program));
    let [stdout, stderr] = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap());
    (stdout, stderr)
}

fn agree(compiler: &str, options: &[&str], parts: &[(&str, &[&str])], link: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    let [counts, calls] = compilers(compiler, options);
    let (counters, about) = counted(folder.path(), &counts, parts, link);
    let (expected, _) = counted(folder.path(), &calls, parts, link);
    assert!(
        expected.lines().count() > 20,
        "{compiler} {options:?}: {expected}"
    );
    assert_eq!(counters, expected, "{compiler} {options:?}");
    about
}

const C: [(&str, &[&str]); 1] = [("target.c", &[])];
const CXX: [(&str, &[&str]); 2] = [
    ("target.cc", &["-DPART=1", "-std=c++17"]),
    ("target.cc", &["-DPART=2", "-std=c++17"]),
];

#[test]
fn counters_count_what_calls_would_count() {
    for options in [
        &["-O0"][..],
        &["-O1", "-fPIC"],
        &["-O2", "-g"],
        &["-O2", "-masm=intel"],
        &["-O2", "-fno-asynchronous-unwind-tables"],
        &["-O2", "-fno-pie", "-no-pie"],
        &["-O2", "-static"],
        &["-O2", "-static-pie", "-fPIE"],
        &["-O2", "-fcf-protection"],
        &["-O3", "-funroll-loops"],
        &["-Os", "-freorder-blocks-and-partition"],
        &["-O2", "-flto"],
        &["-O2", "-ffunction-sections", "-Wl,--gc-sections"],
        &["-O2", "-pipe"],
        &["-O2", "-fsanitize=address"],
    ] {
        let about = agree("gcc", options, &C, &[]);
        if options == ["-O0"] {
            // loop, choose, hop, deep, never, jump_back, last and target.
            assert!(about.starts_with("1 modules, "), "{about}");
            assert!(about.ends_with(", 8 functions\n"), "{about}");
        }
    }
    if has_clang() {
        for options in [&["-O0"][..], &["-O2", "-g"]] {
            let folder = TempDir::new().unwrap();
            let [counts, _] = compilers("clang-22", options);
            let (counters, about) = counted(folder.path(), &counts, &C, &[]);
            assert!(counters.lines().count() > 20, "{counters}");
            assert!(about.starts_with("1 modules, "), "{about}");
        }
    }
}

#[test]
fn code_that_several_objects_have_is_counted_once() {
    for options in [&["-O0"][..], &["-O2"], &["-O2", "-g", "-fPIC"]] {
        agree("g++", options, &CXX, &["-lstdc++"]);
    }
}

/// Each module has its own counters.
#[test]
fn libraries_tell_of_theirs() {
    let folder = TempDir::new().unwrap();
    let [counts, _] = compilers("gcc", &["-O1", "-fPIC"]);
    let library = folder.path().join("libpart.so");
    let source = folder.path().join("part.c");
    std::fs::write(
        &source,
        "int twice(int n) { return n > 3 ? 2 * n : n + n; }\n",
    )
    .unwrap();
    let mut link = Command::new(&counts[0]);
    link.args(&counts[1..]).arg("-shared").arg(&source);
    run(link.arg("-o").arg(&library));
    let main = folder.path().join("main.c");
    std::fs::write(
        &main,
        "int twice(int); int target(void) { int sum = 0; for (int i = 0; i < 9; i++) sum += twice(i); return sum; }\n",
    )
    .unwrap();
    let (text, about) = counted(
        folder.path(),
        &counts,
        &[(main.to_str().unwrap(), &[])],
        &[
            library.to_str().unwrap(),
            &format!("-Wl,-rpath,{}", folder.path().display()),
        ],
    );
    assert!(text.starts_with("result 72\n"), "{text}");
    assert!(about.starts_with("2 modules, "), "{about}");
}

/// A library that no fuzzer is linked with counts for nobody, and works.
#[test]
fn a_program_without_a_fuzzer_runs() {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("program");
    let main = folder.path().join("main.c");
    std::fs::write(
        &main,
        "int main(int n, char **v) { return v[0] ? n - 1 : 2; }\n",
    )
    .unwrap();
    for model in ["-mcmodel=small", "-mcmodel=large"] {
        let mut build = Command::new(RKCOV);
        build.args([
            "cc",
            "--counters",
            "gcc",
            "-O2",
            "-fno-pie",
            "-no-pie",
            model,
        ]);
        run(build.arg(&main).arg("-o").arg(&program));
        run(&mut Command::new(&program));
    }
}

/// Code that nobody calls is dropped with its counters, where the linker can.
#[test]
fn what_is_dropped_takes_its_counters_along() {
    let folder = TempDir::new().unwrap();
    let [counts, _] = compilers("gcc", &["-O2", "-ffunction-sections"]);
    let main = folder.path().join("main.c");
    std::fs::write(
        &main,
        "int nowhere(int);\nint unused(int n) { return nowhere(n) + 1; }\nint target(void) { return 7; }\n",
    )
    .unwrap();
    let parts: [(&str, &[&str]); 1] = [(main.to_str().unwrap(), &[])];
    let link = ["-Wl,--gc-sections,-z,start-stop-gc"];
    let (text, about) = counted(folder.path(), &counts, &parts, &link);
    assert_eq!(text, "result 7\n1\n");
    assert_eq!(about, "1 modules, 1 sites, 1 functions\n");
}

#[test]
fn libfuzzer_finds_its_way_by_counters_of_gcc() {
    if !has_clang() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let fuzz = |compiler: &[&str]| {
        let (object, program) = (folder.path().join("fuzz.o"), folder.path().join("fuzz"));
        let mut compile = Command::new(compiler[0]);
        compile.args(&compiler[1..]).args(["-O1", "-g", "-c"]);
        run(compile.arg(source("fuzz.c")).arg("-o").arg(&object));
        let mut link = Command::new("clang-22");
        link.arg("-fsanitize=fuzzer").arg(&object);
        run(link.arg("-o").arg(&program));
        let mut fuzz = Command::new(&program);
        fuzz.args(["-runs=3000000", "-seed=1", "-max_len=8"]);
        let output = fuzz.current_dir(folder.path()).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (survived, said) = fuzz(&[RKCOV, "cc", "--counters", "gcc"]);
    assert!(!survived && said.contains("deadly signal"), "{said}");
    assert!(said.contains("inline 8-bit counters"), "{said}");
    assert!(said.contains("PC tables"), "{said}");
    // Without them it has to guess.
    let (survived, said) = fuzz(&["gcc"]);
    assert!(survived, "{said}");
}

/// The large model calls through a register: such code is not counted, and works.
#[test]
fn what_is_not_understood_is_not_counted() {
    let folder = TempDir::new().unwrap();
    let [counts, _] = compilers("gcc", &["-O2", "-fno-pie", "-no-pie"]);
    let large: &[&str] = &["-mcmodel=large"];
    let (text, about) = counted(folder.path(), &counts, &[("target.c", large)], &[]);
    assert!(text.contains("\nresult "), "{text}");
    assert_eq!(about, "");
}

#[test]
fn what_cannot_count_is_an_error() {
    let mut compile = Command::new(RKCOV);
    compile.args(["cc", "--calls", "--counters", "gcc", "-c", "a.c"]);
    let output = compile.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot be used with"), "{said}");
}
