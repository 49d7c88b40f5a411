// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deliberate bugs, put into a copy of the sources one at a time, and what catches them.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::result::{self, Verdict};

/// All mutants.
#[derive(Debug, Deserialize)]
pub struct Mutants {
    mutant: Vec<Mutant>,
}

/// One bug.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Its name.
    pub name: String,
    /// What goes wrong.
    pub what: String,
    /// Where, from the root of the sources.
    file: String,
    /// What stands there, once.
    find: String,
    /// What the bug makes of it.
    replace: String,
    /// What has to catch it.
    #[serde(default)]
    judge: Judge,
    /// The cases or tests that are played, all if nothing is said: a part of their names. Or what the
    /// build that fails has to say.
    #[serde(default)]
    only: String,
}

/// What a mutant is put before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Judge {
    /// The suite on the rules in one process, and random histories.
    #[default]
    Rules,
    /// The models of concurrency: only other tasks can tell.
    Models,
    /// The runtime's own tests, among them the one that lets each of its allocations fail.
    Runtime,
    /// The suite on the kcov of a process.
    Process,
    /// Programs that use the kcov of a process.
    Device,
    /// The suite on the kcov of a kernel, in a guest: User Mode Linux.
    Kernel,
    /// The checks in the build of such a kernel.
    KernelBuild,
}

impl Judge {
    /// What cargo is told to test. The rest is for a program to judge.
    const fn tests(self) -> &'static [&'static str] {
        match self {
            Self::Rules | Self::Process | Self::Kernel | Self::KernelBuild => &[],
            // As `.ci/loom` does.
            Self::Models => &["--release", "--package=rkcov-core", "--test=loom"],
            Self::Runtime => &["--package=rkcov-runtime", "--lib"],
            Self::Device => &["--package=rkcov-artifacts", "--test=device"],
        }
    }
}

/// What became of a mutant.
#[derive(Debug, Default)]
pub struct Caught {
    /// Cases that failed.
    pub cases: Vec<String>,
    /// Whether the histories found it.
    pub histories: bool,
    /// Models of concurrency, or tests of the runtime and of programs, that failed.
    pub tests: Vec<String>,
    /// Whether what judged did not even come to its end, or the guest's kernel complained.
    pub crashed: bool,
    /// Whether a check in the build found it.
    pub refused: bool,
}

impl Caught {
    /// Whether anything noticed.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        self.crashed
            || self.refused
            || self.histories
            || !self.cases.is_empty()
            || !self.tests.is_empty()
    }

    /// Adds the cases that failed by these lines.
    fn add_failed(&mut self, results: &str) {
        for (_, results) in result::parse(results) {
            let failed = |(case, verdict): (String, Verdict)| {
                matches!(verdict, Verdict::Fail(_)).then_some(case)
            };
            self.cases.extend(results.into_iter().filter_map(failed));
        }
        self.cases.sort();
        self.cases.dedup();
    }
}

/// What a copy is made without.
const NOT_COPIED: [&str; 2] = [".git", "target"];

/// The time that the suite may take on a mutant, which may loop for ever.
const PATIENCE: Duration = Duration::from_secs(600);

/// The same for a part of the suite in a guest.
const GUEST_PATIENCE: Duration = Duration::from_secs(300);

/// The guest that is built most quickly.
const GUEST: [&str; 2] = ["--arch=uml", "--kcov=rust"];

impl Mutants {
    /// Those of `mutants.toml`.
    ///
    /// # Errors
    /// If it is not what it should be.
    pub fn read() -> Result<Self, String> {
        toml::from_str(include_str!("../mutants.toml")).map_err(|e| e.to_string())
    }

    /// Those of these names, or all if there are none.
    ///
    /// # Errors
    /// A name that no mutant has.
    pub fn named(&self, names: &[String]) -> Result<Vec<&Mutant>, String> {
        let named = |name: &String| {
            let found = self.mutant.iter().find(|m| m.name == *name);
            found.ok_or_else(|| format!("no bug is called {name}"))
        };
        if names.is_empty() {
            return Ok(self.mutant.iter().collect());
        }
        names.iter().map(named).collect()
    }
}

impl Mutant {
    /// The file's text with the bug in it.
    ///
    /// # Errors
    /// If the place is not there, or not once.
    pub fn apply(&self, root: &Path) -> Result<String, String> {
        let path = root.join(&self.file);
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        match text.matches(&self.find).count() {
            1 => Ok(text.replace(&self.find, &self.replace)),
            n => Err(format!("{}: stands {n} times in {}", self.name, self.file)),
        }
    }
}

/// A copy of the sources, in which bugs do no harm.
pub struct Copy {
    folder: tempfile::TempDir,
    target: PathBuf,
}

