// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which programs each bench runs, in which ways, at which sizes.

use crate::build::{Bench, CLANG};
use crate::measure::Candidate;
use crate::programs::{candidates, Wanted};
use crate::rows::{Rows, Spent};
use crate::subjects::Program;
use std::path::PathBuf;
use std::process::Command;
use xtask::shell::{self, Error};

type Filter<'a> = &'a dyn Fn(&str) -> bool;

/// Threads of a run: so many in all, of which so many live at once.
pub(crate) const THREADS: [(u32, u32); 5] = [(1, 1), (2, 2), (8, 8), (64, 64), (10_000, 8)];

/// Functions of the programs whose number of sites differs.
pub(crate) const FUNCTIONS: [u32; 5] = [16, 256, 2_048, 8_192, 32_768];

/// How often zlib works, for traces of several lengths.
pub(crate) const LENGTHS: [u32; 4] = [1, 2, 4, 8];

/// Rounds of the threads' loop in a run.
const LOOPS: &str = "10000000";

fn all() -> impl Iterator<Item = Program> {
    Program::IN_C.into_iter().chain(Program::IN_RUST)
}

/// Whole programs.
///
/// # Errors
/// Something does not build.
pub(crate) fn whole_programs(bench: &Bench, wanted: Filter<'_>) -> Result<Vec<Candidate>, Error> {
    let mut found = Vec::new();
    for program in all().filter(|program| wanted(program.name())) {
        let (repeat, _) = program.repeats();
        let runs = vec![(program.name().to_owned(), program.arguments(bench, repeat))];
        let ways: &[&str] = match Program::IN_RUST.contains(&program) {
            true => &["plain", "idle", "run", "peer"],
            false => &["plain", "idle", "run", "peer", "atomic"],
        };
        let wanted = Wanted {
            program,
            ways,
            runs,
        };
        found.extend(candidates(bench, &wanted)?);
    }
    Ok(found)
}

/// Whole traces, on less input; and traces of several lengths.
///
/// # Errors
/// Something does not build.
pub(crate) fn traces(bench: &Bench, wanted: Filter<'_>) -> Result<Vec<Candidate>, Error> {
    let mut found = Vec::new();
    for program in all().filter(|program| wanted(program.name())) {
        let name = program.name();
        let mut runs = vec![(name.to_owned(), program.short(bench))];
        if program == Program::Zlib {
            let lengths = LENGTHS.iter();
            runs.extend(lengths.map(|&n| (format!("{name}-{n}"), program.arguments(bench, n))));
        }
        let wanted = Wanted {
            program,
            ways: &["plain", "trace"],
            runs,
        };
        found.extend(candidates(bench, &wanted)?);
    }
    Ok(found)
}

/// Threads that share a loop.
///
/// # Errors
/// Something does not build.
pub(crate) fn threads(bench: &Bench, wanted: Filter<'_>) -> Result<Vec<Candidate>, Error> {
    let mut found = Vec::new();
    let runs: Vec<_> = THREADS
        .iter()
        .map(|(threads, alive)| {
            let arguments = [threads.to_string(), alive.to_string(), LOOPS.into()];
            (threads.to_string(), arguments.map(PathBuf::from).to_vec())
        })
        .filter(|(name, _)| wanted(name))
        .collect();
    for program in [Program::Threads, Program::RustThreads] {
        let wanted = Wanted {
            program,
            ways: &["plain", "idle", "run", "peer", "atomic"],
            runs: runs.clone(),
        };
        found.extend(candidates(bench, &wanted)?);
    }
    let order = |name: &str| runs.iter().position(|(run, _)| run == name);
    found.sort_by_key(|candidate| order(&candidate.program));
    Ok(found)
}

/// Programs with more and more sites.
///
/// # Errors
/// Something does not build.
pub(crate) fn sites(bench: &Bench, wanted: Filter<'_>) -> Result<Vec<Candidate>, Error> {
    let mut found = Vec::new();
    for functions in FUNCTIONS {
        let name = functions.to_string();
        if wanted(&name) {
            let wanted = Wanted {
                program: Program::Sites(functions),
                ways: &["plain", "idle", "run"],
                runs: vec![(name, vec!["10000000".into()])],
            };
            found.extend(candidates(bench, &wanted)?);
        }
    }
    Ok(found)
}

