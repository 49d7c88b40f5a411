// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a build with checks records exactly what a build with calls records, and computes the same.
//!
//! Both come from the same assembly, so the sites of a program stand in the order of the calls that
//! they were: the address of the n-th site and that of the n-th call stand for the same edge. A
//! recorder of ours ([`recorder.c`](recorder.c)) is linked in, which is the same for both. Programs for
//! arm64 are run by an emulator.

pub mod generate;
pub mod matrix;

use crate::shell::{self, Error};
use object::{Architecture, Object, ObjectSection, ObjectSegment, ObjectSymbol, SectionKind};
use rkcov_abi::sites::{self, arm64, Site, CHECKED};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// The callback, and what stands in its place.
const CALLBACK: &str = "__sanitizer_cov_trace_pc";

/// A program to compare builds of.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Of its folder.
    pub name: String,
    /// Its sources.
    pub sources: Vec<PathBuf>,
    /// Options of its own, when it is compiled.
    pub options: Vec<String>,
    /// Libraries.
    pub libraries: Vec<&'static str>,
    /// Its arguments when it runs.
    pub arguments: Vec<String>,
    /// What it reads.
    pub input: Option<PathBuf>,
}

/// A compiler, and options that programs are compiled and linked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// The C compiler.
    pub cc: &'static str,
    /// The C++ compiler.
    pub cxx: &'static str,
    /// Options, separated by spaces.
    pub options: &'static str,
    /// Whether it is for arm64.
    pub arm64: bool,
}

/// What the tools for arm64 are called by.
const ARM64: &str = "aarch64-linux-gnu";

impl Build {
    /// gcc's.
    #[must_use]
    pub const fn gcc(options: &'static str) -> Self {
        Self {
            cc: "gcc",
            cxx: "g++",
            options,
            arm64: false,
        }
    }

    /// gcc's for arm64.
    #[must_use]
    pub const fn gcc_for_arm64(options: &'static str) -> Self {
        Self {
            cc: "aarch64-linux-gnu-gcc",
            cxx: "aarch64-linux-gnu-g++",
            options,
            arm64: true,
        }
    }

    /// clang's for arm64.
    #[must_use]
    pub const fn clang_for_arm64(options: &'static str) -> Self {
        Self {
            arm64: true,
            ..Self::clang(options)
        }
    }

    /// clang's.
    #[must_use]
    pub const fn clang(options: &'static str) -> Self {
        Self {
            cc: "clang-22",
            cxx: "clang++-22",
            options,
            arm64: false,
        }
    }

    fn is_clang(&self) -> bool {
        self.cc.starts_with("clang")
    }

    fn options(&self) -> impl Iterator<Item = &'static str> {
        let target = (self.arm64 && self.is_clang()).then_some("--target=aarch64-linux-gnu");
        target.into_iter().chain(self.options.split_whitespace())
    }

    /// What runs a program.
    fn runner(&self) -> &'static [&'static str] {
        if self.arm64 {
            &["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
        } else {
            &[]
        }
    }

    /// What compiles with checks: `rkcov cc`. For another machine that adds nothing, so there it is its
    /// part in the assembler's place, for which a folder is made in `folder`.
    fn checking(
        &self,
        rkcov: &Path,
        folder: &Path,
    ) -> Result<impl Fn(&str) -> Command + use<'_>, Error> {
        let rkcov = rkcov.to_owned();
        let place = folder.join("as");
        if self.arm64 {
            let _ = fs::remove_dir_all(&place);
            fs::create_dir_all(&place)?;
            symlink(&rkcov, place.join("as"))?;
        }
        Ok(move |compiler: &str| {
            if !self.arm64 {
                let mut command = Command::new(&rkcov);
                command.arg("cc").arg(compiler);
                return command;
            }
            let mut command = Command::new(compiler);
            command.args(self.calls()).arg("-B").arg(&place);
            command.env("RKCOV_AS", format!("{ARM64}-as"));
            if self.is_clang() {
                command.env("RKCOV_AS_CLANG", compiler);
            }
            command
        })
    }

    fn compiler(&self, source: &Path) -> &'static str {
        if is_cxx(source) {
            self.cxx
        } else {
            self.cc
        }
    }

    /// What `rkcov cc` asks the compiler for, by name, so that a change there is seen here.
    fn calls(&self) -> Vec<&'static str> {
        let has_lines = self.options().any(|option| option.starts_with("-g"));
        let (calls, lines): (&[_], &[_]) = if self.is_clang() {
            (
                &[
                    "-Xclang",
                    "-fsanitize-coverage-type=3",
                    "-Xclang",
                    "-fsanitize-coverage-trace-pc",
                    "-fno-integrated-as",
                ],
                &["-fdebug-info-for-profiling", "-gline-tables-only"],
            )
        } else {
            (
                &[
                    "-fsanitize-coverage=trace-pc",
                    "-fno-optimize-sibling-calls",
                ],
                &["-g1"],
            )
        };
        let lines = lines.iter().filter(|_| !has_lines);
        calls.iter().chain(lines).copied().collect()
    }
}

