// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boots a kernel with a job and listens to what the guest answers.
//!
//! The kernel's messages go to a file that is kept when something went wrong. Answers come through
//! a file of their own that grows while the guest runs: a port of a virtual serial device under
//! QEMU, a shared folder in User Mode Linux.

use crate::console::complaint;
use crate::error::{io_error, Error, Result};
use crate::flavor::Arch;
use crate::initramfs::write_initramfs;
use crate::input::Pump;
use crate::interrupt::Watch;
use crate::kernel::{Image, Recipe};
use crate::kvm::{self, Kvm, Trial};
use crate::net;
use crate::setup::Workshop;
use crate::vm::{qemu, Guest, Hardware, BOARD, PAUSE, PC};
use rkcov_guest::cpio::{Next, Reader};
use rkcov_guest::job::{Input, Job, INIT};
use rkcov_guest::{answer, Share, HOST_FILE, IN_PARAMETER, OUT_PARAMETER};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::num::NonZeroU16;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a kernel may take to its first process, with all checks and emulated on a busy machine.
const BOOT: Duration = Duration::from_secs(15 * 60);

/// What a guest takes the time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The host's clock.
    Host,
    /// What it has done: one processor, emulated if need be, on which time passes with the
    /// instructions that run (QEMU) or only while nothing does (User Mode Linux). A host that is
    /// slow or busy makes no difference to what happens in which order.
    Own,
}

/// A machine to boot.
pub struct Machine<'a> {
    /// Where its files are kept.
    pub workshop: &'a Workshop,
    /// Its kernel.
    pub image: &'a Image,
    /// Its memory in MiB.
    pub memory: u32,
    /// Its processors. User Mode Linux has one.
    pub cpus: u32,
    /// Whether it can reach what this machine can, by QEMU's user mode network.
    pub network: bool,
    /// The port of this machine at which it waits for a debugger before its first instruction.
    pub gdb: Option<NonZeroU16>,
    /// How long it may run.
    pub limit: Duration,
    /// Whether a complaint of the kernel's is a failure.
    pub strict: bool,
    /// What has one of these in it is none: the program provokes it.
    pub allowed: &'a [String],
    /// Where its time comes from.
    pub clock: Clock,
    /// More words for the kernel's command line.
    pub parameters: &'a str,
}

/// What is wanted of a machine and its kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Memory in MiB.
    pub memory: u32,
    /// Processors.
    pub cpus: u32,
    /// A network.
    pub network: bool,
    /// A debugger.
    pub gdb: bool,
    /// Records of the kernel's code.
    pub record: bool,
    /// Folders of this machine's.
    pub share: bool,
    /// Modules.
    pub modules: bool,
}

fn fail(why: String) -> Result<()> {
    Err(Error::NoSuchMachine(why))
}

/// Says what of a machine cannot be, whatever its kernel.
pub(crate) fn machine(arch: Arch, wanted: Wanted) -> Result<()> {
    let Wanted {
        memory,
        cpus,
        network,
        gdb,
        ..
    } = wanted;
    let here = memory_here();
    if here.is_some_and(|here| u64::from(memory) > here) {
        let here = here.unwrap_or_default();
        return fail(format!(
            "--memory: {memory} MiB for the guest, and this machine has {here} MiB"
        ));
    }
    if arch == Arch::Uml {
        return match (cpus, network) {
            (2.., _) => fail(format!(
                "--cpus {cpus}: User Mode Linux has one processor; take --arch x86-64 for more"
            )),
            (_, true) => fail(String::from(
                "--network: User Mode Linux has no network without a device of the host's, which rkcov does not \
                 make; take --arch x86-64",
            )),
            _ if gdb => fail(String::from(
                "--gdb: User Mode Linux is a process of this machine, which gdb starts or attaches to by itself; take \
                 --arch x86-64",
            )),
            _ => Ok(()),
        };
    }
    Ok(())
}

