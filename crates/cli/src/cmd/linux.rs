// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov linux`: the Rust kcov inside Linux.

use crate::cache;
use crate::error::Error;
use rkcov_linux::{
    answer, guest, install, program, Arch, Checks, Flavor, Image, Job, Kcov, Machine, Progress,
    Workshop,
};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What to do with a Linux.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Put rkcov into a kernel tree, or bring what is there up to date
    Install(Tree),
    /// Take rkcov out of a kernel tree: every file is then as it was
    Uninstall(Tree),
    /// Say what this machine has of what building and booting a kernel needs
    Doctor,
    /// Install what this machine lacks: Debian's packages, and bindgen
    Setup,
    /// Build a kernel
    Build(Kernel),
    /// Boot a kernel, run a program in it, and show the kernel code that it ran
    Run(Run),
    /// Be the first process of a guest
    #[command(hide = true)]
    Guest,
}

/// A kernel tree.
#[derive(Debug, clap::Args)]
pub struct Tree {
    /// The top folder of the kernel's sources
    tree: PathBuf,
}

/// Which kernel.
#[derive(Debug, clap::Args)]
pub struct Kernel {
    /// What it runs on: a PC under QEMU, or User Mode Linux
    #[arg(long, value_name = "x86-64|uml", default_value = "x86-64", value_parser = arch)]
    arch: Arch,
    /// Which implementation of kcov it has
    #[arg(long, value_name = "rust|c", default_value = "rust", value_parser = kcov)]
    kcov: Kcov,
    /// What it checks: nothing, memory and locks, data races; or real-time preemption
    #[arg(long, value_name = "plain|kasan|kcsan|rt", default_value = "plain", value_parser = checks)]
    checks: Checks,
    /// First install what this machine lacks
    #[arg(long)]
    setup: bool,
}

/// A program and what to boot for it.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    kernel: Kernel,
    /// Only run the program, collect nothing
    #[arg(long)]
    no_coverage: bool,
    /// A file or folder that the program needs, under the same path in the guest
    #[arg(long, value_name = "PATH")]
    with: Vec<PathBuf>,
    /// Memory of the guest in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// Seconds after which the guest is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    /// Fail if the kernel complains of anything
    #[arg(long)]
    strict: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Words of the buffer: 1 Mi records.
const BUFFER_WORDS: u32 = 1 << 20;

fn arch(name: &str) -> Result<Arch, &'static str> {
    match name {
        "x86-64" => Ok(Arch::X86_64),
        "uml" => Ok(Arch::Uml),
        _ => Err("x86-64 or uml"),
    }
}

fn kcov(name: &str) -> Result<Kcov, &'static str> {
    match name {
        "rust" => Ok(Kcov::Rust),
        "c" => Ok(Kcov::C),
        _ => Err("rust or c"),
    }
}

fn checks(name: &str) -> Result<Checks, &'static str> {
    match name {
        "plain" => Ok(Checks::Plain),
        "kasan" => Ok(Checks::Kasan),
        "kcsan" => Ok(Checks::Kcsan),
        "rt" => Ok(Checks::Rt),
        _ => Err("plain, kasan, kcsan or rt"),
    }
}

/// Runs the command.
///
/// # Errors
/// What the command could not do.
pub fn run(command: &Command) -> Result<ExitCode, Error> {
    match command {
        Command::Install(Tree { tree }) => {
            let files = install::install(tree)?;
            writeln!(
                io::stdout(),
                "{}: rkcov is installed, {files} files written",
                tree.display()
            )?;
        }
        Command::Uninstall(Tree { tree }) => {
            let files = install::uninstall(tree)?;
            writeln!(
                io::stdout(),
                "{}: rkcov is gone, {files} files put back",
                tree.display()
            )?;
        }
        Command::Doctor => return doctor(),
        Command::Setup => workshop()?.setup(&Progress::new())?,
        Command::Build(kernel) => {
            let image = build(&workshop()?, kernel)?;
            writeln!(io::stdout(), "{}", image.kernel.display())?;
        }
        Command::Run(run) => return run_in_guest(run),
        Command::Guest => guest::main()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn workshop() -> Result<Workshop, Error> {
    Ok(Workshop::new(&cache::dir()?))
}

fn doctor() -> Result<ExitCode, Error> {
    let mut out = io::stdout().lock();
    let mut complete = true;
    for (thing, purpose, here) in workshop()?.inventory()? {
        let state = if here { "here" } else { "missing" };
        writeln!(out, "{state:8} {thing}: {purpose}")?;
        complete &= here;
    }
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn build(workshop: &Workshop, kernel: &Kernel) -> Result<Image, Error> {
    let progress = Progress::new();
    if kernel.setup {
        workshop.setup(&progress)?;
    }
    let flavor = Flavor {
        arch: kernel.arch,
        kcov: kernel.kcov,
        checks: kernel.checks,
    };
    Ok(workshop.build(flavor, &progress)?)
}

fn run_in_guest(run: &Run) -> Result<ExitCode, Error> {
    let workshop = workshop()?;
    let image = build(&workshop, &run.kernel)?;
    let mut command = run.command.clone();
    if let Some(program) = command.first_mut() {
        *program = program::find(program)?.into();
    }
    let collect = (!run.no_coverage).then_some(BUFFER_WORDS);
    let machine = Machine {
        workshop: &workshop,
        image: &image,
        memory: run.memory,
        limit: Duration::from_secs(run.timeout),
        strict: run.strict,
        parameters: "",
    };
    let mut status = ExitCode::FAILURE;
    let mut coverage = Vec::new();
    let mut output = Ok(());
    machine.run(&Job { command, collect }, &run.with, |name, data| {
        let written = match name {
            answer::STDOUT => io::stdout().write_all(data),
            answer::STDERR => io::stderr().write_all(data),
            answer::ERROR => io::stderr().write_all(data),
            answer::COVERAGE => {
                coverage = data.to_vec();
                Ok(())
            }
            answer::STATUS => {
                let code = std::str::from_utf8(data)
                    .ok()
                    .and_then(|t| t.parse::<u8>().ok());
                status = code.map_or(ExitCode::FAILURE, ExitCode::from);
                Ok(())
            }
            _ => Ok(()),
        };
        if output.is_ok() {
            output = written;
        }
    })?;
    output?;
    eprintln!("coverage: {} words", coverage.len() / 8);
    Ok(status)
}