impl Copy {
    /// Copies the sources. What is built there is kept for the next time, in the sources' own
    /// `target`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new() -> Result<Self, String> {
        let say = |e: std::io::Error| e.to_string();
        let folder = tempfile::tempdir().map_err(say)?;
        copy(&root(), folder.path(), &NOT_COPIED).map_err(say)?;
        // The pages are made of the results that are kept, which a mutant does not renew.
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), Into::into);
        let target = target.join("mutants");
        Ok(Self { folder, target })
    }

    /// Tests the sources with this bug.
    ///
    /// # Errors
    /// If they cannot be built.
    pub fn test(&self, mutant: &Mutant) -> Result<Caught, String> {
        let say = |e: std::io::Error| e.to_string();
        let mutated = mutant.apply(&root())?;
        let place = self.folder.path().join(&mutant.file);
        fs::write(&place, mutated).map_err(say)?;
        let caught = self.judge(mutant);
        // Written, not copied with its time, so that cargo sees the change.
        let text = fs::read_to_string(root().join(&mutant.file)).map_err(say)?;
        fs::write(place, text).map_err(say)?;
        caught
    }

    /// Puts the sources as they are before whatever these bugs will be put before.
    ///
    /// # Errors
    /// If they cannot be built, or do not pass: then nothing could be said of a bug.
    pub fn test_without(&self, mutants: &[&Mutant]) -> Result<(), String> {
        let mut known = HashSet::new();
        for mutant in mutants {
            if known.insert((mutant.judge, &mutant.only)) {
                let caught = self.judge(mutant)?;
                if caught.is_caught() {
                    return Err(format!("without any bug there is {caught:?}"));
                }
            }
        }
        Ok(())
    }

    fn judge(&self, mutant: &Mutant) -> Result<Caught, String> {
        match mutant.judge {
            Judge::Rules => self.run_rules(),
            Judge::Process => self.run_process(&mutant.only),
            Judge::Kernel => self.run_guest(&mutant.only),
            Judge::KernelBuild => self.check_kernel(&mutant.only),
            judge => self.run_tests(judge, &mutant.only),
        }
    }

    fn run_rules(&self) -> Result<Caught, String> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--package", "rkcov-conformance"]);
        cargo.env("CARGO_TARGET_DIR", &self.target);
        made(cargo.current_dir(self.folder.path()))?;
        let program = || self.program(&self.target.join("debug/rkcov-conformance"));
        let mut suite = program();
        suite.args(["run", "--host", "core-userspace", "--host", "core-kernel"]);
        let mut caught = self.run_suite(suite, "")?;
        let mut histories = program();
        histories.args(["histories", "--count", "500"]);
        caught.histories = !run(&mut histories)?;
        Ok(caught)
    }

    /// The suite as it is, on an agent with the runtime in it.
    fn run_process(&self, only: &str) -> Result<Caught, String> {
        let runtime = self.build_runtime()?;
        let agent = self.folder.path().join("process");
        let mut compiler = Command::new("gcc");
        compiler.args(["-g", "-O1", "-pthread", "-DGUARDS"]);
        compiler
            .args(["-I../../crates/artifacts/include", "-o"])
            .arg(&agent);
        compiler.args(["agent.c", "device-process.c", "subject.c", "subject.S"]);
        compiler.args(["rkcov.o", "rkcov-module.o"].map(|name| runtime.join(name)));
        made(compiler.current_dir(self.folder.path().join("conformance/agent")))?;
        let this = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut suite = self.program(&this);
        suite.arg("run").arg("--agent").arg(agent);
        self.run_suite(suite, only)
    }

    /// Builds the runtime as it is linked into programs; answers the folder of its objects.
    fn build_runtime(&self) -> Result<PathBuf, String> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--package=rkcov-artifacts"]);
        cargo.arg("--message-format=json");
        cargo.env("CARGO_TARGET_DIR", &self.target);
        let said = made(cargo.current_dir(self.folder.path()))?;
        let folder = said.lines().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let package = message["package_id"].as_str()?;
            let folder = message["out_dir"].as_str()?;
            package.contains("artifacts").then(|| folder.into())
        });
        folder.ok_or_else(|| "cargo does not say where the runtime is".into())
    }

    /// The suite as it is, in a guest whose kernel has this kcov.
    fn run_guest(&self, only: &str) -> Result<Caught, String> {
        made(self.linux()?.arg("build").args(GUEST))?;
        let said = self.folder.path().join("guest.txt");
        let file = fs::File::create(&said).map_err(|e| e.to_string())?;
        let this = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut guest = self.linux()?;
        guest.arg("run").args(GUEST);
        // What the suite provokes is no complaint.
        guest.args(["--no-coverage", "--strict", "--allow=kernel/rkcov/shim.c"]);
        guest.arg(format!("--timeout={}", GUEST_PATIENCE.as_secs()));
        guest.arg("--").arg(this);
        guest.args(["run", "--host=device", "--json=-", "--", "--quiet", only]);
        let passed = run(guest.stdout(file).stderr(Stdio::null()))?;
        let said = fs::read(&said).map_err(|e| e.to_string())?;
        let mut caught = Caught::default();
        caught.add_failed(&String::from_utf8_lossy(&said));
        caught.crashed = !passed && caught.cases.is_empty();
        Ok(caught)
    }

    /// Whether the kernel cannot be built, for this reason.
    fn check_kernel(&self, reason: &str) -> Result<Caught, String> {
        let refused = match made(self.linux()?.arg("build").args(GUEST)) {
            Ok(_) => false,
            Err(error) => {
                let log = self.kernels().join("linux/logs/build-uml-rust.log");
                let said = fs::read(&log).map_err(|e| format!("{}: {e}", log.display()))?;
                if !String::from_utf8_lossy(&said).contains(reason) {
                    return Err(error);
                }
                true
            }
        };
        Ok(Caught {
            refused,
            ..Caught::default()
        })
    }

    /// The command that has these sources in it. Kernels with bugs are kept apart from all others; the
    /// first of them takes a quarter of an hour.
    fn linux(&self) -> Result<Command, String> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--package=rkcov-cli"]);
        cargo.env("CARGO_TARGET_DIR", &self.target);
        made(cargo.current_dir(self.folder.path()))?;
        let linux = || {
            let mut rkcov = Command::new(self.target.join("debug/rkcov"));
            rkcov.env("RKCOV_CACHE_DIR", self.kernels()).arg("linux");
            rkcov
        };
        made(linux().arg("setup"))?;
        Ok(linux())
    }

    fn kernels(&self) -> PathBuf {
        self.target.join("kernels")
    }

    /// Plays the suite, or the cases with this in their names.
    fn run_suite(&self, mut suite: Command, only: &str) -> Result<Caught, String> {
        let results = self.folder.path().join("results.jsonl");
        let _ = fs::remove_file(&results);
        suite
            .arg("--json")
            .arg(&results)
            .args(["--", "--quiet", only]);
        run(&mut suite)?;
        let mut caught = Caught::default();
        match fs::read_to_string(&results) {
            Ok(text) => caught.add_failed(&text),
            Err(_) => caught.crashed = true,
        }
        Ok(caught)
    }

    fn run_tests(&self, judge: Judge, only: &str) -> Result<Caught, String> {
        let tests = |more: &[&str]| {
            let mut cargo = Command::new("cargo");
            cargo.args(["test", "--quiet"]).args(judge.tests());
            cargo.args(more);
            let target = match judge {
                Judge::Models => {
                    cargo.env("RUSTFLAGS", "--cfg loom");
                    self.target.join("loom")
                }
                _ => self.target.clone(),
            };
            cargo.env("CARGO_TARGET_DIR", target);
            cargo.env("RUST_BACKTRACE", "0");
            cargo.current_dir(self.folder.path());
            cargo
        };
        made(&mut tests(&["--no-run"]))?;
        let said = self.folder.path().join("tests.txt");
        let file = fs::File::create(&said).map_err(|e| e.to_string())?;
        // One after the other, so that one that crashes is known by the line that it did not end.
        let how = ["--", "--test-threads=1", "--format=pretty"];
        let mut all = tests(&[&how[..], &[only]].concat());
        let passed = run(all.stdout(file).stderr(Stdio::null()))?;
        let said = fs::read_to_string(&said).map_err(|e| e.to_string())?;
        let tests: Vec<String> = said
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
            .filter(|(_, verdict)| !verdict.starts_with("ok") && !verdict.starts_with("ignored"))
            .map(|(name, _)| name.to_owned())
            .collect();
        Ok(Caught {
            crashed: !passed && tests.is_empty(),
            tests,
            ..Caught::default()
        })
    }

    fn program(&self, path: &Path) -> Command {
        let mut program = Command::new(path);
        program.stdout(Stdio::null()).stderr(Stdio::null());
        program.env("RUST_BACKTRACE", "0");
        program
    }
}

