// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov doctor`: what this machine has for rkcov, and how to get what is missing. The part about
//! Linux is `rkcov linux doctor`, too.

use crate::cmd::linux::workshop;
use crate::error::{Chain, Error};
use crate::toolchain::{find, name, Compiler, Instrumentation, Program};
use rkcov_linux::setup::words;
use rkcov_linux::{Arch, Kept, Kvm, Workshop};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fmt, fs};

/// Arguments of `rkcov doctor`: none.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints what is here, one thing a line. It fails without a compiler.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(_: &Args) -> Result<ExitCode, Error> {
    let c = c_programs();
    let has_compiler = c.lines.iter().any(|line| line.state == State::Here);
    let mut page = Page(vec![c, rust_programs()]);
    page.0.extend(linux(&workshop()?, Arch::X86_64)?.0);
    print(&page, has_compiler)
}

/// Prints what is here of what Linux needs, one thing a line. It fails if something is missing.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run_linux(arch: Arch) -> Result<ExitCode, Error> {
    let page = linux(&workshop()?, arch)?;
    let mut lines = page.0.iter().flat_map(|part| &part.lines);
    let complete = lines.all(|line| line.state != State::Missing);
    print(&page, complete)
}

fn print(page: &Page, good: bool) -> Result<ExitCode, Error> {
    write!(io::stdout(), "{page}")?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is said of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Here,
    /// It is needed.
    Missing,
    /// It is not there, and one can do without.
    Without,
}

/// A thing, and what is to be known of it.
struct Line {
    state: State,
    text: String,
}

/// A use of rkcov.
#[derive(Default)]
struct Part {
    title: String,
    lines: Vec<Line>,
    /// What is to be done, or is to be known besides.
    notes: Vec<String>,
}

/// All that is said.
struct Page(Vec<Part>);

impl Part {
    fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            ..Self::default()
        }
    }

    fn line(&mut self, state: State, text: impl Into<String>) {
        let text = text.into();
        self.lines.push(Line { state, text });
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            writeln!(f, "{}", part.title)?;
            for Line { state, text } in &part.lines {
                let state = match state {
                    State::Here => "here",
                    State::Missing => "missing",
                    State::Without => "without",
                };
                writeln!(f, "  {state:8} {text}")?;
            }
            for note in &part.notes {
                writeln!(f, "  {note}")?;
            }
        }
        Ok(())
    }
}

fn c_programs() -> Part {
    let mut part = Part::new("programs in C and C++: rkcov cc, rkcov c++, rkcov run");
    let mut checks = false;
    for program in compilers() {
        let path = program.path.display();
        match Compiler::of(&program) {
            Ok(compiler) => match compiler.best(false) {
                Some(best) => {
                    checks |= best == Instrumentation::Check;
                    part.line(State::Here, format!("{path}: {compiler}: {best}"));
                }
                None => part.line(
                    State::Without,
                    format!("{path}: {compiler}: no known instrumentation"),
                ),
            },
            Err(error) => part.line(State::Without, format!("{path}: {}", Chain(&error))),
        }
    }
    if !part.lines.iter().any(|line| line.state == State::Here) {
        part.line(
            State::Missing,
            "a C compiler: apt-get install gcc, or clang",
        );
    }
    if !checks {
        let text =
            "checks instead of calls, which are faster: they need x86-64 or arm64, and gcc or clang \
                    with an assembler: apt-get install binutils";
        part.line(State::Without, text);
    }
    part
}

fn rust_programs() -> Part {
    let mut part = Part::new("programs in Rust: cargo rkcov");
    for program in ["cargo", "rustc"] {
        let said = Command::new(program).arg("--version").output();
        match said {
            Ok(said) if said.status.success() => {
                let version = String::from_utf8_lossy(&said.stdout);
                part.line(State::Here, version.trim());
            }
            _ => part.line(
                State::Without,
                format!("{program}: install it with rustup, or by apt-get install {program}"),
            ),
        }
    }
    part
}

/// The parts about Linux.
fn linux(workshop: &Workshop, arch: Arch) -> Result<Page, Error> {
    let mut needs = Part::new("Linux with the Rust kcov: rkcov linux");
    match workshop.inventory(arch) {
        Ok(items) => {
            for item in &items {
                let (name, purpose) = (item.name, item.purpose);
                match &item.version {
                    Some(version) => {
                        needs.line(State::Here, format!("{name} {version}: {purpose}"));
                    }
                    None => needs.line(State::Missing, format!("{name}: {purpose}")),
                }
            }
            let remedies = workshop.remedies(&items);
            if !remedies.is_empty() {
                let arch = arch.option();
                needs.notes.push(format!(
                    "\"rkcov linux setup{arch}\", as root, installs what is missing. Or run:"
                ));
                let commands = remedies.iter().map(|(_, command)| words(command));
                needs.notes.extend(commands.map(|line| format!("  {line}")));
            }
        }
        Err(error) => needs.line(
            State::Missing,
            format!(
                "Debian or a derivative, because the build uses Debian packages: {}",
                Chain(&error)
            ),
        ),
    }
    let (state, text) = kvm(workshop.kvm()?);
    needs.line(state, text);
    Ok(Page(vec![needs, kept(workshop.root(), &workshop.kept()?)]))
}

