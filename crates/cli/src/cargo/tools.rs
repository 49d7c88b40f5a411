// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cargo runs in the place of rustc, rustdoc and the C compilers: links to this program, in a
//! folder of the build, beside a file that says what they are to do.
//!
//! The folder has a name for all that changes what they make. Cargo compiles a workspace's packages
//! anew when the wrapper has another path, so nothing stale is ever linked.

use super::project::{Chosen, Package, Tools};
use super::rustc::{additions, doctest_additions, without_runtool, Request, Wish};
use super::{kept, linking, Error};
use crate::wrap::Runtime;
use crate::{cache, cmd, error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs, io};

/// What we stand in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Before rustc.
    Rustc,
    /// In rustdoc's place.
    Rustdoc,
    /// Before a test of the documentation.
    Runtool,
    /// In the C compiler's place.
    Cc,
    /// In the C++ compiler's place.
    Cxx,
    /// In the linker's place.
    Linker,
}

impl Tool {
    const ALL: [Self; 5] = [
        Self::Rustc,
        Self::Rustdoc,
        Self::Runtool,
        Self::Cc,
        Self::Cxx,
    ];

    /// The name of the link.
    const fn name(self) -> &'static str {
        match self {
            Self::Rustc => "rkcov-rustc",
            Self::Rustdoc => "rkcov-rustdoc",
            Self::Runtool => "rkcov-runtool",
            Self::Cc => "rkcov-cc",
            Self::Cxx => "rkcov-c++",
            // Its links have the names of linkers.
            Self::Linker => "rkcov-linker",
        }
    }

    /// The tool that a program of this name is.
    #[must_use]
    pub fn of(program: &Path) -> Option<Self> {
        if linking::is_link(program) {
            return Some(Self::Linker);
        }
        let name = program.file_name()?;
        Self::ALL.into_iter().find(|tool| name == tool.name())
    }

    /// Does what the tool does. `program` is the link that was run.
    ///
    /// # Errors
    /// The program that we stand in for cannot be run, or there is no plan beside the link.
    pub fn become_it(self, program: &Path, args: &[OsString]) -> Result<Infallible, error::Error> {
        let folder = program.parent().unwrap_or(Path::new("."));
        let folder = match self {
            Self::Linker => folder.parent().unwrap_or(Path::new(".")),
            _ => folder,
        };
        let plan = Plan::read(folder)?;
        let compile = |language, variable, default: &str| {
            if plan.is_of_our_build_script() {
                return cmd::cc::stand_in(args, language);
            }
            // A launcher may stand before the compiler.
            let named = env::var(variable).unwrap_or_default();
            let mut words = named.split_whitespace();
            let mut command = Command::new(words.next().unwrap_or(default));
            command.args(words).args(args);
            Ok(become_program(command)?)
        };
        Ok(match self {
            Self::Cc => compile(cmd::cc::Language::C, WRAPPED_CC, "cc")?,
            Self::Cxx => compile(cmd::cc::Language::Cxx, WRAPPED_CXX, "c++")?,
            Self::Rustc => plan.rustc(folder, args)?,
            Self::Rustdoc => plan.rustdoc(folder, args)?,
            Self::Runtool => kept::run(&plan.kept, args)?,
            Self::Linker => linking::run(program, &plan, args)?,
        })
    }
}

/// What the tools are to do.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// The packages to instrument, with their versions; all that the wrapper sees if `None`.
    packages: Option<Vec<String>>,
    /// Packages that are not of the workspace are instrumented, or C code is, or the user's own tool
    /// stands before every rustc: so do we.
    everywhere: bool,
    /// Where archives are kept in which guards' calls are stores; `None` if they stay calls.
    stores: Option<PathBuf>,
    comparisons: bool,
    dead_code: bool,
    with_c: bool,
    /// The runtime's files.
    runtime: PathBuf,
    /// What the user has set to stand before rustc, and in rustdoc's place.
    rustc_wrapper: Option<PathBuf>,
    rustdoc: Option<PathBuf>,
    /// Where tests of documentation are kept.
    kept: PathBuf,
    /// Cargo's target folder. What goes elsewhere is no build of ours: a test may run a cargo, which
    /// finds us in its environment if the user has a wrapper there.
    target: PathBuf,
}

