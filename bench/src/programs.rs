// SPDX-License-Identifier: MIT OR Apache-2.0
//! What coverage of whole programs costs, from their start to the file that they leave.

use crate::build::{host, Bench, Program, CLANG};
use crate::measure::{Candidate, Clock};
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::shell::{self, Error};

/// One way to have a program in C covered.
struct InC {
    name: &'static str,
    cc: &'static [&'static str],
    leaves: Leaves,
}

/// Where a run leaves what it recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// Nowhere.
    Nothing,
    /// In a trace file of rkcov's.
    Trace,
    /// Beside the object of `driver.c`.
    Gcda,
    /// In a file that the environment names.
    Profraw,
}

const IN_C: &[InC] = &[
    InC {
        name: "gcc-plain",
        cc: &["gcc"],
        leaves: Leaves::Nothing,
    },
    InC {
        name: "gcc-rkcov",
        cc: &["rkcov", "cc", "gcc"],
        leaves: Leaves::Trace,
    },
    InC {
        name: "gcc-gcov",
        cc: &["gcc", "--coverage"],
        leaves: Leaves::Gcda,
    },
    InC {
        name: "clang-plain",
        cc: &[CLANG],
        leaves: Leaves::Nothing,
    },
    InC {
        name: "clang-rkcov",
        cc: &["rkcov", "cc", CLANG],
        leaves: Leaves::Trace,
    },
    InC {
        name: "clang-source",
        cc: &[CLANG, "-fprofile-instr-generate", "-fcoverage-mapping"],
        leaves: Leaves::Profraw,
    },
];

/// Builds all that is compared.
///
/// # Errors
/// Something does not build.
pub(crate) fn candidates(
    bench: &Bench,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Candidate>, Error> {
    let mut candidates = Vec::new();
    for program in Program::IN_C.into_iter().filter(|p| wanted(p.name())) {
        for variant in IN_C {
            let folder = folder(bench, program, variant.name);
            let mut objects = bench.compile_library(program, variant.cc, &folder)?;
            let driver = Bench::here("c").join("driver.c");
            objects.push(bench.compile(&driver, variant.cc, &folder, &[])?);
            let whole = folder.join("program");
            let mut link = bench.compiler(variant.cc);
            shell::run(link.args(&objects).arg("-o").arg(&whole))?;
            candidates.push(candidate(
                bench,
                program,
                variant.name,
                &whole,
                variant.leaves,
            ));
        }
    }
    for program in Program::IN_RUST.into_iter().filter(|p| wanted(p.name())) {
        let rust = |name, build: &dyn Fn(&Path) -> Command, target: &Path, leaves| {
            let (binary, _) = program.in_rust();
            let folder = folder(bench, program, name);
            let mut cargo = build(&folder);
            cargo.args(["--release", "--locked", "--target", &host()]);
            cargo.args(["--features", program.name(), "--bin", binary]);
            shell::run(&mut cargo)?;
            let whole = folder
                .join(target)
                .join(host())
                .join("release")
                .join(binary);
            Ok::<_, Error>(candidate(bench, program, name, &whole, leaves))
        };
        let cargo = |flags: &'static str| {
            move |folder: &Path| {
                let mut cargo = bench.cargo(folder, flags);
                cargo.args(["build", "--quiet"]);
                cargo
            }
        };
        let here = Path::new("");
        candidates.push(rust("rustc-plain", &cargo(""), here, Leaves::Nothing)?);
        let cargo_rkcov = |folder: &Path| {
            let mut cargo = bench.cargo_rkcov(folder);
            cargo.args(["build", "--quiet"]);
            let (_, packages) = program.in_rust();
            cargo.args(packages.iter().flat_map(|package| ["--include", package]));
            cargo
        };
        let rkcov = Path::new("rkcov");
        candidates.push(rust("rustc-rkcov", &cargo_rkcov, rkcov, Leaves::Trace)?);
        let source = cargo("-Cinstrument-coverage");
        candidates.push(rust("rustc-source", &source, here, Leaves::Profraw)?);
    }
    Ok(candidates)
}

fn folder(bench: &Bench, program: Program, variant: &str) -> PathBuf {
    let folder = bench.out.join("programs").join(program.name());
    folder.join(variant)
}

/// How `whole` is run.
fn candidate(
    bench: &Bench,
    program: Program,
    variant: &str,
    whole: &Path,
    leaves: Leaves,
) -> Candidate {
    let folder = folder(bench, program, variant);
    let file = match leaves {
        Leaves::Nothing => None,
        Leaves::Trace => Some(folder.join("program.rkcov")),
        Leaves::Gcda => Some(folder.join("driver.bench.gcda")),
        Leaves::Profraw => Some(folder.join("program.profraw")),
    };
    let mut line = Vec::new();
    if let (Leaves::Trace, Some(file)) = (leaves, &file) {
        line.extend([bench.command("rkcov"), "run".into(), "-o".into()]);
        line.extend([file.clone(), "--".into()]);
    }
    line.extend([whole.to_owned(), bench.input(program)]);
    line.push(Bench::repeat(program).into());
    if Program::IN_C.contains(&program) {
        line.push("off".into());
    }
    Candidate {
        program: program.name(),
        variant: variant.to_owned(),
        clock: Clock::System,
        layouts: vec![line],
        leaves: file,
    }
}
