// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov linux`: the Rust kcov inside Linux.

use crate::cache;
use crate::cmd::doctor;
use crate::error::{say, Error};
use crate::reporter::{self, Format, Request};
use rkcov::program::limits_are_errors;
use rkcov_linux::module::{Part, Seen, Shelf};
use rkcov_linux::{
    answer, boot, initramfs, install, program, Arch, Checks, Clock, Coverage, Flavor, Image, Input,
    Job, Kcov, Machine, Module, Modules, Own, Progress, Recipe, Share, Workshop,
};
use rkcov_report::trace::{self, BuildId, Exit, Info, Mode, ProcessId, StreamInfo, Writer};
use std::collections::hash_map::{Entry, HashMap};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// A subcommand of `rkcov linux`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add rkcov to a kernel tree, or update it there
    Install(Tree),
    /// Remove rkcov from a kernel tree and restore every file
    Uninstall(Tree),
    /// List what building and booting a kernel needs, and what is missing on this machine
    Doctor(Guest),
    /// Install what is missing: Debian packages, and bindgen
    Setup(Guest),
    /// Build a kernel
    Build(Kernel),
    /// Boot a kernel, run a program in it, and show the kernel code that it ran
    Run(Run),
    /// Boot a kernel and get a shell in it, with this machine's programs
    Shell(Shell),
    /// Run as the first process of a guest
    #[command(hide = true)]
    Guest,
}

/// A kernel tree.
#[derive(Debug, clap::Args)]
pub struct Tree {
    /// The top folder of the kernel's sources
    tree: PathBuf,
}

/// Where a kernel runs.
#[derive(Debug, clap::Args)]
pub struct Guest {
    /// The guest: a PC or a board with arm64 processors under QEMU, or User Mode Linux
    #[arg(long, value_name = "x86-64|arm64|uml", default_value = "x86-64")]
    arch: Arch,
}

/// Which kernel.
#[derive(Debug, clap::Args)]
pub struct Kernel {
    #[command(flatten)]
    guest: Guest,
    /// The implementation of kcov in the kernel
    #[arg(long, value_name = "rust|c", default_value = "rust")]
    kcov: Kcov,
    /// The kernel's checks: none; memory and locks (KASAN); data races (KCSAN); or, with rt, real-time
    /// preemption
    #[arg(long, value_name = "plain|kasan|kcsan|rt", default_value = "plain")]
    checks: Checks,
    /// Build this kernel tree instead of Debian's Linux 6.12. rkcov is added to it first, as by
    /// "rkcov linux install"
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
    /// A file with lines as CONFIG_X=y for the kernel's configuration; may be repeated
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// First install what is missing
    #[arg(long)]
    setup: bool,
}

/// What a guest has.
#[derive(Clone, Debug, clap::Args)]
pub struct Equipment {
    /// Boot this kernel, which you built, and build none: a bzImage, an Image of arm64, or the program that User Mode Linux
    /// is
    #[arg(long, value_name = "FILE", requires = "vmlinux", conflicts_with_all = ["tree", "config", "kcov", "checks"])]
    kernel: Option<PathBuf>,
    /// The vmlinux of that build, with debug information. It is compared with the kernel that runs
    #[arg(long, value_name = "FILE", requires = "kernel")]
    vmlinux: Option<PathBuf>,
    /// Load this module of the kernel before the program runs: a file; a folder to build it from; or the name of one that
    /// the kernel's configuration builds. May be repeated
    #[arg(long, value_name = "FILE.ko|DIR|NAME")]
    module: Vec<PathBuf>,
    /// A file or folder that the program needs; it has the same path in the guest
    #[arg(long, value_name = "PATH")]
    with: Vec<PathBuf>,
    /// Share this folder with the guest, under MOUNTPOINT or the same path. With :ro the guest cannot change it
    #[arg(long, value_name = "DIR[:MOUNTPOINT][:ro]")]
    share: Vec<Share>,
    /// More parameters for the kernel's command line
    #[arg(long, value_name = "PARAMETERS", default_value = "")]
    append: String,
    /// Memory of the guest: MiB, or a number with M or G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = mebibytes)]
    memory: u32,
    /// Processors of the guest [default: 2, with User Mode Linux 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cpus: Option<u32>,
    /// Give the guest a network: it reaches what this machine reaches, and nobody reaches the guest
    #[arg(long)]
    network: bool,
    /// Wait for gdb at this port of 127.0.0.1 before the kernel's first instruction
    #[arg(long, value_name = "PORT")]
    gdb: Option<NonZeroU16>,
}