/// What makes a cargo use the tools. Its configuration is its own; variables are for all that it
/// runs, too, so only what cargo would look for there first is a variable.
#[derive(Debug, Default)]
pub struct Settings {
    /// Values of `--config`.
    pub config: Vec<String>,
    /// Variables.
    pub variables: Vec<(&'static str, OsString)>,
}

impl Settings {
    /// Sets a tool. With `by_variable`, something stronger than our `--config` may set it.
    fn tool(&mut self, key: &str, variable: &'static str, path: PathBuf, by_variable: bool) {
        match path.to_str() {
            Some(text) if !by_variable && env::var_os(variable).is_none() => {
                self.config.push(format!("{key}={}", quoted(text)));
            }
            _ => self.variables.push((variable, path.into_os_string())),
        }
    }
}

/// The target folder of the `cargo rkcov env` whose variables are set.
#[must_use]
pub fn target_of_environment() -> Option<PathBuf> {
    let tools = ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"].map(env::var_os);
    let mut tools = tools.iter().flatten().map(Path::new);
    let ours = tools.find(|tool| Tool::of(tool).is_some())?;
    // Below it: `tools`, and a folder for each plan.
    ours.ancestors().nth(3).map(Path::to_owned)
}

/// A string as TOML has it.
#[must_use]
pub fn quoted(text: &str) -> String {
    // What JSON escapes, TOML escapes so, too.
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

/// What names the compilers that [`Tool::Cc`] and [`Tool::Cxx`] stand before.
const WRAPPED_CC: &str = "RKCOV_CC";
const WRAPPED_CXX: &str = "RKCOV_CXX";

/// What the user wants, beside the packages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// Comparisons are reported too.
    pub comparisons: bool,
    /// Functions that nothing calls are compiled, too.
    pub dead_code: bool,
    /// C and C++ code that build scripts compile is instrumented.
    pub with_c: bool,
    /// Guards' calls become stores, which cost less and say no more than that an edge ran.
    pub stores: bool,
}

const PLAN: &str = "plan.json";

/// A variable that is set if the names of tests in documentation are wanted. It is not a part of the plan, for
/// cargo builds anew with another plan.
pub const NAMED_EXAMPLES: &str = "RKCOV_NAMED_EXAMPLES";

impl Plan {
    /// A plan for a build in the folder `target`, in which the user's own tools still run.
    ///
    /// # Errors
    /// The runtime cannot be unpacked.
    pub fn new(
        chosen: &Chosen,
        wishes: Wishes,
        users: Tools,
        target: &Path,
    ) -> Result<Self, error::Error> {
        // A compiler cache has to see what we add, so it has to come after us.
        let everywhere = chosen.has_dependencies || wishes.with_c || users.rustc_wrapper.is_some();
        let whole = chosen.is_workspace && !everywhere;
        Ok(Self {
            packages: (!whole).then(|| chosen.packages.iter().map(Package::spec).collect()),
            everywhere,
            stores: wishes.stores.then(|| target.join("stores")),
            comparisons: wishes.comparisons,
            dead_code: wishes.dead_code,
            with_c: wishes.with_c,
            runtime: cache::runtime().map_err(error::Error::Unpack)?,
            rustc_wrapper: if everywhere {
                users.rustc_wrapper
            } else {
                users.rustc_workspace_wrapper
            },
            rustdoc: users.rustdoc,
            kept: target.join("doctests"),
            target: target.to_owned(),
        })
    }

