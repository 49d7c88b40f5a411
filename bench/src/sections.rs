// SPDX-License-Identifier: MIT OR Apache-2.0
//! What sections cost, beside the algorithm of the kcov in C.

use crate::build::Bench;
use crate::measure::{Candidate, Clock};
use std::path::PathBuf;
use std::process::Command;
use xtask::shell::{self, Error};

/// Registered handles, of which one thread uses one.
pub(crate) const HANDLES: [u32; 6] = [1, 16, 256, 4_096, 16_384, 65_536];

/// Threads, with 1,024 handles.
pub(crate) const THREADS: [u32; 5] = [1, 2, 8, 64, 1_000];

/// Handles that are registered while 256 others are enabled.
pub(crate) const REGISTERED: [u32; 2] = [0, 65_536];

/// The implementations: their names, and files.
const IMPLEMENTATIONS: [(&str, &str); 2] = [("rkcov", "sections_rkcov.c"), ("c", "sections_c.c")];

/// Builds both, and says how they are run.
///
/// # Errors
/// They do not build.
pub(crate) fn candidates(
    bench: &Bench,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Candidate>, Error> {
    let mut runs = Vec::new();
    for handles in HANDLES {
        runs.push((format!("handles-{handles}"), format!("pairs {handles} 1")));
    }
    for threads in THREADS {
        runs.push((
            format!("threads-{threads}"),
            format!("pairs 1024 {threads}"),
        ));
    }
    for handles in REGISTERED {
        runs.push((format!("enable-{handles}"), format!("enable {handles}")));
    }
    let mut programs = Vec::new();
    for (name, file) in IMPLEMENTATIONS {
        let folder = bench.out.join("sections").join(name);
        std::fs::create_dir_all(&folder)?;
        let program = folder.join("sections");
        let mut objects = Vec::new();
        for file in ["sections.c", file] {
            objects.push(bench.compile(
                &Bench::here("c").join(file),
                &["gcc"],
                &folder,
                &[""; 0],
            )?);
        }
        if name == "rkcov" {
            objects.push(bench.artifacts.join(rkcov_artifacts::OBJECT.name));
        }
        let mut link = Command::new("gcc");
        link.args(objects).args(["-pthread", "-ldl", "-lm", "-o"]);
        shell::run(link.arg(&program))?;
        programs.push((name, program));
    }
    let mut found = Vec::new();
    for (name, arguments) in runs.into_iter().filter(|(name, _)| wanted(name)) {
        for (variant, program) in &programs {
            let arguments = arguments.split(' ').map(PathBuf::from);
            found.push(Candidate {
                program: name.clone(),
                variant: (*variant).to_owned(),
                clock: Clock::Program,
                layouts: vec![[program.clone()].into_iter().chain(arguments).collect()],
                leaves: None,
                result: None,
            });
        }
    }
    Ok(found)
}
