// SPDX-License-Identifier: MIT OR Apache-2.0
//! What coverage of whole programs costs, from their start to the file that they leave.

use crate::build::{host, Bench, CLANG};
use crate::measure::{Candidate, Clock};
use crate::subjects::Program;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::shell::{self, Error};

/// One way to build a program, and the ways in which that is run.
struct Build {
    name: &'static str,
    how: How,
    runs: &'static [(&'static str, Run)],
}

#[derive(Clone, Copy)]
enum How {
    /// By this compiler with these flags, C.
    Cc(&'static [&'static str]),
    /// By cargo with these flags for rustc.
    Cargo(&'static str),
    /// By `cargo rkcov`.
    CargoRkcov,
}

/// How a program is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// Alone, and nothing is left.
    Alone,
    /// By `rkcov run`.
    Unique,
    /// By `rkcov run --mode trace`.
    Trace,
    /// Alone; gcov's files are left beside the objects.
    Gcda,
    /// Alone; a file that the environment names is left.
    Profraw,
}

const GCC: &[Build] = &[
    Build {
        name: "gcc",
        how: How::Cc(&["gcc"]),
        runs: &[("plain", Run::Alone)],
    },
    Build {
        name: "gcc-rkcov",
        how: How::Cc(&["rkcov", "cc", "gcc"]),
        runs: &[
            ("idle", Run::Alone),
            ("run", Run::Unique),
            ("trace", Run::Trace),
        ],
    },
    Build {
        name: "gcc-gcov",
        how: How::Cc(&["gcc", "--coverage", "-fprofile-update=single"]),
        runs: &[("peer", Run::Gcda)],
    },
    Build {
        name: "gcc-gcov-atomic",
        how: How::Cc(&["gcc", "--coverage", "-fprofile-update=atomic"]),
        runs: &[("atomic", Run::Gcda)],
    },
];

const BY_CLANG: &[Build] = &[
    Build {
        name: "clang",
        how: How::Cc(&[CLANG]),
        runs: &[("plain", Run::Alone)],
    },
    Build {
        name: "clang-rkcov",
        how: How::Cc(&["rkcov", "cc", CLANG]),
        runs: &[
            ("idle", Run::Alone),
            ("run", Run::Unique),
            ("trace", Run::Trace),
        ],
    },
    Build {
        name: "clang-source",
        how: How::Cc(&[CLANG, "-fprofile-instr-generate", "-fcoverage-mapping"]),
        runs: &[("peer", Run::Profraw)],
    },
    Build {
        name: "clang-source-atomic",
        how: How::Cc(&[
            CLANG,
            "-fprofile-instr-generate",
            "-fcoverage-mapping",
            "-fprofile-update=atomic",
        ]),
        runs: &[("atomic", Run::Profraw)],
    },
];

const BY_CARGO: &[Build] = &[
    Build {
        name: "rustc",
        how: How::Cargo(""),
        runs: &[("plain", Run::Alone)],
    },
    Build {
        name: "rustc-rkcov",
        how: How::CargoRkcov,
        runs: &[
            ("idle", Run::Alone),
            ("run", Run::Unique),
            ("trace", Run::Trace),
        ],
    },
    Build {
        name: "rustc-source",
        how: How::Cargo("-Cinstrument-coverage"),
        runs: &[("peer", Run::Profraw)],
    },
    Build {
        name: "rustc-source-atomic",
        how: How::Cargo("-Cinstrument-coverage -Cllvm-args=-instrprof-atomic-counter-update-all"),
        runs: &[("atomic", Run::Profraw)],
    },
];

/// The compilers that a program is built with: the names in the rows, and the ways to build.
fn compilers(program: Program) -> Vec<(&'static str, &'static [Build])> {
    if Program::IN_RUST.contains(&program) || program == Program::RustThreads {
        vec![("rustc", BY_CARGO)]
    } else if program.by_clang() {
        vec![("gcc", GCC), ("clang", BY_CLANG)]
    } else {
        vec![("gcc", GCC)]
    }
}

/// What is built and run of a program.
pub(crate) struct Wanted<'a> {
    pub(crate) program: Program,
    /// The names of the ways to run it.
    pub(crate) ways: &'a [&'a str],
    /// The names in the rows, and the arguments of the runs under it.
    pub(crate) runs: Vec<(String, Vec<PathBuf>)>,
}