/// A program and what to boot for it.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    kernel: Kernel,
    #[command(flatten)]
    equipment: Equipment,
    /// Run the program without recording
    #[arg(long)]
    no_coverage: bool,
    /// The trace file to write [default: the program's name with .linux.rkcov, in this folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Seconds after which the guest is stopped, unless it waits for gdb
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Fail if the kernel prints a warning or an error
    #[arg(long)]
    strict: bool,
    /// With --strict, accept kernel messages that contain TEXT, because the program provokes them
    #[arg(long, value_name = "TEXT", requires = "strict")]
    allow: Vec<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// A shell and what to boot for it.
#[derive(Debug, clap::Args)]
pub struct Shell {
    #[command(flatten)]
    kernel: Kernel,
    #[command(flatten)]
    equipment: Equipment,
    /// The program to run instead of a shell, and its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Reads a size of memory in MiB.
fn mebibytes(text: &str) -> Result<u32, String> {
    let (number, factor) = match text.strip_suffix(['G', 'g']) {
        Some(number) => (number, 1024),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    let number: u32 = number
        .parse()
        .map_err(|_| String::from("a number of MiB, or a number with M or G, such as 512M"))?;
    match number.checked_mul(factor) {
        Some(0) => Err(String::from("a guest needs memory")),
        Some(size) => Ok(size),
        None => Err(String::from("no machine has so much memory")),
    }
}

/// Words of the buffer: 1 Mi records.
const BUFFER_WORDS: u32 = 1 << 20;

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
                "{}: rkcov is removed, {files} files restored",
                tree.display()
            )?;
        }
        Command::Doctor(guest) => return doctor::run_linux(guest.arch),
        Command::Setup(guest) => workshop()?.setup(guest.arch, &Progress::new())?,
        Command::Build(kernel) => {
            let (workshop, progress) = (workshop()?, Progress::new());
            kernel.prepare(&workshop, &progress)?;
            let image = workshop.build(&kernel.recipe()?, &progress)?;
            writeln!(io::stdout(), "{}", image.kernel.display())?;
        }
        Command::Run(run) => return run_in_guest(run),
        Command::Shell(shell) => return shell_in_guest(shell),
        Command::Guest => rkcov_guest::main()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder in which all this is done.
pub(crate) fn workshop() -> Result<Workshop, Error> {
    Ok(Workshop::new(&cache::dir()?))
}

impl Kernel {
    /// What to build.
    fn recipe(&self) -> Result<Recipe, Error> {
        let flavor = Flavor {
            arch: self.guest.arch,
            kcov: self.kcov,
            checks: self.checks,
        };
        Ok(Recipe::new(flavor, self.tree.as_deref(), &self.config)?)
    }

    /// Installs what this machine lacks, if that is wanted.
    fn prepare(&self, workshop: &Workshop, progress: &Progress) -> Result<(), Error> {
        if self.setup {
            workshop.setup(self.guest.arch, progress)?;
        }
        Ok(())
    }
}

impl Equipment {
    /// Its processors.
    fn cpus(&self, arch: Arch) -> u32 {
        self.cpus.unwrap_or(match arch {
            Arch::X86_64 | Arch::Arm64 => 2,
            Arch::Uml => 1,
        })
    }

    /// The user's own kernel, if that is to be booted.
    fn own(&self, arch: Arch) -> Option<Own> {
        Some(Own {
            arch,
            kernel: self.kernel.clone()?,
            vmlinux: self.vmlinux.clone()?,
        })
    }

