// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which processes there are now.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// How much later than a process came it may seem to have begun: clocks tick coarsely.
const SLACK: Duration = Duration::from_secs(2);

/// The processes that have not ended, as `/proc` shows them at one moment.
#[derive(Debug, Default)]
pub(super) struct Alive {
    /// When each began, since the epoch, by its namespace and its number there.
    began: HashMap<(u64, u32), Duration>,
    /// Those that have our memory in theirs.
    joined: Vec<(u64, u32)>,
}

impl Alive {
    /// Looks at all processes. `own` is our namespace of process ids, `memory` the inode of our memory.
    pub(super) fn now(own: u64, memory: u64) -> Self {
        let mut alive = Self::default();
        let Some(booted) = boot_time() else {
            return alive;
        };
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids {
            let Some(began) = began(pid) else { continue };
            // Of another user's process this cannot be seen; most are in ours.
            let namespace = fs::metadata(format!("/proc/{pid}/ns/pid")).map_or(own, |m| m.ino());
            let inside = if namespace == own {
                Some(pid)
            } else {
                number_inside(pid)
            };
            if let Some(inside) = inside {
                alive.began.insert((namespace, inside), booted + began);
                if has_mapped(pid, memory) {
                    alive.joined.push((namespace, inside));
                }
            }
        }
        alive
    }

    /// How many have our memory and are not in `known`: a process that was just forked is not in the
    /// table yet.
    pub(super) fn newcomers(&self, known: impl Fn(&(u64, u32)) -> bool) -> usize {
        self.joined.iter().filter(|one| !known(one)).count()
    }

    /// Whether the process that came at `since` is among them. Its number may be another one's now.
    pub(super) fn has(&self, namespace: u64, pid: u32, since: Duration) -> bool {
        let began = self.began.get(&(namespace, pid));
        began.is_some_and(|began| *began <= since + SLACK)
    }
}

/// Whether a process has the memory with this inode in its own. Only one that inherited it is asked:
/// others are in the table, or soon gone.
fn has_mapped(pid: u32, memory: u64) -> bool {
    let inherited = format!("/proc/{pid}/fd/{}", rkcov_region::INHERITED_FD);
    if fs::metadata(inherited).map_or(true, |meta| meta.ino() != memory) {
        return false;
    }
    let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let link = rkcov_region::LINK;
    maps.windows(link.len()).any(|part| part == link)
}

/// When the machine was started, since the epoch.
fn boot_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok().map(Duration::from_secs)
}

/// How long after the start of the machine a process began that has not ended.
fn began(pid: u32) -> Option<Duration> {
    /// What the kernel counts in, on every machine that we know.
    const TICKS: u64 = 100;
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name may have anything in it.
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let ticks: u64 = fields.nth(18)?.parse().ok()?;
    let ended = ["Z", "X"].contains(&state);
    (!ended).then(|| Duration::from_millis(ticks.saturating_mul(1000 / TICKS)))
}

/// The number of a process in its own namespace.
fn number_inside(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn the_living_are_told_from_zombies_and_from_those_with_the_same_number() {
        let own = fs::metadata("/proc/self/ns/pid").unwrap().ino();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let me = std::process::id();
        let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        let zombie = child.id();
        while began(zombie).is_some() {
            std::thread::yield_now();
        }
        let alive = Alive::now(own, 0);
        assert!(alive.has(own, me, now));
        assert!(
            !alive.has(own, me, Duration::from_secs(1)),
            "we are younger"
        );
        assert!(!alive.has(own + 1, me, now));
        assert!(!alive.has(own, zombie, now));
        child.wait().unwrap();
    }
}
