// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a guest can use KVM here. A device that is there may hang, or stop a guest at once, so it
//! is tried: a kernel is booted without anything to run, once for each boot of this machine.

use crate::console::complaint;
use crate::error::{io_error, Result};
use crate::vm::{qemu, Guest, PAUSE, PC};
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

const DEVICE: &str = "/dev/kvm";
/// How long a kernel may take to find that it has nothing to run.
const LIMIT: Duration = Duration::from_secs(20);

/// What is known of KVM on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kvm {
    /// There is no device.
    Absent,
    /// There is one, but not for this user.
    Denied,
    /// A guest did not come to its end with it.
    Fails,
    /// A guest ran with it.
    Works,
    /// There is one, and no kernel to try it with.
    Untried,
}

/// A kernel to try KVM with.
#[derive(Clone, Copy)]
pub(crate) struct Trial<'a> {
    pub(crate) kernel: &'a Path,
    /// Whether the user built it: if it does not come to its end, that may be its own fault.
    pub(crate) own: bool,
}

/// What is known, and with a kernel, found out. The answer is kept in `known`.
pub(crate) fn look(known: &Path, trial: Option<Trial<'_>>) -> Result<Kvm> {
    if !Path::new(DEVICE).exists() {
        return Ok(Kvm::Absent);
    }
    if File::options().read(true).write(true).open(DEVICE).is_err() {
        return Ok(Kvm::Denied);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let works = match (fs::read_to_string(known), trial) {
        (Ok(text), _) if text.starts_with(boot.trim()) => text.ends_with("yes"),
        (_, None) => return Ok(Kvm::Untried),
        (_, Some(trial)) => {
            let works = works(trial.kernel);
            if works || !trial.own {
                let text = format!("{} {}", boot.trim(), if works { "yes" } else { "no" });
                fs::write(known, text).map_err(io_error(known))?;
            }
            works
        }
    };
    Ok(if works { Kvm::Works } else { Kvm::Fails })
}

fn works(kernel: &Path) -> bool {
    let Ok(console) = tempfile::NamedTempFile::new() else {
        return false;
    };
    let mut command = qemu(PC, "kvm", (512, 2), kernel, console.path());
    command
        .args(["-append", "console=ttyS0 panic=-1"])
        .stderr(Stdio::null());
    let Ok(mut guest) = Guest::start(&mut command, Stdio::null()) else {
        return false;
    };
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        match guest.ended() {
            // It got as far as missing its root file system.
            Ok(Some(_)) => {
                return complaint(console.path(), &[]).is_some_and(|c| c.contains("panic"))
            }
            Ok(None) => sleep(PAUSE),
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_booted_does_not_work_and_that_is_kept() {
        let dir = tempfile::TempDir::new().unwrap();
        let known = dir.path().join("kvm");
        let there = look(&known, None).unwrap();
        if matches!(there, Kvm::Absent | Kvm::Denied) {
            return;
        }
        assert_eq!(there, Kvm::Untried);
        // No kernel, and perhaps no QEMU.
        let nothing = dir.path().join("nothing");
        let trial = |own| Trial {
            kernel: &nothing,
            own,
        };
        assert_eq!(look(&known, Some(trial(true))).unwrap(), Kvm::Fails);
        assert_eq!(look(&known, None).unwrap(), Kvm::Untried);
        assert_eq!(look(&known, Some(trial(false))).unwrap(), Kvm::Fails);
        assert_eq!(look(&known, None).unwrap(), Kvm::Fails);
        fs::write(&known, "another boot yes").unwrap();
        assert_eq!(look(&known, None).unwrap(), Kvm::Untried);
    }
}