/// Says what of a machine cannot be, before its kernel is built.
///
/// # Errors
/// [`Error::NoSuchMachine`].
pub fn possible(recipe: &Recipe, wanted: Wanted) -> Result<()> {
    let Wanted { cpus, network, .. } = wanted;
    machine(recipe.flavor.arch, wanted)?;
    if wanted.modules && !recipe.has_modules() {
        return fail(String::from(
            "--module: this kernel is built without modules; a file for --config with the line CONFIG_MODULES=y \
             changes that",
        ));
    }
    if recipe.flavor.arch == Arch::Uml {
        return Ok(());
    }
    let most = recipe.value("CONFIG_NR_CPUS").and_then(|n| n.parse().ok());
    match most {
        Some(most) if cpus > most => fail(format!(
            "--cpus {cpus}: this kernel is built for at most {most}; a file for --config with the line \
             CONFIG_NR_CPUS={cpus} changes that"
        )),
        _ if network && recipe.value("CONFIG_VIRTIO_NET").as_deref() != Some("y") => {
            fail(String::from(
                "--network: this kernel is built without a network; take --checks plain or rt, or a file for --config \
                 with the lines CONFIG_INET=y, CONFIG_NETDEVICES=y, CONFIG_NET_CORE=y, CONFIG_VIRTIO_NET=y and \
                 CONFIG_IP_PNP=y",
            ))
        }
        _ => Ok(()),
    }
}

/// The memory of this machine in MiB, if it says so.
fn memory_here() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024)
}