/// Runs what has to build something; answers what it said.
fn made(command: &mut Command) -> Result<String, String> {
    let output = command.output();
    let output = output.map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("cannot be built: {errors}"))
}

/// Whether it ended well, and in time.
fn run(command: &mut Command) -> Result<bool, String> {
    let start = Instant::now();
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            return Ok(status.success());
        }
        if start.elapsed() > PATIENCE {
            child.kill().map_err(|e| e.to_string())?;
            child.wait().map_err(|e| e.to_string())?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The root of the sources.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn copy(from: &Path, to: &Path, without: &[&str]) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if without.iter().any(|w| name == *w) {
            continue;
        }
        let (from, to) = (entry.path(), to.join(name));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&from, &to, &[])?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
        } else {
            fs::copy(from, to)?;
        }
    }
    Ok(())
}

/// The page of mutants: what was tested now, and of all others the rows that `kept` has.
#[must_use]
pub fn page(mutants: &Mutants, tested: &[(&Mutant, Caught)], kept: &str) -> String {
    let mut text = String::from(PREFACE);
    for mutant in &mutants.mutant {
        let now = tested.iter().find(|(m, _)| m.name == mutant.name);
        let start = format!("| {} |", mutant.name);
        if let Some((_, caught)) = now {
            text.push_str(&row(mutant, caught));
        } else if let Some(row) = kept.lines().find(|line| line.starts_with(&start)) {
            text.push_str(row);
            text.push('\n');
        }
    }
    text
}