/// Instructions of short runs.
///
/// # Errors
/// Something does not build or run.
pub(crate) fn instructions(bench: &Bench, wanted: Filter<'_>) -> Result<Rows, Error> {
    let mut rows = Rows::of_this_machine();
    for program in all().filter(|program| wanted(program.name())) {
        let wanted = Wanted {
            program,
            ways: &["plain", "idle", "run", "peer", "atomic"],
            runs: vec![(program.name().to_owned(), program.short(bench))],
        };
        // valgrind 3.19 cannot read the line tables that clang's code has here, and gives up.
        let readable = |candidate: &Candidate| !candidate.variant.starts_with("clang");
        for candidate in candidates(bench, &wanted)?.into_iter().filter(readable) {
            let count = Spent::count(candidate.instructions()?);
            rows.push(0, &candidate.program, &candidate.variant, count);
        }
    }
    Ok(rows)
}

/// Ways to compile SQLite.
const COMPILES: &[(&str, &[&str])] = &[
    ("gcc-plain", &["gcc"]),
    ("gcc-lines", &["gcc", "-g1"]),
    ("gcc-calls", &["rkcov", "cc", "--calls", "gcc"]),
    ("gcc-run", &["rkcov", "cc", "gcc"]),
    ("gcc-peer", &["gcc", "--coverage"]),
    ("clang-plain", &[CLANG]),
    ("clang-lines", &[CLANG, "-gline-tables-only"]),
    ("clang-calls", &["rkcov", "cc", "--calls", CLANG]),
    ("clang-run", &["rkcov", "cc", CLANG]),
    (
        "clang-peer",
        &[CLANG, "-fprofile-instr-generate", "-fcoverage-mapping"],
    ),
];

/// Compiles of SQLite, and how large its code becomes: bytes in the place of nanoseconds.
///
/// # Errors
/// It does not compile.
pub(crate) fn compiles(bench: &Bench, rounds: usize) -> Result<Rows, Error> {
    let program = Program::Sqlite.in_c()?;
    let source = program.files.first().ok_or("no source")?;
    let measured = crate::programs::measured(bench)?;
    let folder = bench.out.join("compiles");
    std::fs::create_dir_all(&folder)?;
    let mut rows = Rows::of_this_machine();
    for round in 0..rounds {
        for (variant, cc) in COMPILES {
            let object = folder.join(format!("{variant}.o"));
            let compiler = bench.compiler(cc);
            let path = shell::read(Command::new("which").arg(compiler.get_program()))?;
            let mut command = Command::new(&measured);
            command.arg(folder.join("figures")).arg(path.trim());
            command.args(compiler.get_args()).args(["-O2", "-w", "-c"]);
            command
                .args(&program.flags)
                .arg(source)
                .arg("-o")
                .arg(&object);
            shell::run(command.current_dir(&folder))?;
            let figures = std::fs::read_to_string(folder.join("figures"))?;
            let spent = Spent::parse(&figures).ok_or("no figures")?;
            rows.push(round, "compile", variant, spent);
            if round == 0 {
                let sections = shell::read(Command::new("size").arg("-A").arg(&object))?;
                for (name, bytes) in sizes(&sections) {
                    rows.push(0, name, variant, Spent::count(bytes));
                }
            }
        }
    }
    Ok(rows)
}

/// What `size -A` says: bytes of code, of what is read to unwind, of everything that is loaded and
/// is neither written to nor debugging information.
fn sizes(sections: &str) -> [(&'static str, u64); 3] {
    let of = |wanted: &dyn Fn(&str) -> bool| {
        let lines = sections.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, bytes) = (words.next()?, words.next()?);
            wanted(name).then(|| bytes.parse::<u64>().ok())?
        });
        lines.sum()
    };
    let code = |name: &str| name.starts_with(".text");
    let unwind = |name: &str| name == ".eh_frame";
    [
        (".text", of(&code)),
        (".eh_frame", of(&unwind)),
        (
            "all",
            of(&|name| code(name) || unwind(name) || name.starts_with(".rodata")),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_sections() {
        let text = "a.o  :\nsection size addr\n.text 10 0\n.text.unlikely 5 0\n.data 7 0\n\
                    .rodata.str1.1 2 0\n.eh_frame 100 0\n.debug_line 1000 0\nTotal 1124\n";
        assert_eq!(
            sizes(text),
            [(".text", 15), (".eh_frame", 100), ("all", 117)]
        );
    }
}