    /// Puts the tools into the target folder, and gives what makes cargo use them. With
    /// `by_variables`, the user gives cargo a `--config`, which may be stronger than ours.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn install(&self, by_variables: bool) -> Result<Settings, Error> {
        let mut hasher = DefaultHasher::new();
        (self, env!("CARGO_PKG_VERSION")).hash(&mut hasher);
        let folder = self
            .target
            .join("tools")
            .join(format!("{:016x}", hasher.finish()));
        let failed = |source| Error::File {
            path: folder.clone(),
            source,
        };
        let ourselves = env::current_exe().map_err(failed)?;
        cache::write(&folder.join(PLAN), &serde_json::to_vec_pretty(self)?).map_err(failed)?;
        for tool in Tool::ALL {
            link(&ourselves, &folder.join(tool.name())).map_err(failed)?;
        }
        let path = |tool: Tool| folder.join(tool.name());
        let mut settings = Settings::default();
        let (key, variable) = if self.everywhere {
            ("build.rustc-wrapper", "RUSTC_WRAPPER")
        } else {
            ("build.rustc-workspace-wrapper", "RUSTC_WORKSPACE_WRAPPER")
        };
        settings.tool(key, variable, path(Tool::Rustc), by_variables);
        settings.tool(
            "build.rustdoc",
            "RUSTDOC",
            path(Tool::Rustdoc),
            by_variables,
        );
        if self.with_c {
            for (name, tool, wrapped) in [
                ("CC", Tool::Cc, WRAPPED_CC),
                ("CXX", Tool::Cxx, WRAPPED_CXX),
            ] {
                if let (Some(compiler), None) = (env::var_os(name), env::var_os(wrapped)) {
                    settings.variables.push((wrapped, compiler));
                }
                settings.variables.push((name, path(tool).into_os_string()));
            }
        }
        Ok(settings)
    }

    /// Whether rustc or rustdoc is called with these arguments by the cargo that we run.
    fn is_ours(&self, args: &[OsString]) -> bool {
        let folder = self.target.as_os_str().as_bytes();
        args.iter().any(|arg| {
            let arg = arg.as_bytes();
            arg.windows(folder.len()).any(|part| part == folder)
        })
    }

    /// Whether we were called by a build script that the cargo that we run has run.
    fn is_of_our_build_script(&self) -> bool {
        // Only build scripts are told of the number of jobs.
        env::var_os("NUM_JOBS").is_some()
            && env::var_os("OUT_DIR").is_some_and(|out| Path::new(&out).starts_with(&self.target))
    }

    /// Where archives are kept in which guards' calls are stores; `None` if they stay calls.
    pub(super) fn stores(&self) -> Option<&Path> {
        self.stores.as_deref()
    }

    fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(PLAN);
        let text = fs::read(&path).map_err(|source| Error::File { path, source })?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Whether the package that cargo compiles at the moment is instrumented.
    fn wants_this_package(&self) -> bool {
        let variable = |name| env::var(name).unwrap_or_default();
        let spec = format!(
            "{}@{}",
            variable("CARGO_PKG_NAME"),
            variable("CARGO_PKG_VERSION")
        );
        self.packages
            .as_ref()
            .is_none_or(|packages| packages.contains(&spec))
    }