fn row(mutant: &Mutant, caught: &Caught) -> String {
    let names = caught.cases.iter().chain(&caught.tests);
    let few: Vec<String> = names.clone().take(3).map(|n| format!("`{n}`")).collect();
    let more = names.count() - few.len();
    let mut by = few.join(", ");
    if more > 0 {
        let _ = write!(by, " and {more} more");
    }
    if caught.crashed {
        by.push_str("it crashes");
    }
    if caught.refused {
        by.push_str("the build fails");
    }
    if by.is_empty() {
        by.push_str("none");
    }
    let histories = match (mutant.judge, caught.histories) {
        (Judge::Rules, true) => "yes",
        (Judge::Rules, false) => "no",
        _ => "",
    };
    let Mutant {
        name, what, file, ..
    } = mutant;
    let file = file.strip_prefix("crates/core/src/rules/").unwrap_or(file);
    format!("| {name} | {what} | `{file}` | {by} | {histories} |\n")
}

const PREFACE: &str = "\
# Deliberate bugs, and the tests that detect them

This command puts one-line bugs into a copy of the sources, one at a time, and reports which tests detect each:

```text
cargo run -p rkcov-conformance -- mutants --write
```

`... -- mutants NAME --write` tests one bug and updates only its row. To add a bug, put it into `conformance/mutants.toml` and run
that: the page has the bugs in the order of the file.

The command builds the suite with the bug and runs it on the rules in one process, as in userspace and as in a kernel. It also runs 500
random histories of each kind on the rules and on the model. A bug that only another task can notice is tested with the models of
concurrency instead (`.ci/loom`). A bug in the userspace host is tested with the suite on a process's kcov, with client programs, or
with the runtime's own tests. A bug in the kernel host (`crates/linux/kernel`) is tested with the suite in User Mode Linux, or by the
checks of its build; the first such kernel takes a quarter of an hour, each further one a minute or two. The command fails if no test detects a bug.

| bug | effect | in | cases, models or tests that detect it | histories |
| --- | --- | --- | --- | --- |
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_still_has_its_place() {
        let mutants = Mutants::read().unwrap();
        assert!(mutants.mutant.len() >= 10);
        for mutant in &mutants.mutant {
            let mutated = mutant.apply(&root()).unwrap();
            assert!(!mutated.contains(&mutant.find) || mutant.replace.contains(&mutant.find));
        }
    }

    #[test]
    fn the_number_of_mutants_is_on_the_page_of_results() {
        let mutants = Mutants::read().unwrap().mutant;
        let of = |judges: &[Judge]| mutants.iter().filter(|m| judges.contains(&m.judge)).count();
        let userspace = of(&[Judge::Runtime, Judge::Process, Judge::Device]);
        let kernel = of(&[Judge::Kernel, Judge::KernelBuild]);
        let figures = format!(
            "{0} of {0}, of these {userspace} in the userspace host and {kernel} in the kernel's",
            mutants.len()
        );
        let page = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
        assert!(page.contains(&figures), "docs/reliability.md: {figures}");
    }

    #[test]
    fn every_mutant_is_on_the_page_as_caught() {
        let page = root().join("docs/conformance-mutants.md");
        let page = fs::read_to_string(page).unwrap();
        let rows: Vec<&str> = page
            .lines()
            .filter(|l| l.starts_with("| "))
            .skip(2)
            .collect();
        let mutants = Mutants::read().unwrap();
        assert!(page.starts_with(PREFACE), "the head is another");
        let names: Vec<&str> = mutants.mutant.iter().map(|m| m.name.as_str()).collect();
        let listed: Vec<&str> = rows
            .iter()
            .filter_map(|row| row.split(" | ").next()?.strip_prefix("| "))
            .collect();
        assert_eq!(names, listed);
        assert!(rows
            .iter()
            .all(|row| !row.contains("| none |") || row.ends_with("| yes |")));
    }
}
