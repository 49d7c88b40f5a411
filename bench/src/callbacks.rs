// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one callback after the other costs: libraries with instrumentation and nothing else, called
//! by a driver that has none, with rkcov's runtime or with the same protocol in C behind them.

use crate::build::{host, Bench, CLANG};
use crate::measure::{Candidate, Clock};
use crate::subjects::Program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::shell::{self, Error};

/// Bytes of padding before the code. Where a function happens to lie costs or saves as much as what
/// is compared here; so each program is linked at several places, and rounds go through them.
const LAYOUTS: [u32; 4] = [16, 48, 2096, 4064];

/// Who has the callbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// Nobody.
    Nobody,
    /// The C implementation to compare with.
    C,
    /// rkcov's runtime.
    Rkcov,
}

/// One way to build and run a library.
struct Variant {
    name: &'static str,
    /// Compiles and links.
    cc: &'static [&'static str],
    /// For the library.
    instrumentation: &'static [&'static str],
    behind: Behind,
    /// Whether a client collects, and the variant's name then.
    states: &'static [(&'static str, &'static str)],
}

const OFF: &[(&str, &str)] = &[("off", "off")];
const BOTH: &[(&str, &str)] = &[("off", "off"), ("on", "on")];

const TRACE_PC: &[&str] = &["-fsanitize-coverage=trace-pc"];
const GUARD: &[&str] = &[
    "-Xclang",
    "-fsanitize-coverage-type=3",
    "-Xclang",
    "-fsanitize-coverage-trace-pc-guard",
];
const RUST_GUARD: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-trace-pc-guard",
];

const fn variant(
    name: &'static str,
    cc: &'static [&'static str],
    instrumentation: &'static [&'static str],
    behind: Behind,
    states: &'static [(&'static str, &'static str)],
) -> Variant {
    Variant {
        name,
        cc,
        instrumentation,
        behind,
        states,
    }
}

const IN_C: &[Variant] = &[
    variant("gcc-plain", &["gcc"], &[], Behind::Nobody, OFF),
    variant("gcc-c", &["gcc"], TRACE_PC, Behind::C, BOTH),
    variant("gcc-rkcov", &["gcc"], TRACE_PC, Behind::Rkcov, BOTH),
    variant("clang-plain", &[CLANG], &[], Behind::Nobody, OFF),
    variant("clang-c", &[CLANG], GUARD, Behind::C, BOTH),
    variant("clang-rkcov", &[CLANG], GUARD, Behind::Rkcov, BOTH),
];

const IN_RUST: &[Variant] = &[
    variant("rustc-plain", &["gcc"], &[], Behind::Nobody, OFF),
    variant("rustc-c", &["gcc"], RUST_GUARD, Behind::C, BOTH),
    variant("rustc-rkcov", &["gcc"], RUST_GUARD, Behind::Rkcov, BOTH),
];

/// The libraries in Rust.
const IN_RUST_TOO: [Program; 2] = [Program::MinizOxide, Program::SerdeJson];

/// Builds all that is compared.
///
/// # Errors
/// Something does not build.
pub(crate) fn candidates(
    bench: &Bench,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Candidate>, Error> {
    let mut candidates = Vec::new();
    let programs = [Program::Zlib, Program::CJson].map(|program| (program, IN_C));
    let programs = programs
        .into_iter()
        .chain(IN_RUST_TOO.map(|p| (p, IN_RUST)));
    for (program, variants) in programs.filter(|(program, _)| wanted(program.name())) {
        for variant in variants {
            let drivers = build(bench, program, variant)?;
            for (state, name) in variant.states {
                let line = |driver: &PathBuf| {
                    let mut line = program.arguments(bench, program.repeats().0 / 4);
                    line.truncate(2);
                    line.insert(0, driver.clone());
                    line.push(state.into());
                    line
                };
                candidates.push(Candidate {
                    program: program.name().to_owned(),
                    variant: format!("{}-{name}", variant.name),
                    clock: Clock::Program,
                    layouts: drivers.iter().map(line).collect(),
                    leaves: None,
                    result: None,
                });
            }
        }
    }
    Ok(candidates)
}

/// Builds a variant, once in each of [`LAYOUTS`].
fn build(bench: &Bench, program: Program, variant: &Variant) -> Result<Vec<PathBuf>, Error> {
    let folder = bench.out.join("callbacks").join(program.name());
    let folder = folder.join(variant.name);
    fs::create_dir_all(&folder)?;
    let mut objects = if IN_RUST_TOO.contains(&program) {
        vec![archive(bench, program, variant, &folder)?]
    } else {
        let cc = [variant.cc, variant.instrumentation].concat();
        bench.compile_library(program, &cc, &folder)?
    };
    let plain = &variant.cc[variant.cc.len() - 1..];
    let own = |file: &str, flags: &[&str]| {
        bench.compile(&Bench::here("c").join(file), plain, &folder, flags)
    };
    let cover: &[&str] = match variant.behind {
        Behind::Nobody => &[],
        _ => &["-DCOVER"],
    };
    objects.insert(0, own("driver.c", cover)?);
    match variant.behind {
        Behind::Nobody => {}
        // As code that may end up in a shared library, like the runtime: without -fPIC the compiler
        // would use addresses that only an executable's own storage has.
        Behind::C => objects.push(own("reference.c", &["-fPIC"])?),
        Behind::Rkcov => objects.push(own("device.c", &[])?),
    }
    if variant.behind == Behind::Rkcov {
        objects.push(bench.artifacts.join(rkcov_artifacts::OBJECT.name));
    }
    let mut programs = Vec::new();
    for bytes in LAYOUTS {
        let padding = folder.join(format!("padding-{bytes}.s"));
        let text = format!(".text\n.skip {bytes}, 0xcc\n.section .note.GNU-stack\n");
        fs::write(&padding, text)?;
        let driver = folder.join(format!("driver-{bytes}"));
        let mut link = bench.compiler(variant.cc);
        link.arg(&padding).args(&objects);
        link.args(["-pthread", "-ldl", "-lm", "-o"]).arg(&driver);
        shell::run(&mut link)?;
        programs.push(driver);
    }
    Ok(programs)
}

/// A library in Rust, with all that it needs, for the driver in C.
fn archive(
    bench: &Bench,
    program: Program,
    variant: &Variant,
    folder: &Path,
) -> Result<PathBuf, Error> {
    let mut cargo: Command = bench.cargo(folder, &variant.instrumentation.join(" "));
    cargo.args(["rustc", "--quiet", "--release", "--locked", "--lib"]);
    cargo.args(["--crate-type=staticlib", "--target", &host()]);
    cargo.args(["--features", &format!("driver,{}", program.name())]);
    shell::run(&mut cargo)?;
    Ok(folder
        .join(host())
        .join("release/librkcov_bench_programs.a"))
}
