// SPDX-License-Identifier: MIT OR Apache-2.0
//! What it costs to know of each test what it ran: the tests of crates from crates.io by `cargo test`, by
//! `cargo rkcov test` with and without `--per-test`, and each in a process of its own.

use crate::build::Bench;
use crate::measure::{Candidate, Clock};
use crate::programs::measured;
use crate::rows::{Rows, Spent};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use xtask::shell::{self, Error};
use xtask::{root, sources, target_dir};

/// Crates, and words of `cargo test`.
const CRATES: [(&str, &str, &str); 3] = [
    ("regex-syntax", "0.8.5", "--lib"),
    ("serde_json", "1.0.145", "--lib --tests"),
    ("tokio-util", "0.7.17", "--lib --tests --all-features"),
];

/// How often the collector's memory is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// A way to run the tests of a crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Rkcov,
    PerTest,
    /// Each in a process of its own, with `-Cinstrument-coverage`, each of which leaves its profile. To
    /// make reports of these is not a part of it.
    Alone,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Plain, "plain"),
    (Way::Rkcov, "rkcov"),
    (Way::PerTest, "per-test"),
    (Way::Alone, "alone"),
];

/// Builds the tests in all ways.
///
/// # Errors
/// A crate cannot be had, or does not build.
pub(crate) fn candidates(
    bench: &Bench,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Candidate>, Error> {
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--package", "xtask"]);
    shell::run(build.current_dir(root()))?;
    let mut found = Vec::new();
    for (name, version, tests) in CRATES.iter().filter(|(name, ..)| wanted(name)) {
        let source = sources::crates_io(name, version)?;
        let folder = bench.out.join("per-test").join(name);
        if !folder.is_dir() {
            sources::copy(&source, &folder)?;
        }
        fs::create_dir_all(folder.join("target/profiles"))?;
        for (way, variant) in WAYS {
            let mut line = line(bench, &folder, way);
            line.extend(tests.split(' ').map(PathBuf::from));
            let mut build = Command::new(&line[0]);
            build.args(&line[1..]).arg("--no-run");
            let log = folder.join("target/build.log");
            shell::run_logged(&mut build, &log)?;
            found.push(Candidate {
                program: (*name).to_owned(),
                variant: variant.to_owned(),
                clock: Clock::System(measured(bench)?),
                layouts: vec![line],
                leaves: left(&folder, way),
                result: (way != Way::Alone).then_some(passed),
            });
        }
    }
    Ok(found)
}

/// Where a way leaves its files, and their extension.
fn left(folder: &Path, way: Way) -> Option<(PathBuf, &'static str)> {
    match way {
        Way::Plain => None,
        Way::Rkcov | Way::PerTest => Some((folder.join("target/rkcov/trace"), "rkcov")),
        Way::Alone => Some((folder.join("target/profiles"), "profraw")),
    }
}

/// The command, with none of the settings of the cargo that runs us.
fn line(bench: &Bench, folder: &Path, way: Way) -> Vec<PathBuf> {
    let mut line: Vec<OsString> = vec!["/usr/bin/env".into(), "-C".into(), folder.into()];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let kept = ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"].contains(&&*text);
        if (text.starts_with("CARGO") || text.starts_with("RUST")) && !kept {
            line.extend(["-u".into(), name]);
        }
    }
    let mut set = |name: &str, value: &Path| {
        let mut word = OsString::from(format!("{name}="));
        word.push(value);
        line.push(word);
    };
    if way == Way::Alone {
        set("RUSTFLAGS", Path::new("-Cinstrument-coverage"));
        set("CARGO_TARGET_DIR", Path::new("target/peer"));
        set(
            "LLVM_PROFILE_FILE",
            &folder.join("target/profiles/%p-%m.profraw"),
        );
        let arch = std::env::consts::ARCH.to_uppercase();
        let mut runner = target_dir().join("debug/xtask").into_os_string();
        runner.push(" per-test-alone");
        let name = format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER");
        set(&name, Path::new(&runner));
    }
    let rkcov = bench.command("cargo-rkcov").into_os_string();
    match way {
        Way::Plain | Way::Alone => line.extend(["cargo", "test"].map(Into::into)),
        Way::Rkcov | Way::PerTest => {
            line.extend([rkcov, "rkcov".into(), "test".into(), "--no-report".into()]);
        }
    }
    if way == Way::PerTest {
        line.push("--per-test".into());
    }
    line.into_iter().map(PathBuf::from).collect()
}

/// How many tests passed, of what libtest prints.
fn passed(printed: &str) -> String {
    let counts = printed
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "));
    let counts = counts.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    counts.sum::<u64>().to_string()
}

/// Adds how many tests there are, what is left of a run, and how much memory the collector took.
///
/// # Errors
/// Something does not run.
pub(crate) fn sizes(candidates: &[Candidate], rows: &mut Rows) -> Result<(), Error> {
    for candidate in candidates {
        let Candidate {
            program, variant, ..
        } = candidate;
        let line = &candidate.layouts[0];
        let run = || {
            let mut command = Command::new(&line[0]);
            command.args(&line[1..]);
            command
        };
        if variant == "plain" {
            let tests = passed(&shell::read(&mut run())?).parse()?;
            rows.push(0, program, "tests", Spent::count(tests));
        }
        if candidate.leaves.is_some() {
            candidate.clear()?;
            if variant == "per-test" {
                rows.push(0, program, "collector", of_kib(peak(&mut run())?));
            } else {
                shell::read(&mut run())?;
            }
            let mut bytes = 0;
            for path in candidate.left()? {
                bytes += fs::metadata(path)?.len();
            }
            let left = of_kib(bytes.div_ceil(1024));
            rows.push(0, program, &format!("{variant}-left"), left);
        }
    }
    Ok(())
}

fn of_kib(kib: u64) -> Spent {
    Spent {
        kib,
        ..Spent::default()
    }
}

/// The largest size in memory, in KiB, of the process that `command` becomes, as it was last seen.
fn peak(command: &mut Command) -> Result<u64, Error> {
    let line = shell::line(command);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = quiet.stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mut lines = text.lines();
        let size = lines.find_map(|line| line.strip_prefix("VmHWM:"));
        let size = size.and_then(|size| size.split_whitespace().next()?.parse().ok());
        peak = peak.max(size.unwrap_or(0));
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(LOOK);
    };
    if !ended.success() || peak == 0 {
        return Err(format!("{line}: {ended}, {peak} KiB").into());
    }
    Ok(peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_all_programs_are_counted() {
        let printed = "running 3 tests\ntest result: ok. 3 passed; 0 failed; finished in 0.00s\n\
                       test result: ok. 40 passed; 0 failed; finished in 9.00s\n\
                       test result: FAILED. 5 passed; 1 failed;\n";
        assert_eq!(passed(printed), "43");
    }

    #[test]
    fn the_peak_is_that_of_the_program() {
        // It takes memory, writes to it, and gives it back.
        let script = "x = bytearray(64 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\ndel x\n\
                      import time; time.sleep(0.2)";
        let peak = |script: &str| peak(Command::new("python3").args(["-c", script]));
        assert!(peak(script).unwrap() >= 64 << 10);
        assert!(peak("exit(1)").is_err());
    }
}