fn is_cxx(source: &Path) -> bool {
    source
        .extension()
        .is_some_and(|extension| extension == "cc" || extension == "cpp")
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Checks in the program.
    pub sites: usize,
    /// Calls that were left.
    pub calls: usize,
    /// Records of a run that records each time.
    pub records: usize,
    /// Edges that ran.
    pub unique: usize,
    /// It computes what it does without instrumentation.
    pub as_without: bool,
}

/// Builds `subject` three times (without anything, with calls, and by `rkcov`), runs all, and compares.
///
/// # Errors
/// A build fails, or something differs.
pub fn compare(
    rkcov: &Path,
    build: &Build,
    subject: &Subject,
    folder: &Path,
) -> Result<Compared, Error> {
    fs::create_dir_all(folder)?;
    let recorder = folder.join("recorder.o");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/differential/recorder.c");
    let mut gcc = Command::new(if build.arm64 {
        "aarch64-linux-gnu-gcc"
    } else {
        "gcc"
    });
    gcc.args(["-O2", "-fPIC", "-c"]).arg(source).arg("-o");
    shell::read(gcc.arg(&recorder))?;

    let plain = link(build, subject, folder, "plain", &recorder, |compiler| {
        Command::new(compiler)
    })?;
    let run = |program: &Path, record: Option<(&str, &Path)>| {
        run(build.runner(), program, subject, record)
    };
    let plainly = run(&plain, None)?;
    let called = link(build, subject, folder, "calls", &recorder, |compiler| {
        let mut command = Command::new(compiler);
        command.args(build.calls());
        command
    })?;
    let checking = build.checking(rkcov, folder)?;
    let checked = link(build, subject, folder, "checks", &recorder, checking)?;
    let by_calls = Sites::of(&called)?;
    let by_checks = Sites::of(&checked)?;
    if by_calls.addresses.len() != by_checks.addresses.len() || by_calls.checks > 0 {
        return Err(format!(
            "{} calls of {} are {} checks and calls of {}",
            by_calls.addresses.len(),
            called.display(),
            by_checks.addresses.len(),
            checked.display()
        )
        .into());
    }

    // clang's own instrumentation makes some generated programs compute something else, if there is also `-g`.
    let expected = run(&called, None)?;
    if !build.is_clang() {
        same("what is printed", &plainly, &expected)?;
    }
    let idle = run(&checked, None)?;
    same("what is printed", &expected, &idle)?;
    let mut compared = Compared {
        sites: by_checks.checks,
        calls: by_checks.addresses.len() - by_checks.checks,
        as_without: plainly == expected,
        ..Compared::default()
    };
    for mode in ["trace", "unique"] {
        let [old, new] = [(&called, &by_calls), (&checked, &by_checks)].map(|(program, sites)| {
            let record = folder.join(format!("{mode}.record"));
            let _ = fs::remove_file(&record);
            let printed = run(program, Some((mode, &record)))?;
            same("what is printed", &expected, &printed)?;
            sites.numbers(&fs::read(&record)?)
        });
        let (old, new) = (old?, new?);
        if let Some(at) = (0..old.len().max(new.len())).find(|&at| old.get(at) != new.get(at)) {
            return Err(format!(
                "record {at} of {mode} is edge {:?} by calls and {:?} by checks",
                old.get(at),
                new.get(at)
            )
            .into());
        }
        match mode {
            "trace" => compared.records = new.len(),
            _ => compared.unique = new.len(),
        }
    }
    if compared.unique == 0 {
        return Err("nothing was recorded".into());
    }
    Ok(compared)
}

fn same(what: &str, expected: &[u8], found: &[u8]) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    let [expected, found] = [expected, found].map(String::from_utf8_lossy);
    Err(format!("{what} differs:\n{expected}\nand\n{found}").into())
}

/// Compiles with what `compiler` makes of a compiler's name, and links with the recorder. Gives the
/// program.
fn link(
    build: &Build,
    subject: &Subject,
    folder: &Path,
    name: &str,
    recorder: &Path,
    compiler: impl Fn(&str) -> Command,
) -> Result<PathBuf, Error> {
    let folder = folder.join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let clean = |mut command: Command| {
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("RKCOV_CC") {
                command.env_remove(name);
            }
        }
        command
    };
    let mut objects = Vec::new();
    for (number, source) in subject.sources.iter().enumerate() {
        let object = folder.join(format!("{number}.o"));
        let mut command = clean(compiler(build.compiler(source)));
        command.args(build.options().filter(|o| !o.starts_with("-Wl,")));
        command.args(&subject.options).arg("-w");
        if is_cxx(source) {
            command.arg("-std=c++20");
        }
        command.arg("-c").arg(source).arg("-o").arg(&object);
        shell::read(&mut command)?;
        objects.push(object);
    }
    let driver = if subject.sources.iter().any(|source| is_cxx(source)) {
        build.cxx
    } else {
        build.cc
    };
    // Link-time optimization makes the code here: by rkcov, but without its runtime.
    if build.options().any(|option| option.starts_with("-flto")) {
        let all = folder.join("all.o");
        let mut command = clean(compiler(driver));
        command
            .args(build.options())
            .args(["-w", "-r", "-nostdlib"]);
        command.args(["-flinker-output=nolto-rel"]).args(&objects);
        shell::read(command.arg("-o").arg(&all))?;
        objects = vec![all];
    }
    let program = folder.join("program");
    let mut command = Command::new(driver);
    command.args(build.options()).args(&objects).arg(recorder);
    command.args(&subject.libraries).arg("-o").arg(&program);
    shell::read(&mut command)?;
    Ok(program)
}