    fn wish<'a>(&self, runtime: &'a Runtime, instrument: bool) -> Wish<'a> {
        Wish {
            instrument,
            comparisons: self.comparisons,
            dead_code: self.dead_code,
            with_c: self.with_c,
            runtime,
        }
    }

    /// Becomes rustc. The first argument is its path.
    fn rustc(&self, folder: &Path, args: &[OsString]) -> Result<Infallible, Error> {
        let (rustc, given) = args.split_first().ok_or_else(|| Error::Start {
            program: "rustc".into(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "cargo did not say which"),
        })?;
        let mut command = match &self.rustc_wrapper {
            Some(wrapper) => {
                let mut command = Command::new(wrapper);
                command.arg(rustc);
                command
            }
            None => Command::new(rustc),
        };
        command.args(given);
        let request = Request::read(given);
        if request.asks {
            // A cargo that builds a package does not ask this; one that a test runs is told that it
            // is in a package.
            let of_a_test = env::var_os("CARGO_PKG_NAME").is_some();
            if self.everywhere && !of_a_test && given.last().is_some_and(|arg| arg == "-vV") {
                return self.say_version(command);
            }
            return become_program(command);
        }
        if !self.is_ours(given) {
            return become_program(command);
        }
        remember_moved(&self.target, &request.remapped)?;
        let runtime = Runtime::in_dir(&self.runtime);
        let wish = self.wish(&runtime, self.wants_this_package());
        let stored = self.stores.is_some() && request.target && request.link.is_some();
        let complete = |command: &mut Command, wish: Wish<'_>| -> Result<(), Error> {
            command.args(additions(&request, wish));
            if stored {
                linking::stand_in(folder, given, command)?;
            }
            Ok(())
        };
        if request.link.is_none() || !wish.instrument || !wish.dead_code {
            complete(&mut command, wish)?;
            return become_program(command);
        }
        // What nothing calls may refer to what is not there.
        let left_out = LeftOut::of(&self.target, given);
        let mut with = Command::new(command.get_program());
        with.args(command.get_args()).stderr(Stdio::piped());
        complete(&mut with, wish)?;
        let failed = |command: &Command| {
            let program = command.get_program().to_owned();
            |source| Error::Start { program, source }
        };
        let output = with.spawn().and_then(Child::wait_with_output);
        let output = output.map_err(failed(&with))?;
        let links = output.status.success();
        if links || !does_not_link(&output.stderr) {
            if links {
                left_out.forget();
            }
            let _ = io::stderr().write_all(&output.stderr);
            std::process::exit(output.status.code().unwrap_or(1));
        }
        let without = Wish {
            dead_code: false,
            ..wish
        };
        complete(&mut command, without)?;
        let status = command.status().map_err(failed(&command))?;
        if status.success() {
            left_out.remember();
        }
        std::process::exit(status.code().unwrap_or(1))
    }

    /// Cargo asks a compiler for its version, and compiles all anew when it has changed. The path
    /// of what stands before every rustc it does not look at; so we say here what we are.
    fn say_version(&self, mut command: Command) -> Result<Infallible, Error> {
        let program = command.get_program().to_owned();
        let output = command
            .output()
            .map_err(|source| Error::Start { program, source })?;
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        let mut said = output.stdout;
        said.extend(format!("rkcov: {:016x}\n", hasher.finish()).bytes());
        let written = io::stdout().write_all(&said);
        let status = output.status.code().unwrap_or(1);
        std::process::exit(if written.is_ok() { status } else { 1 })
    }

    fn rustdoc(&self, folder: &Path, args: &[OsString]) -> Result<Infallible, Error> {
        let rustdoc = || match &self.rustdoc {
            Some(rustdoc) => Command::new(rustdoc),
            None => Command::new("rustdoc"),
        };
        let mut command = rustdoc();
        let request = Request::read(args);
        if request.asks || !self.is_ours(args) {
            command.args(args);
            return become_program(command);
        }
        let runtime = Runtime::in_dir(&self.runtime);
        // Their own functions are in no report.
        let wish = Wish {
            dead_code: false,
            ..self.wish(&runtime, true)
        };
        let given = args;
        let (args, runner) = without_runtool(args);
        if env::var_os(NAMED_EXAMPLES).is_some() && request.tests {
            let mut listing = rustdoc();
            listing.args(&args);
            kept::list(&self.kept, listing)?;
        }
        let runtool = kept::runtool(&folder.join(Tool::Runtool.name()), runner);
        command
            .args(args)
            .args(doctest_additions(&request, wish, &runtool));
        if self.stores.is_some() && request.target && request.link.is_some() {
            linking::stand_in(folder, given, &mut command)?;
        }
        become_program(command)
    }
}

/// Whether all that failed was the linker, by what rustc said.
fn does_not_link(said: &[u8]) -> bool {
    let mark = b"linking with `";
    said.windows(mark.len()).any(|part| part == mark)
}