/// Builds what is wanted of a program, and says how it is run: `COMPILER-WAY`.
///
/// # Errors
/// Something does not build.
pub(crate) fn candidates(bench: &Bench, wanted: &Wanted<'_>) -> Result<Vec<Candidate>, Error> {
    let program = wanted.program;
    let mut candidates = Vec::new();
    for (compiler, builds) in compilers(program) {
        for build in builds {
            let runs = build
                .runs
                .iter()
                .filter(|(way, _)| wanted.ways.contains(way));
            let runs: Vec<_> = runs.collect();
            if runs.is_empty() {
                continue;
            }
            let name = match program {
                Program::Sites(functions) => format!("sites-{functions}"),
                _ => program.name().to_owned(),
            };
            let folder = bench.out.join("programs").join(name).join(build.name);
            let whole = whole(bench, program, build.how, &folder)?;
            for (way, run) in runs {
                for (name, arguments) in &wanted.runs {
                    candidates.push(Candidate {
                        program: name.clone(),
                        variant: format!("{compiler}-{way}"),
                        clock: Clock::System(measured(bench)?),
                        layouts: vec![line(bench, *run, &folder, &whole, arguments)],
                        leaves: match run {
                            Run::Alone => None,
                            Run::Unique | Run::Trace => Some((folder.clone(), "rkcov")),
                            Run::Gcda => Some((folder.clone(), "gcda")),
                            Run::Profraw => Some((folder.clone(), "profraw")),
                        },
                        result: Some(match program {
                            Program::Sqlite => |printed| Program::Sqlite.result(printed),
                            Program::Zlib | Program::CJson | Program::Bzip2 => {
                                |printed| Program::Zlib.result(printed)
                            }
                            _ => str::to_owned,
                        }),
                    });
                }
            }
        }
    }
    // Rounds go through the ways of one run, and then to the next.
    let order = |name: &str| wanted.runs.iter().position(|(run, _)| run == name);
    candidates.sort_by_key(|candidate| order(&candidate.program));
    Ok(candidates)
}

/// Builds a program in one way.
fn whole(bench: &Bench, program: Program, how: How, folder: &Path) -> Result<PathBuf, Error> {
    let (flags, target) = match how {
        How::Cc(cc) => return bench.program(program, cc, folder),
        How::Cargo(flags) => (flags, ""),
        How::CargoRkcov => ("", "rkcov"),
    };
    let (binary, packages) = program.in_rust();
    let key = fingerprint()?;
    bench.once(folder, &format!("{key}{flags}"), || {
        let mut cargo: Command = match how {
            How::CargoRkcov => bench.cargo_rkcov(folder),
            _ => bench.cargo(folder, flags),
        };
        cargo.args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--target",
            &host(),
        ]);
        if program != Program::RustThreads {
            cargo.args(["--features", program.name()]);
        }
        cargo.args(["--bin", binary]);
        if let How::CargoRkcov = how {
            cargo.args(packages.iter().flat_map(|package| ["--include", package]));
        }
        shell::run(&mut cargo)
    })?;
    let built = folder.join(target).join(host());
    Ok(built.join("release").join(binary))
}

/// What the programs in Rust are made of.
fn fingerprint() -> Result<String, Error> {
    let mut text = String::new();
    let folder = Bench::here("rust");
    for file in ["Cargo.toml", "Cargo.lock", "src/lib.rs", "src/threads.rs"] {
        text += &std::fs::read_to_string(folder.join(file))?;
    }
    Ok(text)
}

/// The program that says what others spend.
pub(crate) fn measured(bench: &Bench) -> Result<PathBuf, Error> {
    let folder = bench.out.join("measured");
    let source = Bench::here("c").join("measured.c");
    let program = folder.join("measured");
    bench.once(&folder, &std::fs::read_to_string(&source)?, || {
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-static"]).arg(&source).arg("-o");
        shell::run(gcc.arg(&program))
    })?;
    Ok(program)
}

/// How `whole` is run.
fn line(
    bench: &Bench,
    run: Run,
    folder: &Path,
    whole: &Path,
    arguments: &[PathBuf],
) -> Vec<PathBuf> {
    let mut line = Vec::new();
    let trace = ["--mode", "trace", "--buffer-words", "67108864"];
    let mode: &[&str] = match run {
        Run::Unique => &[],
        Run::Trace => &trace,
        _ => {
            line.push(whole.to_owned());
            line.extend_from_slice(arguments);
            return line;
        }
    };
    line.extend([bench.command("rkcov"), "run".into()]);
    line.extend(mode.iter().map(PathBuf::from));
    line.extend(["-o".into(), folder.join("program.rkcov"), "--".into()]);
    line.push(whole.to_owned());
    line.extend_from_slice(arguments);
    line
}