    /// Says what cannot be, before anything is built.
    fn check(&self, kernel: &Kernel, job: &Job) -> Result<(), Error> {
        let arch = kernel.guest.arch;
        initramfs::check(job, &self.with, arch)?;
        let wanted = boot::Wanted {
            memory: self.memory,
            cpus: self.cpus(arch),
            network: self.network,
            gdb: self.gdb.is_some(),
            record: job.collect.is_some(),
            share: !job.shares.is_empty(),
            modules: !self.module.is_empty(),
        };
        let own = self.own(arch);
        for module in &self.module {
            Given::of(module, own.is_some(), arch)?;
        }
        match own {
            Some(own) => own.check(wanted)?,
            None => boot::possible(&kernel.recipe()?, wanted)?,
        }
        Ok(())
    }

    /// The kernel, built if it is not there, and the modules.
    fn supply(&self, kernel: &Kernel) -> Result<Supply, Error> {
        let (workshop, progress) = (workshop()?, Progress::new());
        kernel.prepare(&workshop, &progress)?;
        let arch = kernel.guest.arch;
        let own = self.own(arch);
        let image = match &own {
            Some(own) => workshop.adopt(own, &progress)?,
            None => workshop.build(&kernel.recipe()?, &progress)?,
        };
        let shelf = Shelf::of(&image)?;
        let mut modules = Vec::new();
        for given in &self.module {
            match Given::of(given, own.is_some(), arch)? {
                Given::File(module) => modules.push(module),
                Given::Folder => {
                    let made = workshop.build_modules(&kernel.recipe()?, given, &progress)?;
                    for path in made {
                        modules.push(Module::open(&path, arch)?);
                    }
                }
                Given::Name => match shelf.get(given.as_os_str()) {
                    Some(path) => modules.push(Module::open(path, arch)?),
                    None => return Err(no_module(given, NO_NAME)),
                },
            }
        }
        Ok(Supply {
            modules: shelf.complete(modules, arch)?,
            workshop,
            image,
            progress,
        })
    }

    /// The machine to boot.
    fn machine<'a>(&'a self, workshop: &'a Workshop, image: &'a Image) -> Machine<'a> {
        Machine {
            workshop,
            image,
            memory: self.memory,
            cpus: self.cpus(image.flavor.arch),
            network: self.network,
            gdb: self.gdb,
            limit: Duration::MAX,
            strict: false,
            allowed: &[],
            clock: Clock::Host,
            parameters: &self.append,
        }
    }

    /// Boots it, passes on what the program prints, and answers what became of it.
    fn boot(&self, machine: &Machine<'_>, job: &Job) -> Result<Outcome, Error> {
        if let Some(port) = self.gdb {
            let vmlinux = machine.image.vmlinux.display();
            say(format_args!(
                "rkcov: the guest waits for gdb {vmlinux} -ex 'target remote 127.0.0.1:{port}'"
            ));
        }
        let mut outcome = Outcome::default();
        let mut printed = Ok(());
        let mut files = self.with.clone();
        files.extend_from_slice(&job.modules);
        machine.run(job, &files, |name, data| {
            let result = match name {
                answer::STDOUT => print(&mut io::stdout(), data),
                answer::STDERR => print(&mut io::stderr(), data),
                _ => {
                    outcome.take(name, data);
                    Ok(())
                }
            };
            if printed.is_ok() {
                printed = result;
            }
        })?;
        printed?;
        match outcome.error {
            Some(why) => Err(Error::Guest { why }),
            None => Ok(outcome),
        }
    }
}

/// What `--module` names.
enum Given {
    File(Module),
    /// To build modules in.
    Folder,
    /// Of a module that was built with the kernel.
    Name,
}

/// Why there is no such module.
const NO_NAME: &str =
    "there is neither such a file nor a module of this name that the kernel's configuration builds (a line as \
     CONFIG_X=m in a file for --config)";
const OWN_FOLDER: &str =
    "--kernel builds nothing: build the module against your kernel, and give its file NAME.ko";

