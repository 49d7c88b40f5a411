// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a project, runs `cargo rkcov` in it, and compares what is reported with what the sources
//! themselves say of their lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The command under test.
pub(crate) const CARGO_RKCOV: &str = env!("CARGO_BIN_EXE_cargo-rkcov");

/// A line that has to have run ends in this, one that must not in [`IDLE`]. Any other line with code
/// may have: what braces and signatures count as is no concern of these tests.
const RAN: &str = "// ran";
const IDLE: &str = "// idle";

/// A cargo project in a folder of its own.
pub(crate) struct Project {
    folder: TempDir,
}

impl Project {
    /// A project of these files. Without a `[workspace]` in a manifest cargo would look for one in
    /// the folders around.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = Self { folder };
        for (name, text) in files {
            project.write(name, text);
        }
        project
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    /// `cargo rkcov` with the words of `line`, in this project, with none of the settings of the
    /// cargo that runs us.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = self.plain(CARGO_RKCOV);
        command.arg("rkcov").args(line.split_whitespace());
        command
    }

    /// A shell that runs `line` in the same way; `cargo rkcov` is a command there.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let mut shell = self.plain("sh");
        let mut path = vec![Path::new(CARGO_RKCOV).parent().unwrap().to_owned()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        shell.env("PATH", std::env::join_paths(path).unwrap());
        shell.args(["-c", line]);
        shell
    }

    fn plain(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let kept = ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
            let foreign = ["CARGO", "RUST", "RKCOV_", "NEXTEST", "CC", "CXX", "CFLAGS"];
            if foreign.iter().any(|prefix| name.starts_with(prefix)) && !kept.contains(&&*name) {
                command.env_remove(name);
            }
        }
        command.current_dir(self.path("")).stdin(Stdio::null());
        command
    }

    /// Runs git, as somebody.
    #[track_caller]
    pub(crate) fn git(&self, words: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
        let done = git.args(words).current_dir(self.path("")).output().unwrap();
        assert!(done.status.success(), "git {words:?}: {done:?}");
    }

    /// Runs the command of `line`, which ends as it ends.
    pub(crate) fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs the command of `line` and gives its standard output.
    #[track_caller]
    pub(crate) fn succeed(&self, line: &str) -> String {
        let output = self.run(line);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{line}: {}\n{stdout}\n{stderr}",
            output.status
        );
        stdout
    }

    /// Runs the command of `line` (to which an lcov report is asked for) and gives what ran.
    #[track_caller]
    pub(crate) fn coverage(&self, line: &str) -> Coverage {
        let (subcommand, rest) = line.split_once(' ').unwrap_or((line, ""));
        let path = self.path("lcov.info");
        self.succeed(&format!(
            "{subcommand} --lcov --output-path {} {rest}",
            path.display()
        ));
        self.read_lcov(&path)
    }

    pub(crate) fn read_lcov(&self, path: &Path) -> Coverage {
        Coverage::read(&fs::read_to_string(path).unwrap(), &self.path(""))
    }

    /// Asserts that of the sources with marks exactly those lines ran that are marked.
    #[track_caller]
    pub(crate) fn assert_marks(&self, coverage: &Coverage, file: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        let marked = |mark: &str| -> BTreeSet<u32> {
            let lines = (1..).zip(text.lines());
            lines
                .filter(|(_, line)| line.ends_with(mark))
                .map(|(n, _)| n)
                .collect()
        };
        let found = coverage.ran(file);
        let missing: Vec<_> = marked(RAN).difference(&found).copied().collect();
        let wrong: Vec<_> = marked(IDLE).intersection(&found).copied().collect();
        assert!(
            !marked(RAN).is_empty() && missing.is_empty() && wrong.is_empty(),
            "{file}: these lines are missing: {missing:?}; these did not run: {wrong:?}\n{coverage:?}"
        );
    }
}

/// How often lines and functions ran, by file.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    lines: BTreeMap<String, BTreeMap<u32, u64>>,
    functions: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Coverage {
    /// Reads an lcov tracefile; the paths become those from `root` on.
    fn read(tracefile: &str, root: &Path) -> Self {
        let mut coverage = Self::default();
        let mut file = String::new();
        for record in tracefile.lines() {
            let (kind, value) = record.split_once(':').unwrap_or((record, ""));
            match kind {
                "SF" => {
                    let path = Path::new(value);
                    let path = path.strip_prefix(root).unwrap_or(path);
                    file = path.to_str().unwrap().to_owned();
                }
                "DA" => {
                    let (line, count) = value.split_once(',').unwrap();
                    let lines = coverage.lines.entry(file.clone()).or_default();
                    lines.insert(line.parse().unwrap(), count.parse().unwrap());
                }
                "FNDA" => {
                    let (count, name) = value.split_once(',').unwrap();
                    let functions = coverage.functions.entry(file.clone()).or_default();
                    *functions.entry(name.to_owned()).or_default() += count.parse::<u64>().unwrap();
                }
                _ => {}
            }
        }
        coverage
    }

    /// The files in which something ran.
    pub(crate) fn files(&self) -> Vec<&str> {
        let ran = |lines: &BTreeMap<u32, u64>| lines.values().any(|count| *count > 0);
        self.lines
            .iter()
            .filter(|(_, lines)| ran(lines))
            .map(|(file, _)| &**file)
            .collect()
    }

    /// How often each line of a file ran that has code.
    pub(crate) fn lines(&self, file: &str) -> &BTreeMap<u32, u64> {
        &self.lines[file]
    }

    /// The lines of a file that ran.
    pub(crate) fn ran(&self, file: &str) -> BTreeSet<u32> {
        let lines = self.lines.get(file).into_iter().flatten();
        lines
            .filter(|(_, count)| **count > 0)
            .map(|(line, _)| *line)
            .collect()
    }

    /// Whether a function of a file ran whose name has `name` in it; `None` if there is none.
    pub(crate) fn function(&self, file: &str, name: &str) -> Option<bool> {
        let functions = self.functions.get(file)?;
        let mut found = functions
            .iter()
            .filter(|(full, _)| full.contains(name))
            .peekable();
        found.peek()?;
        Some(found.any(|(_, count)| *count > 0))
    }
}