/// A note of a program that does not link with the functions that nothing calls.
struct LeftOut {
    path: PathBuf,
}

impl LeftOut {
    /// That of the program that rustc makes by these arguments.
    fn of(target: &Path, args: &[OsString]) -> Self {
        let mut hasher = DefaultHasher::new();
        args.hash(&mut hasher);
        let name = format!("{:016x}", hasher.finish());
        let path = left_out(target).join(name);
        Self { path }
    }

    fn forget(&self) {
        let _ = fs::remove_file(&self.path);
    }

    /// If that fails, the report does not say it.
    fn remember(&self) {
        let package = env::var("CARGO_PKG_NAME").unwrap_or_default();
        let _ = cache::write(&self.path, package.as_bytes());
    }
}

fn left_out(target: &Path) -> PathBuf {
    target.join("left-out")
}

/// Notes that rustc gives folders other names in what it compiles: pairs of `FROM=TO`. The note stays as
/// long as what was compiled.
fn remember_moved(target: &Path, remapped: &[OsString]) -> Result<(), Error> {
    for pair in remapped {
        let mut hasher = DefaultHasher::new();
        pair.hash(&mut hasher);
        let path = target
            .join("moved")
            .join(format!("{:016x}", hasher.finish()));
        if !path.exists() {
            cache::write(&path, pair.as_bytes()).map_err(|source| Error::File { path, source })?;
        }
    }
    Ok(())
}

/// Folders that were given other names, each with that where its sources are.
#[must_use]
pub fn moved(target: &Path) -> Vec<(PathBuf, PathBuf)> {
    let notes = fs::read_dir(target.join("moved")).into_iter().flatten();
    let notes = notes.filter_map(|note| fs::read(note.ok()?.path()).ok());
    let pairs = notes.filter_map(|note| {
        // As rustc takes it apart.
        let at = note.iter().rposition(|byte| *byte == b'=')?;
        let [from, to] = [&note[..at], &note[at + 1..]]
            .map(|part| Path::new(OsStr::from_bytes(part)).components().collect());
        Some((without_dot(to), from))
    });
    let mut pairs: Vec<(PathBuf, PathBuf)> = pairs.collect();
    pairs.sort();
    pairs
}

/// A path that is `.` is none.
fn without_dot(path: PathBuf) -> PathBuf {
    path.strip_prefix(".").map(Path::to_owned).unwrap_or(path)
}

/// The packages with programs that do not link with the functions that nothing calls.
#[must_use]
pub fn packages_left_out(target: &Path) -> BTreeSet<String> {
    let notes = fs::read_dir(left_out(target)).into_iter().flatten();
    notes
        .filter_map(|note| fs::read_to_string(note.ok()?.path()).ok())
        .collect()
}

/// Becomes `command`. Comes back only if that fails.
pub(super) fn become_program(mut command: Command) -> Result<Infallible, Error> {
    if env::var_os("RKCOV_VERBOSE").is_some_and(|value| !value.is_empty()) {
        error::say(format_args!("cargo rkcov: {command:?}"));
    }
    let source = command.exec();
    let program = command.get_program().to_owned();
    Err(Error::Start { program, source })
}

/// Makes `path` a link to `program`, in one step: another build may use it at this moment.
pub(super) fn link(program: &Path, path: &Path) -> io::Result<()> {
    if fs::read_link(path).is_ok_and(|found| found == program) {
        return Ok(());
    }
    let partial = path.with_extension(std::process::id().to_string());
    std::os::unix::fs::symlink(program, &partial)?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_known_by_its_name() {
        assert_eq!(Tool::of(Path::new("/t/rkcov-rustc")), Some(Tool::Rustc));
        assert_eq!(Tool::of(Path::new("rkcov-c++")), Some(Tool::Cxx));
        assert_eq!(Tool::of(Path::new("/bin/cargo-rkcov")), None);
        assert_eq!(Tool::of(Path::new("")), None);
    }
}