fn kvm(kvm: Kvm) -> (State, &'static str) {
    match kvm {
        Kvm::Works => (State::Here, "KVM: works, tested with a guest"),
        Kvm::Absent => (
            State::Without,
            "KVM: there is no /dev/kvm; guests are emulated, which is slower",
        ),
        Kvm::Denied => (
            State::Without,
            "KVM: this user may not open /dev/kvm (the group kvm may); guests are emulated",
        ),
        Kvm::Fails => (
            State::Without,
            "KVM: a test guest did not run with /dev/kvm; guests are emulated",
        ),
        Kvm::Untried => (
            State::Without,
            "KVM: /dev/kvm exists; the first kernel that is built tests it",
        ),
    }
}

fn kept(root: &Path, kept: &[Kept]) -> Part {
    let mut part = Part::new(format!("cached in {}; safe to delete", root.display()));
    for kept in kept {
        let state = match kept.current {
            Some(true) => ": boots at once",
            Some(false) => ": of another rkcov or kernel, will be rebuilt",
            None => "",
        };
        let text = format!("{}{state}", kept.name.display());
        let size = Size(kept.bytes);
        part.notes.push(format!("{size:>8} {text}"));
    }
    if kept.is_empty() {
        part.notes.push("empty".into());
    }
    part
}

/// Bytes, as people say them.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = (1 << 20) as f64;
        let mib = self.0 as f64 / MIB;
        f.pad(&if mib < 1000.0 {
            format!("{mib:.0} MiB")
        } else {
            format!("{:.1} GiB", mib / 1024.0)
        })
    }
}

/// The C compilers in the folders of `$PATH`, one path for each file: the shortest of the first
/// folder that has it.
fn compilers() -> Vec<Program> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for dir in env::split_paths(&path) {
        let mut names: Vec<OsString> = fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| is_c_compiler(name))
            .collect();
        names.sort_by_key(|name| (name.len(), name.clone()));
        for name in names {
            if let Ok(program) = find(dir.join(name).as_os_str()) {
                if seen.insert(program.stamp.file.clone()) {
                    found.push(program);
                }
            }
        }
    }
    found
}

/// Whether this is the name of gcc or clang themselves, not of a script before them (`c99-gcc`) or
/// another language's.
fn is_c_compiler(program: &OsStr) -> bool {
    let text = program.to_string_lossy();
    let script = text.starts_with("c89") || text.starts_with("c99");
    name::is_compiler(program)
        && !script
        && (text.contains("gcc") || text.contains("clang"))
        && !text.contains("++")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_three_digits() {
        let said = |bytes| Size(bytes).to_string();
        assert_eq!(said(0), "0 MiB");
        assert_eq!(said(85 << 20), "85 MiB");
        assert_eq!(said(1000 << 20), "1.0 GiB");
        assert_eq!(said(3 << 29), "1.5 GiB");
        assert_eq!(format!("{:>8}", Size(1 << 20)), "   1 MiB");
    }

    #[test]
    fn what_is_kept_is_said_with_what_becomes_of_it() {
        let item = |name: &str, bytes, current| Kept {
            name: name.into(),
            bytes,
            current,
        };
        let root = Path::new("/cache/linux");
        let page = Page(vec![kept(
            root,
            &[
                item("6.12/build/uml", 3 << 29, None),
                item("6.12/image/uml-c", 80 << 20, Some(false)),
                item("6.12/image/uml-rust", 81 << 20, Some(true)),
            ],
        )]);
        assert_eq!(
            page.to_string(),
            "cached in /cache/linux; safe to delete\n\
             \x20  1.5 GiB 6.12/build/uml\n\
             \x20   80 MiB 6.12/image/uml-c: of another rkcov or kernel, will be rebuilt\n\
             \x20   81 MiB 6.12/image/uml-rust: boots at once\n"
        );
        let page = Page(vec![kept(root, &[])]).to_string();
        assert!(page.ends_with("\n  empty\n"), "{page}");
    }
}