/// Runs a program, which records if a mode and a file are given. Gives what it prints, and how it ended.
fn run(
    runner: &[&str],
    program: &Path,
    subject: &Subject,
    record: Option<(&str, &Path)>,
) -> Result<Vec<u8>, Error> {
    let mut command = Command::new("timeout");
    command.arg("300").args(runner);
    command.arg(program).args(&subject.arguments);
    command.stdin(match &subject.input {
        Some(path) => Stdio::from(fs::File::open(path)?),
        None => Stdio::null(),
    });
    command.env("ASAN_OPTIONS", "detect_leaks=0");
    match record {
        Some((mode, file)) => command.env("MODE", mode).env("RECORD", file),
        None => command.env_remove("RECORD"),
    };
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{} {record:?}: {}\n{said}",
            program.display(),
            output.status
        )
        .into());
    }
    Ok(output.stdout)
}

/// The edges of a program, by address from its first byte, in order.
struct Sites {
    addresses: Vec<u64>,
    /// How many of them are checks.
    checks: usize,
}

impl Sites {
    fn of(program: &Path) -> Result<Self, Error> {
        let bytes = fs::read(program)?;
        let file = object::File::parse(&*bytes)?;
        let base = file.segments().map(|segment| segment.address()).min();
        let base = base.unwrap_or_default();
        let sites = file.section_by_name(CHECKED);
        let is_site = |byte: u64| {
            sites.as_ref().is_some_and(|section| {
                (section.address()..section.address() + section.size()).contains(&byte)
            })
        };
        let callback = file
            .symbol_by_name(CALLBACK)
            .ok_or("the program has no callback")?
            .address();
        let mut addresses = Vec::new();
        let mut checks = 0;
        for section in file.sections().filter(|s| s.kind() == SectionKind::Text) {
            let (code, at) = (section.data()?, section.address());
            if file.architecture() == Architecture::Aarch64 {
                let (found, calls) = arm64_sites(code, at, is_site, callback);
                checks += found.len();
                addresses.extend(found.iter().chain(&calls).map(|pc| pc - base));
                continue;
            }
            for site in sites::find(code, at) {
                if let Site::Check(check) = site {
                    if is_site(check.byte) {
                        checks += 1;
                        addresses.push(check.pc() - base);
                    }
                }
            }
            for (offset, bytes) in code.windows(5).enumerate() {
                let (opcode, distance) = (bytes[0], bytes[1..].first_chunk());
                let end = at + offset as u64 + 5;
                let to = distance.map(|d| end.wrapping_add_signed(i32::from_le_bytes(*d).into()));
                if opcode == 0xe8 && to == Some(callback) {
                    addresses.push(end - base);
                }
            }
        }
        addresses.sort_unstable();
        Ok(Self { addresses, checks })
    }

    /// The numbers of the edges that were recorded. Where nothing is known of a program's edges, a
    /// record stands for itself.
    fn numbers(&self, records: &[u8]) -> Result<Vec<u64>, Error> {
        let records = records
            .chunks_exact(8)
            .map(|record| record.try_into().map_or(0, u64::from_le_bytes));
        if self.addresses.is_empty() {
            return Ok(records.collect());
        }
        records
            .map(|record| {
                let number = self.addresses.binary_search(&record);
                number
                    .map(|number| number as u64)
                    .map_err(|_| format!("{record:#x} is recorded and is no edge").into())
            })
            .collect()
    }
}

/// The PCs of the checks in arm64 code, and of the calls of `callback`.
fn arm64_sites(
    code: &[u8],
    at: u64,
    is_site: impl Fn(u64) -> bool,
    callback: u64,
) -> (Vec<u64>, Vec<u64>) {
    let (mut checks, mut calls) = (Vec::new(), Vec::new());
    for (offset, bytes) in (0..).step_by(4).zip(code.as_chunks().0) {
        let word = u32::from_le_bytes(*bytes);
        let here = at + offset as u64;
        let check = code
            .get(offset..)
            .and_then(|code| arm64::Check::read(code, here));
        if let Some(check) = check.filter(|check| is_site(check.byte)) {
            checks.push(check.pc());
        }
        // BL, with a distance in instructions.
        let distance = i64::from((word << 6).cast_signed() >> 6) * 4;
        if word >> 26 == 0b10_0101 && here.wrapping_add_signed(distance) == callback {
            calls.push(here + 4);
        }
    }
    (checks, calls)
}
