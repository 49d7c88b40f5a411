// SPDX-License-Identifier: MIT OR Apache-2.0
//! Complaints among the messages of a guest's kernel: warnings, panics, leaks.

use std::fs;
use std::path::Path;

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