impl Given {
    /// What is known before there is a kernel.
    fn of(given: &Path, own_kernel: bool, arch: Arch) -> Result<Self, Error> {
        let is_name = given.components().count() == 1 && given.extension().is_none();
        match fs::metadata(given) {
            Ok(found) if found.is_dir() && own_kernel => Err(no_module(given, OWN_FOLDER)),
            Ok(found) if found.is_dir() => Ok(Self::Folder),
            Ok(_) => Ok(Self::File(Module::open(given, arch)?)),
            Err(_) if is_name && !own_kernel => Ok(Self::Name),
            Err(error) => Err(no_module(given, error.to_string())),
        }
    }
}

fn no_module(given: &Path, why: impl Into<String>) -> Error {
    Error::Linux(rkcov_linux::Error::Module {
        module: given.to_owned(),
        why: why.into(),
    })
}

/// What a guest is made of.
struct Supply {
    workshop: Workshop,
    image: Image,
    modules: Vec<Module>,
    progress: Progress,
}

impl Supply {
    /// A job that has these modules, for this kernel alone.
    fn job(&self, job: Job) -> Job {
        Job {
            modules: self.modules.iter().map(|m| m.path.clone()).collect(),
            kernel: self.image.expected().map(OsString::from),
            ..job
        }
    }

    /// The modules whose files are here: those, and others that the program may load itself.
    fn known(&self, with: &[PathBuf]) -> Vec<Module> {
        let arch = self.image.flavor.arch;
        let is_module = |path: &&PathBuf| path.extension().is_some_and(|end| end == "ko");
        let more = with.iter().filter(is_module);
        let more = more.filter_map(|path| Module::open(path, arch).ok());
        self.modules.iter().cloned().chain(more).collect()
    }
}

/// Writes at once: a prompt has no end of line.
fn print(to: &mut impl Write, data: &[u8]) -> io::Result<()> {
    to.write_all(data)?;
    to.flush()
}

fn run_in_guest(run: &Run) -> Result<ExitCode, Error> {
    // What can be wrong is looked for first: a kernel takes long to build.
    let mut command = run.command.clone();
    if let Some(program) = command.first_mut() {
        *program = program::find(program)?.into();
    }
    let collect = (!run.no_coverage).then_some(BUFFER_WORDS);
    let job = Job {
        command,
        collect,
        input: Input::Pipe,
        shares: run.equipment.share.clone(),
        ..Job::default()
    };
    run.equipment.check(&run.kernel, &job)?;
    let output = run
        .output
        .clone()
        .unwrap_or_else(|| default_output(&run.command));
    if collect.is_some() {
        can_write(&output)?;
    }
    let supply = run.equipment.supply(&run.kernel)?;
    let job = supply.job(job);
    let machine = Machine {
        // Nobody knows how long somebody looks at a kernel.
        limit: match run.equipment.gdb {
            Some(_) => Duration::MAX,
            None => Duration::from_secs(run.timeout),
        },
        strict: run.strict,
        allowed: &run.allow,
        ..run.equipment.machine(&supply.workshop, &supply.image)
    };
    let outcome = run.equipment.boot(&machine, &job)?;
    if collect.is_some() {
        write_trace(&output, run, &supply, &outcome)?;
        reporter::write(Request::plain(&output, Format::Text, None))?;
        say(format_args!("rkcov: {}", outcome.summary(&output)));
    }
    Ok(ExitCode::from(outcome.status))
}

/// Folders of programs and of what they need, which the guest of a shell has as this machine has them.
const SYSTEM: [&str; 9] = [
    "/bin",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/terminfo",
    "/lib",
    "/lib32",
    "/lib64",
    "/sbin",
    "/usr",
];
/// Files that it gets: who is who, where libraries are, how a shell looks.
const FILES: [&str; 5] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/ld.so.cache",
    "/etc/bash.bashrc",
];
/// Where it starts if the folder here is not shared.
const HOME: &str = "/tmp";

