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
use crate::job::{write_initramfs, Job, INIT};
use crate::kernel::Image;
use crate::setup::Workshop;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two looks at the guest.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a kernel may take to find that it has nothing to run.
const PROBE_LIMIT: Duration = Duration::from_secs(20);
/// What of a kernel's messages is a complaint.
const COMPLAINTS: [&str; 9] = [
    "BUG: ",
    "WARNING: ",
    "Kernel panic",
    "Oops: ",
    "general protection fault",
    "possible circular locking",
    "possible recursive locking",
    "INFO: task ",
    "rcu: INFO: ",
];

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
            Arch::X86_64 => self.qemu(self.acceleration()?, &initramfs, &out, &console),
            Arch::Uml => self.uml(&initramfs, &out, &console)?,
        };
        let guest = Guest::start(&mut command)?;
        self.listen(guest, &out, &console, &mut answered)?;
        match complaint(&console) {
            Some(report) if self.strict => Err(Error::Report { report, console }),
            Some(_) => Ok(()),
            None => fs::remove_file(&console).map_err(io_error(&console)),
        }
    }

    /// Passes answers on until the guest has said its last word and ended.
    fn listen(
        &self,
        mut guest: Guest,
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
                Some(how) => {
                    let how = if complaint(console).is_some_and(|c| c.contains("panic")) {
                        String::from("panicked")
                    } else {
                        format!("ended too early ({how})")
                    };
                    return Err(Error::Died {
                        how,
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
        }
    }

    fn qemu(&self, acceleration: &str, initramfs: &Path, out: &Path, console: &Path) -> Command {
        let file = |kind: &str, path: &Path| format!("{kind}{}", path.display());
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-accel", acceleration, "-cpu", "max", "-smp", "2"])
            .args(["-m", &self.memory.to_string()])
            .arg("-kernel")
            .arg(&self.image.kernel)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-serial", &file("file:", console)])
            .args(["-device", "virtio-serial-pci"])
            .args(["-chardev", &file("file,id=out,path=", out)])
            .args(["-device", "virtserialport,chardev=out,name=rkcov"])
            .arg("-append")
            .arg(format!(
                "console=ttyS0 panic=-1 {OUT_PARAMETER}/dev/vport0p1 {} rdinit={INIT} -- linux guest",
                self.parameters
            ));
        command
    }

    fn uml(&self, initramfs: &Path, out: &Path, console: &Path) -> Result<Command> {
        let console = File::create(console).map_err(io_error(console))?;
        let mut command = Command::new(&self.image.kernel);
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

    /// Whether KVM works here, as an accelerator for QEMU: a device that is there may hang, or
    /// stop a guest at once. Found out by booting this kernel without anything to run, once for
    /// each boot of this machine.
    fn acceleration(&self) -> Result<&'static str> {
        const EMULATE: &str = "tcg,thread=multi";
        if !Path::new("/dev/kvm").exists() {
            return Ok(EMULATE);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let known = self.workshop.root().join("kvm");
        let works = match fs::read_to_string(&known) {
            Ok(text) if text.starts_with(boot.trim()) => text.ends_with("yes"),
            _ => {
                let works = self.kvm_works();
                let text = format!("{} {}", boot.trim(), if works { "yes" } else { "no" });
                fs::write(&known, text).map_err(io_error(&known))?;
                works
            }
        };
        Ok(if works { "kvm" } else { EMULATE })
    }

    fn kvm_works(&self) -> bool {
        let Ok(console) = tempfile::NamedTempFile::new() else {
            return false;
        };
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-no-reboot",
                "-display",
                "none",
            ])
            .args(["-accel", "kvm", "-cpu", "max", "-smp", "2", "-m", "512"])
            .arg("-kernel")
            .arg(&self.image.kernel)
            .args(["-append", "console=ttyS0 panic=-1"])
            .args(["-serial", &format!("file:{}", console.path().display())])
            .stderr(Stdio::null());
        let Ok(mut guest) = Guest::start(&mut command) else {
            return false;
        };
        let began = Instant::now();
        while began.elapsed() < PROBE_LIMIT {
            match guest.ended() {
                // It got as far as missing its root file system.
                Ok(Some(_)) => {
                    return complaint(console.path()).is_some_and(|c| c.contains("panic"))
                }
                Ok(None) => sleep(PAUSE),
                Err(_) => return false,
            }
        }
        false
    }
}

/// A running guest; dropping it ends it.
struct Guest(Child);

impl Guest {
    fn start(command: &mut Command) -> Result<Self> {
        let started = command.stdin(Stdio::null()).spawn();
        started.map(Self).map_err(io_error(command.get_program()))
    }

    fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.0.try_wait().map_err(io_error("the guest"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first complaint in a kernel's messages.
fn complaint(console: &Path) -> Option<String> {
    let text = fs::read(console).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .find(|l| COMPLAINTS.iter().any(|c| l.contains(c)))?;
    Some(line.trim().to_owned())
}
