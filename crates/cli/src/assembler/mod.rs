// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands in the assembler's place: it makes checks or counters of the compiler's calls, and lets the
//! real assembler assemble the result.
//!
//! Compilers look for a program of the name `as` in the folders that `-B` gives them, also when they
//! make the code at link time. The folders here have a link to this program under that name, and
//! nothing else: a compiler would take anything from them. There is one for each [`Form`], so that
//! compiler caches, which look at the command line, tell their objects apart.
//!
//! If the real assembler refuses text with checks, it gets, on arm64, checks with longer branches, and then the
//! compiler's own text, whose calls work too. What it says then is about the user's code. A fuzzer that reads
//! counters has nothing to call: there, that is an error.

mod job;

use crate::cache;
use crate::error::{say, Chain};
use crate::toolchain::find;
use crate::wrap::response;
use job::{Input, Job};
use rkcov_rewrite::assembly::{mentions_callback, rewrite, Branches, Form, Machine, Summary};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::{env, fs, thread};

/// The name by which compilers look for an assembler.
const NAME: &str = "as";

/// The variable with the path of the real assembler.
pub const REAL: &str = "RKCOV_AS";

/// The variable with the path of clang, if it is the compiler: what it writes for its own assembler,
/// in a user's inline assembly for example, another may refuse.
pub const CLANG: &str = "RKCOV_AS_CLANG";

/// What the name of the folder ends with in which we make counters.
const COUNTERS: &str = "-counters";

/// The folder that compilers are given by `-B`, for sites of this form. Another version of this program has
/// another: compiler caches see that what comes out may differ.
///
/// # Errors
/// No place can be written to, or this program's path is not known.
pub fn folder(form: Form) -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let stamp = find::stamp(&program)?;
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), stamp).hash(&mut hasher);
    let end = match form {
        Form::Checks => "",
        Form::Counters => COUNTERS,
    };
    let folder = cache::dir()?
        .join("as")
        .join(format!("{:016x}{end}", hasher.finish()));
    let link = folder.join(NAME);
    if !fs::read_link(&link).is_ok_and(|to| to == program) {
        fs::create_dir_all(&folder)?;
        rkcov_artifacts::replace(&link, |partial| {
            std::os::unix::fs::symlink(&program, partial)
        })?;
    }
    Ok(folder)
}

/// The option that gives `folder` to a compiler.
#[must_use]
pub fn option(folder: &Path) -> OsString {
    let mut option = OsString::from("-B");
    option.push(folder);
    option
}

/// Whether a program of this name or path stands in the assembler's place.
#[must_use]
pub fn is_called_by(name: &OsStr) -> bool {
    Path::new(name).file_name() == Some(OsStr::new(NAME))
}

/// What we make, by the path that we were run by.
fn form_of(program: &Path) -> Form {
    let folder = program.parent().and_then(Path::file_name);
    match folder.is_some_and(|name| name.as_bytes().ends_with(COUNTERS.as_bytes())) {
        true => Form::Counters,
        false => Form::Checks,
    }
}

/// Assembles as the command line `args` says, the program's own name first.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    let form = args.first().map(Path::new).map_or(Form::Checks, form_of);
    let given = args.get(1..).unwrap_or_default();
    match assemble(given, form) {
        Ok(code) => code,
        Err(failure) => {
            say(format_args!("rkcov: {}", Chain(&failure)));
            ExitCode::FAILURE
        }
    }
}

