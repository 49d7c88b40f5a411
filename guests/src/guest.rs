// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boots a kernel and runs one program in it.

use rkcov_linux::{
    answer, Arch, Checks, Clock, Flavor, Image, Job, Kcov, Machine, Progress, Recipe, Workshop,
};
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The result of a step. Nobody here tells errors apart; people read them.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long a guest may take, if its command does not say more.
const LIMIT: Duration = Duration::from_secs(300);
/// Memory of a guest in MiB.
const MEMORY: u32 = 1024;
/// A guest whose host is busy stands still at times; one that hangs is found by its limit.
const PARAMETERS: &str = "rcupdate.rcu_cpu_stall_suppress=1";

/// Which kernel.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Kernel {
    /// What it runs on: a PC or a board with arm64 processors under QEMU, or User Mode Linux
    #[arg(long, value_name = "x86-64|arm64|uml", default_value = "x86-64")]
    pub(crate) arch: Arch,
    /// Which implementation of kcov it has
    #[arg(long, value_name = "rust|c", default_value = "rust")]
    pub(crate) kcov: Kcov,
    /// What it checks
    #[arg(long, value_name = "plain|kasan|kcsan|rt", default_value = "plain")]
    pub(crate) checks: Checks,
    /// The tree to build it from, in the place of Debian's Linux 6.12
    #[arg(long, value_name = "DIR")]
    pub(crate) tree: Option<PathBuf>,
    /// A file with lines as CONFIG_X=y for the kernel's configuration; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
    /// This very program, compiled for the guest's machine, if that is another
    #[arg(long, value_name = "PROGRAM", required_if_eq("arch", "arm64"))]
    pub(crate) inside: Option<PathBuf>,
}

impl Kernel {
    fn recipe(&self) -> Result<Recipe> {
        let flavor = Flavor {
            arch: self.arch,
            kcov: self.kcov,
            checks: self.checks,
        };
        Ok(Recipe::new(flavor, self.tree.as_deref(), &self.config)?)
    }
}

/// Where kernels are kept.
#[cfg(target_arch = "x86_64")]
fn cache() -> Result<PathBuf> {
    Ok(rkcov_cli::cache::dir()?)
}

#[cfg(not(target_arch = "x86_64"))]
fn cache() -> Result<PathBuf> {
    Err("guests are booted on x86-64 only".into())
}

/// A kernel that was built, to be booted again and again.
pub(crate) struct Guest {
    workshop: Workshop,
    pub(crate) image: Image,
    pub(crate) limit: Duration,
    pub(crate) clock: Clock,
    /// Words for the kernel's command line.
    pub(crate) parameters: String,
    /// This program, as the guest runs it.
    program: PathBuf,
}

impl Guest {
    /// Builds the kernel if it is not there.
    pub(crate) fn new(kernel: &Kernel) -> Result<Self> {
        let workshop = Workshop::new(&cache()?);
        let image = workshop.build(&kernel.recipe()?, &Progress::new())?;
        let program = match &kernel.inside {
            Some(program) => std::path::absolute(program)?,
            None => std::env::current_exe()?,
        };
        Ok(Self {
            workshop,
            image,
            program,
            limit: LIMIT,
            clock: Clock::Host,
            parameters: PARAMETERS.to_owned(),
        })
    }

    /// Boots, runs this very program with `inside` and these words, and answers what it printed.
    /// A complaint of the kernel's is a failure.
    pub(crate) fn inside(&self, words: &[&str], files: &[PathBuf]) -> Result<String> {
        let words = ["inside"].iter().chain(words);
        let command = [self.program.clone().into_os_string()]
            .into_iter()
            .chain(words.map(OsString::from))
            .collect();
        self.run(command, files)
    }

    /// Boots, runs a program, and answers what it printed.
    pub(crate) fn run(&self, command: Vec<OsString>, files: &[PathBuf]) -> Result<String> {
        let machine = Machine {
            workshop: &self.workshop,
            image: &self.image,
            memory: MEMORY,
            cpus: match self.image.flavor.arch {
                Arch::X86_64 | Arch::Arm64 => 2,
                Arch::Uml => 1,
            },
            network: false,
            gdb: None,
            limit: self.limit,
            strict: true,
            allowed: &[],
            clock: self.clock,
            parameters: &self.parameters,
        };
        let job = Job {
            command,
            ..Job::default()
        };
        let (mut printed, mut complained) = (Vec::new(), Vec::new());
        let (mut status, mut error) = (String::new(), None);
        machine.run(&job, files, |name, data| match name {
            answer::STDOUT => printed.extend_from_slice(data),
            answer::STDERR => {
                eprint!("{}", String::from_utf8_lossy(data));
                complained.extend_from_slice(data);
            }
            answer::STATUS => status = String::from_utf8_lossy(data).into_owned(),
            answer::ERROR => error = Some(String::from_utf8_lossy(data).into_owned()),
            _ => {}
        })?;
        let complained = String::from_utf8_lossy(&complained);
        match error {
            Some(error) => Err(error.into()),
            None if status != "0" => {
                Err(format!("the program in the guest ended with {status}: {complained}").into())
            }
            None => Ok(String::from_utf8(printed)?),
        }
    }
}

/// Compiles a C program that needs nothing in a guest of this sort.
pub(crate) fn compile(arch: Arch, source: &Path, program: &Path, flags: &[&str]) -> Result<()> {
    let gcc = match arch {
        Arch::X86_64 | Arch::Uml => "gcc",
        Arch::Arm64 => "aarch64-linux-gnu-gcc",
    };
    let compiled = Command::new(gcc)
        .args(["-static", "-o"])
        .arg(program)
        .args(flags)
        .arg(source)
        .output()
        .map_err(|error| format!("{gcc}: {error}"))?;
    if compiled.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&compiled.stderr)
            .into_owned()
            .into())
    }
}