fn shell_in_guest(shell: &Shell) -> Result<ExitCode, Error> {
    let terminal = io::stdin().is_terminal();
    let mut command = shell.command.clone();
    if command.is_empty() {
        if !terminal {
            return Err(Error::NoTerminal);
        }
        if shell.kernel.guest.arch == Arch::Arm64 {
            return Err(Error::NoShell);
        }
        let bash = Path::new("/bin/bash");
        let sh = if bash.exists() {
            bash
        } else {
            Path::new("/bin/sh")
        };
        command.push(sh.into());
    }
    if let Some(program) = command.first_mut() {
        *program = program::find(program)?.into();
    }
    let mut shares = shell.equipment.share.clone();
    // Programs of this machine are none of another's.
    let of_this = shell.kernel.guest.arch != Arch::Arm64;
    for folder in SYSTEM.map(PathBuf::from).into_iter().filter(|_| of_this) {
        // A share of the user's own comes first.
        let taken = shares.iter().any(|share| share.at == folder);
        match fs::canonicalize(&folder) {
            Ok(real) if !taken && real.is_dir() => shares.push(Share {
                folder: real,
                at: folder,
                read_only: true,
            }),
            _ => {}
        }
    }
    // What lies in another is mounted after it.
    shares.sort_by(|a, b| a.at.cmp(&b.at));
    let job = Job {
        command,
        collect: None,
        input: if terminal {
            Input::Terminal
        } else {
            Input::Pipe
        },
        environment: ["TERM", "COLORTERM", "LANG"]
            .into_iter()
            .filter_map(variable)
            .collect(),
        directory: Some(start(&shares)),
        shares,
        ..Job::default()
    };
    let mut files = shell.equipment.with.clone();
    files.extend(FILES.map(PathBuf::from).into_iter().filter(|f| f.is_file()));
    let equipment = Equipment {
        with: files,
        ..shell.equipment.clone()
    };
    equipment.check(&shell.kernel, &job)?;
    let supply = equipment.supply(&shell.kernel)?;
    let job = supply.job(job);
    let machine = equipment.machine(&supply.workshop, &supply.image);
    let outcome = equipment.boot(&machine, &job)?;
    Ok(ExitCode::from(outcome.status))
}

/// The folder in the guest that is this process's, if it is shared.
fn start(shares: &[Share]) -> PathBuf {
    let here = env::current_dir().and_then(fs::canonicalize);
    let inside = |share: &Share| {
        let rest = here.as_ref().ok()?.strip_prefix(&share.folder).ok()?;
        Some(share.at.join(rest))
    };
    shares
        .iter()
        .find_map(inside)
        .unwrap_or_else(|| PathBuf::from(HOME))
}

/// A variable of this process's, for the program.
fn variable(name: &str) -> Option<OsString> {
    let mut variable = OsString::from(format!("{name}="));
    variable.push(env::var_os(name)?);
    Some(variable)
}

/// What a guest said of the program.
#[derive(Default)]
struct Outcome {
    status: u8,
    coverage: Vec<Coverage>,
    /// Tasks that could not be recorded.
    missed: u64,
    /// The modules that were loaded; `None` until the guest says it, before the program runs.
    modules: Option<Seen>,
    error: Option<String>,
}

impl Outcome {
    fn take(&mut self, name: &str, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        match name {
            answer::STATUS => self.status = text.parse().unwrap_or(u8::MAX),
            answer::COVERAGE => self.coverage.extend(Coverage::decode(data)),
            answer::MISSED => self.missed = text.parse().unwrap_or(u64::MAX),
            answer::MODULES => {
                // The program runs after the first.
                let before = self.modules.is_none();
                let seen = self.modules.get_or_insert_default();
                seen.take(Modules::decode(data).unwrap_or_default(), before);
            }
            answer::ERROR => self.error = Some(text.into_owned()),
            _ => {}
        }
    }