impl Machine<'_> {
    /// Boots, does the job with `files` at hand, and calls `answered` with each answer as it comes:
    /// its name and data, see [`answer`].
    ///
    /// # Errors
    /// The guest could not be started, panicked, hung, or ended early; its console is named.
    pub fn run(
        &self,
        job: &Job,
        files: &[PathBuf],
        mut answered: impl FnMut(&str, &[u8]),
    ) -> Result<()> {
        let watch = Watch::begin();
        let folder = tempfile::Builder::new()
            .prefix("rkcov-guest-")
            .tempdir()
            .map_err(io_error("the temporary folder"))?;
        let initramfs = folder.path().join("initramfs");
        let more: &[(&str, &str)] = if self.network {
            &[("/etc/resolv.conf", net::RESOLVER)]
        } else {
            &[]
        };
        write_initramfs(&initramfs, job, files, more, self.image.init.as_deref())?;
        let out = folder.path().join("out");
        File::create(&out).map_err(io_error(&out))?;

        let name = format!("console-{}-{}.log", self.image.flavor, std::process::id());
        let console = self.workshop.logs()?.join(name);
        let mut command = match self.image.flavor.arch {
            Arch::X86_64 => self.qemu(PC, job, &initramfs, &out, &console)?,
            Arch::Arm64 => self.qemu(BOARD, job, &initramfs, &out, &console)?,
            Arch::Uml => self.uml(&initramfs, &out, &console)?,
        };
        let input = match job.input {
            Input::Nothing => Stdio::null(),
            Input::Pipe | Input::Terminal => Stdio::piped(),
        };
        let guest = Guest::start(&mut command, input)?;
        self.listen(guest, job.input, &watch, &out, &console, &mut answered)?;
        match complaint(&console, self.allowed) {
            Some(report) if self.strict => Err(Error::Report { report, console }),
            Some(_) => Ok(()),
            None => fs::remove_file(&console).map_err(io_error(&console)),
        }
    }

    /// Passes answers on until the guest has said its last word and ended.
    fn listen(
        &self,
        mut guest: Guest,
        input: Input,
        watch: &Watch,
        out: &Path,
        console: &Path,
        answered: &mut impl FnMut(&str, &[u8]),
    ) -> Result<()> {
        let began = Instant::now();
        let mut file = File::open(out).map_err(io_error(out))?;
        let mut reader = Reader::default();
        let (mut begun, mut complete) = (false, false);
        let mut pump = None;
        loop {
            // Asked before reading: what a guest wrote before its end is read after it.
            let ended = guest.ended()?;
            reader.feed(&mut file).map_err(io_error(out))?;
            loop {
                match reader.next_entry().map_err(io_error(out))? {
                    Next::Entry(name, _) if name == answer::READY => {
                        let to = guest
                            .input()
                            .map(|to| Pump::start(to, input == Input::Terminal));
                        pump = to.transpose().map_err(io_error("standard input"))?;
                    }
                    Next::Entry(name, _) if name == answer::BEGUN => begun = true,
                    Next::Entry(name, data) => answered(&name, &data),
                    Next::End => complete = true,
                    Next::More => break,
                }
            }
            // A debugger may stop the kernel before it comes so far.
            let limit = if begun || self.gdb.is_some() {
                self.limit
            } else {
                self.limit.min(BOOT)
            };
            match ended {
                Some(_) if complete => return Ok(()),
                Some(status) => {
                    return Err(Error::Died {
                        how: self.early_end(status, console),
                        console: console.to_owned(),
                    });
                }
                None if began.elapsed() > limit => {
                    return Err(Error::Hang {
                        limit,
                        begun,
                        console: console.to_owned(),
                    });
                }
                None => sleep(PAUSE),
            }
            if let Some(signal) = watch.signal() {
                return Err(Error::Interrupted {
                    signal,
                    console: console.to_owned(),
                });
            }
            if pump.as_ref().is_some_and(Pump::left) {
                return Err(Error::Left {
                    console: console.to_owned(),
                });
            }
        }
    }

    /// How a guest ended that had not come to its end.
    fn early_end(&self, status: ExitStatus, console: &Path) -> String {
        /// What a kernel says that has too little of it.
        const NO_MEMORY: [&str; 4] = [
            "Out of memory",
            ": Failed to allocate",
            "deadlocked on memory",
            "Initramfs unpacking failed: write error",
        ];
        let text = fs::read(console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if NO_MEMORY.iter().any(|words| text.contains(words)) {
            format!("had too little memory ({} MiB)", self.memory)
        } else if complaint(console, &[]).is_some_and(|c| c.contains("panic")) {
            String::from("panicked")
        } else {
            format!("ended too early ({status})")
        }
    }

    fn qemu(
        &self,
        hardware: Hardware,
        job: &Job,
        initramfs: &Path,
        out: &Path,
        console: &Path,
    ) -> Result<Command> {
        let acceleration = match (self.clock, self.image.flavor.arch) {
            (Clock::Host, Arch::X86_64) => self.acceleration()?,
            (Clock::Host, _) => "tcg,thread=multi",
            (Clock::Own, _) => "tcg,thread=single",
        };
        let size = (self.memory, self.cpus);
        let kernel = &self.image.kernel;
        let mut command = qemu(hardware, acceleration, size, kernel, console);
        if self.clock == Clock::Own {
            command.args([
                "-smp",
                "1",
                "-icount",
                "shift=0,sleep=off",
                "-rtc",
                "base=2025-01-01T00:00:00,clock=vm",
                "-seed",
                "1",
            ]);
        }
        command
            .arg("-initrd")
            .arg(initramfs)
            .args(["-device", "virtio-serial-pci"])
            .args(["-chardev", &format!("file,id=out,path={}", out.display())])
            .args(["-device", "virtserialport,nr=1,chardev=out,name=rkcov"])
            .args(["-chardev", "stdio,id=in,signal=off"])
            .args(["-device", "virtserialport,nr=2,chardev=in,name=rkcov.in"]);
        for (number, share) in job.shares.iter().enumerate() {
            let tag = Share::tag(number);
            let mut device = OsString::from(format!(
                "local,id={tag},security_model=none,multidevs=remap"
            ));
            if share.read_only {
                device.push(",readonly=on");
            }
            device.push(",path=");
            device.push(quoted(share.folder.as_os_str()));
            command.arg("-fsdev").arg(device);
            let device = format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}");
            command.args(["-device", &device]);
        }
        let mut network = String::new();
        if self.network {
            let device = "virtio-net-pci,netdev=net,romfile=";
            command.args(["-netdev", net::DEVICE, "-device", device]);
            network = net::parameter(self.parameters);
        }
        let mut fixed = "";
        if let Some(port) = self.gdb {
            command.args(["-S", "-gdb", &format!("tcp:127.0.0.1:{port}")]);
            // A debugger looks for the kernel where the linker put it.
            fixed = "nokaslr";
        }
        // It would make an output that it shares with this process fail instead of wait.
        command.stdout(Stdio::null());
        command.arg("-append").arg(format!(
            "console={} panic=-1 {OUT_PARAMETER}/dev/vport0p1 {IN_PARAMETER}/dev/vport0p2 {network} {fixed} {} \
             rdinit={INIT} -- linux guest",
            hardware.console, self.parameters
        ));
        Ok(command)
    }

    fn uml(&self, initramfs: &Path, out: &Path, console: &Path) -> Result<Command> {
        let console = File::create(console).map_err(io_error(console))?;
        let mut command = Command::new(&self.image.kernel);
        if self.clock == Clock::Own {
            command.arg("time-travel=inf-cpu");
        }
        command
            .arg(format!("mem={}M", self.memory))
            .arg(format!("initrd={}", initramfs.display()))
            .args(["con0=null,fd:1", "con=null", "panic=-1"])
            // Else it would add these, behind the words that are for the first process.
            .args(["root=none", "console=tty0"])
            .arg(format!("{OUT_PARAMETER}{HOST_FILE}{}", out.display()))
            // What this process tells it comes by a serial line.
            .args(["ssl=null", "ssl0=fd:0,null"])
            .arg(format!("{IN_PARAMETER}/dev/ttyS0"))
            .args(self.parameters.split_whitespace())
            .arg(format!("rdinit={INIT}"))
            .args(["--", "linux", "guest"])
            .stdout(console.try_clone().map_err(io_error("console"))?)
            .stderr(console);
        Ok(command)
    }

    /// What QEMU is told: KVM if it works, else emulation.
    fn acceleration(&self) -> Result<&'static str> {
        let known = self.workshop.known_kvm();
        let trial = Trial {
            kernel: &self.image.kernel,
            own: self.image.is_own(),
        };
        Ok(match kvm::look(&known, Some(trial))? {
            Kvm::Works => "kvm",
            _ => "tcg,thread=multi",
        })
    }
}