/// Why nothing was assembled.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("there is no assembler")]
    None(#[from] find::NotFound),
    #[error("cannot run {}", .0.display())]
    Run(PathBuf, #[source] io::Error),
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
}

/// The real assembler. The variable may name ourselves, where a wrapper runs a wrapper.
fn real() -> Result<PathBuf, find::NotFound> {
    if let Some(path) = env::var_os(REAL) {
        if let Ok(program) = find(&path) {
            return Ok(program.path);
        }
    }
    Ok(find(OsStr::new(NAME))?.path)
}

fn assemble(given: &[OsString], form: Form) -> Result<ExitCode, Failure> {
    let real = real()?;
    let args: Vec<OsString> = response::expand(given, |file| fs::read(file).ok())
        .into_iter()
        .map(|argument| argument.text)
        .collect();
    let Some(job) = Job::read(&args) else {
        return Err(become_program(&real, given));
    };
    let Some(machine) = job.machine(form) else {
        return Err(become_program(&real, given));
    };
    let clang = env::var_os(CLANG).map(PathBuf::from);

    let piped = job.with_standard_input();
    // What the compiler wrote, and what becomes of it.
    let (text, first) = match &job.input {
        Input::File(path) => match fs::read(path) {
            Ok(text) if clang.is_some() || mentions_callback(&text) => {
                let first = Attempt::make(&real, &piped, |to| rewrite(machine, &text[..], to))?;
                (text, first)
            }
            _ => return Err(become_program(&real, given)),
        },
        Input::Standard => {
            let mut input = Kept {
                inner: io::stdin().lock(),
                copy: Vec::new(),
            };
            let reader = BufReader::new(&mut input);
            let first = Attempt::make(&real, &piped, |to| rewrite(machine, reader, to))?;
            let rest = input.read_to_end(&mut Vec::new());
            rest.map_err(Failure::Input)?;
            (input.copy, first)
        }
    };
    if first.succeeded() {
        return Ok(first.say());
    }
    if let Machine::Arm64(_) = machine {
        let long = Machine::Arm64(Branches::Long);
        let second = Attempt::make(&real, &piped, |to| rewrite(long, &text[..], to))?;
        if second.succeeded() {
            return Ok(second.say());
        }
    }
    if let Some(clang) = &clang {
        let by_clang = job.for_clang(OsStr::new("-"));
        let third = Attempt::make(clang, &by_clang, |to| rewrite(machine, &text[..], to))?;
        if third.succeeded() {
            return Ok(third.say());
        }
    }
    if form == Form::Counters {
        return Ok(first.say());
    }
    match (&job.input, &clang) {
        (Input::File(_), None) => Err(become_program(&real, given)),
        (Input::File(path), Some(clang)) => {
            Err(become_program(clang, &job.for_clang(path.as_os_str())))
        }
        (Input::Standard, None) => copied(&real, &piped, &text),
        (Input::Standard, Some(clang)) => copied(clang, &job.for_clang(OsStr::new("-")), &text),
    }
}

/// Assembles the compiler's own text.
fn copied(program: &Path, args: &[OsString], text: &[u8]) -> Result<ExitCode, Failure> {
    let last = Attempt::make(program, args, |to| {
        to.write_all(text)?;
        Ok(Summary::default())
    })?;
    Ok(last.say())
}

/// What is read, and a copy of all that was.
struct Kept<R> {
    inner: R,
    copy: Vec<u8>,
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.copy.extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}

/// A run of an assembler, over a text from its standard input.
struct Attempt {
    status: ExitStatus,
    errors: Vec<u8>,
    text: io::Result<Summary>,
}

impl Attempt {
    fn make(
        program: &Path,
        args: &[OsString],
        text: impl FnOnce(&mut dyn Write) -> io::Result<Summary>,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::Run(program.to_owned(), error);
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (input, errors) = (child.stdin.take(), child.stderr.take());
        thread::scope(|scope| {
            let errors = scope.spawn(move || {
                let mut said = Vec::new();
                // What was said before the pipe broke is said.
                let _ = errors.map(|mut from| from.read_to_end(&mut said));
                said
            });
            let text = match input {
                Some(input) => text(&mut BufWriter::with_capacity(1 << 16, input)),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            };
            let status = child.wait().map_err(failed)?;
            let errors = errors.join().unwrap_or_default();
            Ok(Self {
                status,
                errors,
                text,
            })
        })
    }

    /// Whether the whole text was assembled.
    fn succeeded(&self) -> bool {
        self.status.success() && self.text.is_ok()
    }

    /// Says what the assembler said, and gives its exit status.
    fn say(&self) -> ExitCode {
        // If nobody listens there, nothing is to be done about it.
        let _ = io::stderr().write_all(&self.errors);
        let verbose = env::var_os("RKCOV_VERBOSE").is_some_and(|value| !value.is_empty());
        if let (true, Ok(Summary { sites, left })) = (verbose, &self.text) {
            if sites + left > 0 {
                say(format_args!("rkcov: {sites} sites, {left} calls are left"));
            }
        }
        match self.status.code() {
            Some(0) if self.text.is_err() => ExitCode::FAILURE,
            Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
            None => ExitCode::FAILURE,
        }
    }
}

/// Becomes an assembler. Comes back only if that fails.
fn become_program(program: &Path, args: &[OsString]) -> Failure {
    let error = Command::new(program).args(args).exec();
    Failure::Run(program.to_owned(), error)
}
