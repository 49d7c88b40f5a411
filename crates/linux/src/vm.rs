// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process that a guest runs in: QEMU or User Mode Linux.

use crate::error::{io_error, Result};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Between two looks at the guest.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// A machine that QEMU can be.
#[derive(Clone, Copy)]
pub(crate) struct Hardware {
    emulator: &'static str,
    machine: &'static str,
    processor: &'static str,
    /// What the kernel calls its serial line.
    pub(crate) console: &'static str,
}

/// A PC. This machine's ACPI has its interrupts in tables. The older one computes them, in a loop that a
/// debugging kernel under emulation may give up.
pub(crate) const PC: Hardware = Hardware {
    emulator: "qemu-system-x86_64",
    machine: "q35",
    processor: "max",
    console: "ttyS0",
};

/// A board with arm64 processors. One of the simplest is quick to emulate.
pub(crate) const BOARD: Hardware = Hardware {
    emulator: "qemu-system-aarch64",
    machine: "virt",
    processor: "cortex-a72",
    console: "ttyAMA0",
};

/// Such a machine with nothing but a processor, memory, a kernel and a console.
pub(crate) fn qemu(
    hardware: Hardware,
    acceleration: &str,
    (memory, cpus): (u32, u32),
    kernel: &Path,
    console: &Path,
) -> Command {
    let mut command = Command::new(hardware.emulator);
    command
        .args([
            "-machine",
            hardware.machine,
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
        ])
        .args(["-display", "none", "-accel", acceleration])
        .args(["-cpu", hardware.processor, "-smp", &cpus.to_string()])
        .args(["-m", &memory.to_string()])
        .arg("-kernel")
        .arg(kernel)
        .args(["-serial", &format!("file:{}", console.display())]);
    command
}

/// A running guest; dropping it ends it.
pub(crate) struct Guest(Child);

impl Guest {
    /// Starts it in a process group of its own, which the terminal's signals do not reach: whoever
    /// starts it ends it. If nobody is left who could, the kernel does. `input` is its standard input.
    pub(crate) fn start(command: &mut Command, input: Stdio) -> Result<Self> {
        let end_with_us = || {
            // SAFETY: one system call without addresses, allowed between fork and exec.
            match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: as its own comment says.
        unsafe { command.pre_exec(end_with_us) };
        let started = command.process_group(0).stdin(input).spawn();
        started.map(Self).map_err(io_error(command.get_program()))
    }

    /// The other end of its standard input, if that is a pipe and nobody has taken it.
    pub(crate) fn input(&mut self) -> Option<ChildStdin> {
        self.0.stdin.take()
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