/// A value among QEMU's options, where a comma separates them.
fn quoted(value: &OsStr) -> OsString {
    let double = |byte: &u8| std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 });
    OsString::from_vec(value.as_bytes().iter().flat_map(double).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flavor::{Checks, Flavor, Kcov};
    use crate::interrupt::alone;
    use rkcov_guest::cpio::{Kind, Writer};
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    /// A workshop whose kernel for User Mode Linux is a script, which is all that this side of a
    /// guest can tell.
    struct Lab {
        folder: TempDir,
        workshop: Workshop,
        image: Image,
    }

    impl Lab {
        fn new() -> Self {
            let folder = TempDir::new().unwrap();
            let workshop = Workshop::new(folder.path());
            let flavor = Flavor {
                arch: Arch::Uml,
                kcov: Kcov::Rust,
                checks: Checks::Plain,
            };
            let image = Image::below(folder.path(), flavor);
            fs::create_dir_all(image.kernel.parent().unwrap()).unwrap();
            Self {
                folder,
                workshop,
                image,
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Boots a kernel that does this; in `$out` is where answers go, in `$here` the folder.
        fn boot(&self, script: &str, answered: impl FnMut(&str, &[u8])) -> Result<()> {
            let here = self.folder.path().display();
            let text = format!(
                "#!/bin/sh\n\
                 for word; do case $word in {OUT_PARAMETER}hostfs:*) out=${{word#*:}};; esac; done\n\
                 here={here}\n\
                 echo \"$out\" >$here/out\n\
                 echo Linux version 0\n\
                 {script}\n"
            );
            fs::write(&self.image.kernel, text).unwrap();
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&self.image.kernel, mode).unwrap();
            let machine = Machine {
                workshop: &self.workshop,
                image: &self.image,
                memory: 64,
                cpus: 1,
                network: false,
                gdb: None,
                limit: Duration::from_secs(if script.contains("# hangs") { 2 } else { 120 }),
                strict: false,
                allowed: &[],
                clock: Clock::Host,
                parameters: "",
            };
            let ended = machine.run(&Job::default(), &[], answered);
            let out = fs::read_to_string(self.path("out")).unwrap();
            let files = Path::new(out.trim()).parent().unwrap().to_owned();
            assert!(!files.exists(), "{files:?} is left");
            ended
        }

        /// The error of such a boot: its status and message. The console is kept where it says.
        fn fails(&self, script: &str) -> (u8, String) {
            let error = self.boot(script, |_, _| {}).unwrap_err();
            let message = error.to_string();
            let logs = self.workshop.logs().unwrap();
            let entries = fs::read_dir(&logs).unwrap();
            let consoles: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
            let [console] = &consoles[..] else {
                panic!("{consoles:?}");
            };
            assert!(
                message.contains(&*console.display().to_string()),
                "{message}"
            );
            let text = fs::read_to_string(console).unwrap();
            assert!(text.starts_with("Linux version 0\n"), "{text}");
            fs::remove_file(console).unwrap();
            (error.exit_status(), message)
        }

        /// Whether the process that wrote its number to this file runs.
        fn runs(&self, file: &str) -> bool {
            let number = fs::read_to_string(self.path(file)).unwrap();
            let stat = fs::read_to_string(format!("/proc/{}/stat", number.trim()));
            // Behind the name in parentheses stands the state.
            stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with(['Z', 'X']))
        }

        fn ends(&self, file: &str) {
            let began = Instant::now();
            while self.runs(file) {
                assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "{file} still runs"
                );
                sleep(PAUSE);
            }
        }
    }

    #[test]
    fn what_no_machine_has_is_said_with_what_to_do() {
        let recipe = |arch, checks, config: &str| Recipe {
            flavor: Flavor {
                arch,
                kcov: Kcov::Rust,
                checks,
            },
            tree: None,
            config: config.to_owned(),
        };
        let uml = recipe(Arch::Uml, Checks::Plain, "");
        let pc = recipe(Arch::X86_64, Checks::Plain, "");
        let kasan = recipe(Arch::X86_64, Checks::Kasan, "");
        let more = recipe(Arch::X86_64, Checks::Plain, "CONFIG_NR_CPUS=65");
        let net = recipe(Arch::X86_64, Checks::Kasan, "CONFIG_VIRTIO_NET=y");
        let wanted = |cpus, network| Wanted {
            memory: 64,
            cpus,
            network,
            ..Wanted::default()
        };
        for (recipe, wanted) in [
            (&uml, wanted(1, false)),
            (&pc, wanted(2, true)),
            (&kasan, wanted(2, false)),
            (&more, wanted(65, false)),
            (&net, wanted(2, true)),
        ] {
            possible(recipe, wanted).unwrap();
        }
        let one = wanted(1, false);
        let (memory, gdb) = (u32::MAX, true);
        for (recipe, wanted, why) in [
            (&uml, Wanted { memory, ..one }, "and this machine has "),
            (&uml, Wanted { gdb, ..one }, "take --arch x86-64"),
            (&uml, wanted(2, false), "take --arch x86-64"),
            (&uml, wanted(1, true), "take --arch x86-64"),
            (&pc, wanted(3, false), "CONFIG_NR_CPUS=3"),
            (&kasan, wanted(2, true), "--checks plain or rt"),
        ] {
            let error = possible(recipe, wanted).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_comma_is_part_of_a_value() {
        assert_eq!(quoted(OsStr::new("/a,b,,c")), "/a,,b,,,,c");
    }

    /// A guest's own program, which would outlive it.
    const CHILD: &str = "sleep 600 & echo $! >$here/child; wait";

    #[test]
    fn what_a_guest_answers_is_heard_and_nothing_is_left() {
        let _alone = alone();
        let lab = Lab::new();
        let mut archive = Writer::new(Vec::new());
        archive.add("stdout", Kind::File, b"hello").unwrap();
        archive.add("status", Kind::File, b"0").unwrap();
        fs::write(lab.path("archive"), archive.finish().unwrap()).unwrap();
        let mut heard = Vec::new();
        lab.boot("cat $here/archive >$out", |name, data| {
            heard.push((name.to_owned(), data.to_vec()));
        })
        .unwrap();
        let expected = [("stdout", &b"hello"[..]), ("status", b"0")];
        assert_eq!(heard, expected.map(|(n, d)| (n.to_owned(), d.to_vec())));
        let kept: Vec<_> = fs::read_dir(lab.workshop.logs().unwrap())
            .unwrap()
            .collect();
        assert!(kept.is_empty(), "{kept:?}");
    }

    #[test]
    fn a_guest_that_ends_early_is_said_with_the_reason() {
        let _alone = alone();
        let lab = Lab::new();
        for (script, reason) in [
            ("exit 3", "the guest ended too early (exit status: 3)"),
            ("kill -SEGV $$", "the guest ended too early (signal: 11"),
            (
                "echo 'Kernel panic - not syncing: why'; exit 1",
                "the guest panicked; its console is in ",
            ),
            (
                "echo 'Kernel panic - not syncing: uml_load_file: Failed to allocate 9 bytes'",
                "the guest had too little memory (64 MiB); its console is in ",
            ),
            (
                "echo 'Kernel panic - not syncing: System is deadlocked on memory'; exit 1",
                "the guest had too little memory (64 MiB); its console is in ",
            ),
        ] {
            let (status, message) = lab.fails(script);
            assert!(message.starts_with(reason), "{message}");
            assert!(message.contains("\n  | Linux version 0"), "{message}");
            assert_eq!(status, 1);
        }
    }

    #[test]
    fn a_guest_that_hangs_is_ended_with_all_that_it_started() {
        let _alone = alone();
        let lab = Lab::new();
        let (status, message) = lab.fails(&format!("{CHILD} # hangs"));
        let reason = "the guest had not started its first process after 2 s; its console is in ";
        assert!(message.starts_with(reason), "{message}");
        assert_eq!(status, 1);
        lab.ends("child");
    }

    #[test]
    fn a_signal_ends_the_guest_with_all_that_it_started() {
        let _alone = alone();
        for (signal, number) in [("INT", 2), ("TERM", 15)] {
            let lab = Lab::new();
            let script = format!("(sleep 1; kill -{signal} $PPID) & {CHILD}");
            let (status, message) = lab.fails(&script);
            let reason = format!("interrupted by signal {number}; the guest is ended");
            assert!(message.starts_with(&reason), "{message}");
            assert_eq!(status, 128 + number);
            lab.ends("child");
        }
    }
}
