// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boots a kernel with a job and listens to what the guest answers.
//!
//! The kernel's messages go to a file that is kept when something went wrong. Answers come through
//! a file of their own that grows while the guest runs: a port of a virtual serial device under
//! QEMU, a shared folder in User Mode Linux.

use crate::cpio::{Next, Reader};
use crate::error::{io_error, Error, Result};
use crate::flavor::Arch;
use crate::guest::OUT_PARAMETER;
use crate::interrupt::Watch;
use crate::job::{write_initramfs, Job, INIT};
use crate::kernel::Image;
use crate::kvm::{self, Kvm};
use crate::setup::Workshop;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two looks at the guest.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// What of a kernel's messages is a complaint.
const COMPLAINTS: [&str; 11] = [
    "BUG: ",
    "WARNING: ",
    "Kernel panic",
    "Oops: ",
    "general protection fault",
    "possible circular locking",
    "possible recursive locking",
    "INFO: task ",
    "rcu: INFO: ",
    // What a guest copies from kmemleak; the kernel itself counts those of the boot, too.
    "unreferenced object",
    // And so no longer looks for any.
    "memory leak detector disabled",
];

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

impl Machine<'_> {
    /// Boots, does the job with `files` at hand, and calls `answered` with each answer as it comes:
    /// its name and data, see [`answer`](crate::job::answer).
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
        write_initramfs(&initramfs, job, files)?;
        let out = folder.path().join("out");
        File::create(&out).map_err(io_error(&out))?;

        let name = format!("console-{}-{}.log", self.image.flavor, std::process::id());
        let console = self.workshop.logs()?.join(name);
        let mut command = match self.image.flavor.arch {
            Arch::X86_64 => self.qemu(&initramfs, &out, &console)?,
            Arch::Uml => self.uml(&initramfs, &out, &console)?,
        };
        let guest = Guest::start(&mut command)?;
        self.listen(guest, &watch, &out, &console, &mut answered)?;
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
        watch: &Watch,
        out: &Path,
        console: &Path,
        answered: &mut impl FnMut(&str, &[u8]),
    ) -> Result<()> {
        let began = Instant::now();
        let mut file = File::open(out).map_err(io_error(out))?;
        let mut reader = Reader::default();
        let mut complete = false;
        loop {
            // Asked before reading: what a guest wrote before its end is read after it.
            let ended = guest.ended()?;
            reader.feed(&mut file).map_err(io_error(out))?;
            loop {
                match reader.next_entry().map_err(io_error(out))? {
                    Next::Entry(name, data) => answered(&name, &data),
                    Next::End => complete = true,
                    Next::More => break,
                }
            }
            match ended {
                Some(_) if complete => return Ok(()),
                Some(status) => {
                    return Err(Error::Died {
                        how: self.early_end(status, console),
                        console: console.to_owned(),
                    });
                }
                None if began.elapsed() > self.limit => {
                    return Err(Error::Hang {
                        limit: self.limit,
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

    fn qemu(&self, initramfs: &Path, out: &Path, console: &Path) -> Result<Command> {
        let acceleration = match self.clock {
            Clock::Host => self.acceleration()?,
            Clock::Own => "tcg,thread=single",
        };
        let mut command = qemu(acceleration, self.memory, &self.image.kernel, console);
        if self.clock == Clock::Own {
            command.args([
                "-smp",
                "1",
                "-icount",
                "shift=0,sleep=off",
                "-rtc",
                "clock=vm",
            ]);
        }
        command
            .arg("-initrd")
            .arg(initramfs)
            .args(["-device", "virtio-serial-pci"])
            .args(["-chardev", &format!("file,id=out,path={}", out.display())])
            .args(["-device", "virtserialport,chardev=out,name=rkcov"])
            .arg("-append")
            .arg(format!(
                "console=ttyS0 panic=-1 {OUT_PARAMETER}/dev/vport0p1 {} rdinit={INIT} -- linux guest",
                self.parameters
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
            .args(["con0=fd:0,fd:1", "con=null", "ssl=null", "panic=-1"])
            // Else it would add these, behind the words that are for the first process.
            .args(["root=none", "console=tty0"])
            .arg(format!("{OUT_PARAMETER}hostfs:{}", out.display()))
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
        Ok(match kvm::look(&known, Some(&self.image.kernel))? {
            Kvm::Works => "kvm",
            _ => "tcg,thread=multi",
        })
    }
}

/// A PC with nothing but a processor, memory, a kernel and a console.
pub(crate) fn qemu(acceleration: &str, memory: u32, kernel: &Path, console: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    // This machine's ACPI has its interrupts in tables. The older one computes them, in a loop that a debugging kernel
    // under emulation may give up.
    command
        .args([
            "-machine",
            "q35",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
        ])
        .args(["-display", "none", "-accel", acceleration])
        .args(["-cpu", "max", "-smp", "2", "-m", &memory.to_string()])
        .arg("-kernel")
        .arg(kernel)
        .args(["-serial", &format!("file:{}", console.display())]);
    command
}

/// A running guest; dropping it ends it.
pub(crate) struct Guest(Child);

impl Guest {
    /// Starts it in a process group of its own, which the terminal's signals do not reach: whoever
    /// starts it ends it. If nobody is left who could, the kernel does.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let end_with_us = || {
            // SAFETY: one system call without addresses, allowed between fork and exec.
            match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: as its own comment says.
        unsafe { command.pre_exec(end_with_us) };
        let started = command.process_group(0).stdin(Stdio::null()).spawn();
        started.map(Self).map_err(io_error(command.get_program()))
    }

    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().map_err(io_error("the guest"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            // SAFETY: a number that is its group's until it has been waited for.
            unsafe { libc::kill(-(self.0.id() as libc::pid_t), libc::SIGKILL) };
        }
        let _ = self.0.wait();
    }
}

/// The first complaint in a kernel's messages.
pub(crate) fn complaint(console: &Path, allowed: &[String]) -> Option<String> {
    let text = fs::read(console).ok()?;
    complains(&String::from_utf8_lossy(&text), allowed)
}

fn complains(messages: &str, allowed: &[String]) -> Option<String> {
    let lines: Vec<&str> = messages.lines().collect();
    let is_complaint = |(at, line): &(usize, &&str)| {
        COMPLAINTS.iter().any(|c| line.contains(c))
            && !allowed.iter().any(|a| line.contains(a))
            && !is_race_of_others(&lines[*at..])
    };
    let (_, line) = lines.iter().enumerate().find(is_complaint)?;
    Some(line.trim().to_owned())
}

/// Whether this is a report of a data race in which kcov has no part. Linux has such races.
fn is_race_of_others(report: &[&str]) -> bool {
    let end = |line: &&str| line.contains("======");
    report[0].contains("BUG: KCSAN: ")
        && !report
            .iter()
            .take_while(|l| !end(l))
            .any(|l| l.contains("kcov"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::{Kind, Writer};
    use crate::flavor::{Checks, Flavor, Kcov};
    use crate::interrupt::alone;
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
                limit: Duration::from_secs(if script.contains("# hangs") { 2 } else { 120 }),
                strict: false,
                allowed: &[],
                clock: Clock::Host,
                parameters: "",
            };
            let job = Job {
                command: Vec::new(),
                collect: None,
            };
            let ended = machine.run(&job, &[], answered);
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
        let reason = "the guest was still running after 2 s; its console is in ";
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

    #[test]
    fn what_is_not_allowed_is_a_complaint() {
        let provoked =
            "[ 1.0] WARNING: CPU: 0 PID: 7 at kernel/rkcov/shim.c:107 rkcov_warn+0x1f/0x30\n";
        let locks = "[ 2.0] WARNING: possible circular locking dependency detected";
        let leaks = "[ 3.0] unreferenced object 0xffff888003c4a800 (size 64):";
        let allowed = ["rkcov_warn".to_owned()];
        assert_eq!(complains("[ 0.0] hello\n", &[]), None);
        assert_eq!(complains(provoked, &[]), Some(provoked.trim().into()));
        assert_eq!(complains(provoked, &allowed), None);
        let race = |of: &str| {
            format!(
                "[ 4.0] BUG: KCSAN: data-race in {of} / seq_putc\n[ 4.0] write to 0xff of 8 bytes by task 7 on cpu 1:\n\
                 [ 4.1]  {of}+0xac/0x190\n[ 4.2] ==================================\n[ 4.3] kcov: self test\n"
            )
        };
        assert_eq!(complains(&race("detach_pid"), &[]), None);
        let ours = race("kcov_open");
        assert_eq!(
            complains(&ours, &[]),
            Some(ours.lines().next().unwrap().into())
        );
        for complaint in [locks, leaks] {
            let messages = format!("{provoked}{complaint}\n");
            assert_eq!(complains(&messages, &allowed), Some(complaint.into()));
        }
    }
}