    /// One line about what was recorded.
    fn summary(&self, output: &Path) -> String {
        let pcs: usize = self.coverage.iter().map(|c| c.records().len()).sum();
        let tasks = match self.coverage.len() {
            1 => String::from("1 task"),
            n => format!("{n} tasks"),
        };
        let missed = match self.missed {
            0 => String::new(),
            n => format!("; {n} more could not be recorded"),
        };
        format!("{pcs} PCs of {tasks} in {}{missed}", output.display())
    }
}

fn default_output(command: &[OsString]) -> PathBuf {
    let program = command.first().map_or(Path::new(""), Path::new);
    let mut name = program.file_name().unwrap_or_default().to_owned();
    name.push(".linux.rkcov");
    name.into()
}

/// Fails if no trace can be written there. What is no regular file is left alone: who reads a pipe
/// would take that for the end.
fn can_write(output: &Path) -> Result<(), Error> {
    limits_are_errors();
    if fs::metadata(output).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Ok(());
    }
    let created = Writer::create(output, &Info::new(Mode::Trace));
    created.map(drop).map_err(|source| Error::Trace {
        path: output.to_owned(),
        source,
    })
}

/// Where the kernel's modules were, as far as they are known. If they are not, the kernel's own code still is.
fn parts(run: &Run, supply: &Supply, outcome: &Outcome) -> Vec<Part> {
    let Some(seen) = &outcome.modules else {
        return Vec::new();
    };
    let known = supply.known(&run.equipment.with);
    for name in seen.unknown(&known) {
        say(format_args!(
            "rkcov: what ran of the module {} has no names: --with FILE.ko or --module FILE.ko gives its file",
            name.to_string_lossy()
        ));
    }
    let (workshop, image) = (&supply.workshop, &supply.image);
    match workshop.parts(seen, &known, image, &supply.progress) {
        Ok(parts) => parts,
        Err(error) => {
            say(format_args!(
                "rkcov: what ran of modules has no names: {error}"
            ));
            Vec::new()
        }
    }
}

/// Writes a trace whose modules are the kernel and what was loaded into it.
fn write_trace(output: &Path, run: &Run, supply: &Supply, outcome: &Outcome) -> Result<(), Error> {
    let image = &supply.image;
    let layout = image.layout()?;
    let parts = parts(run, supply, outcome);
    let mut info = Info::new(Mode::Trace);
    info.command.clone_from(&run.command);
    // What reports take for the project.
    info.directory = image.source();
    let write = || {
        let mut writer = Writer::create(output, &info)?;
        let mut processes: HashMap<u32, ProcessId> = HashMap::new();
        // The program's own process is the first of them.
        let own = outcome.coverage.iter().find(|c| c.first);
        for coverage in own.into_iter().chain(&outcome.coverage) {
            if let Entry::Vacant(entry) = processes.entry(coverage.process) {
                let mut process = trace::Process {
                    pid: coverage.process,
                    ..trace::Process::default()
                };
                if coverage.first {
                    process.command.clone_from(&run.command);
                    process.exit = Exit::Code(outcome.status.into());
                }
                entry.insert(writer.process(&process)?);
            }
        }
        writer.module(&trace::Module {
            process: None,
            path: image.vmlinux.clone(),
            build_id: BuildId(layout.build_id),
            bias: 0,
            range: layout.range,
            text: layout.text,
        })?;
        for part in parts {
            writer.module(&trace::Module {
                process: None,
                path: part.path,
                build_id: BuildId(part.build_id),
                bias: part.bias,
                range: part.range.clone(),
                text: vec![part.range],
            })?;
        }
        for coverage in &outcome.coverage {
            let mut stream = StreamInfo::new(processes[&coverage.process]);
            stream.tid = coverage.task;
            stream.main = coverage.task == coverage.process;
            stream.finished = coverage.finished;
            stream.count = coverage.words.first().copied().unwrap_or(0);
            stream.capacity = coverage.capacity;
            writer.stream(&stream, coverage.records().iter().copied())?;
        }
        writer.save()
    };
    write().map_err(|source| Error::Trace {
        path: output.to_owned(),
        source,
    })
}
