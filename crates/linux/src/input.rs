// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hands this process's standard input over to a guest while it runs.

use rkcov_guest::cpio::{Kind, Writer};
use rkcov_guest::job::told;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::process::getpgrp;
use rustix::stdio::stdin;
use rustix::termios::{
    isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, OptionalActions, Termios,
};
use std::io;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, sleep, JoinHandle};
use std::time::{Duration, Instant};

/// Between two looks at the size of the terminal, and at whether the guest has ended.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// What the guest's end of a pump shares with it.
#[derive(Default)]
struct Flags {
    /// The guest has ended.
    over: AtomicBool,
    /// The user wants to leave the guest.
    left: AtomicBool,
}

/// Hands input over until it is dropped. A terminal is in raw mode meanwhile.
pub(crate) struct Pump {
    flags: Arc<Flags>,
    _raw: Option<Raw>,
    /// Has the way to the guest, which must stay open: User Mode Linux would forget what it has not read yet.
    _thread: JoinHandle<Writer<ChildStdin>>,
}

impl Pump {
    pub(crate) fn start(to: ChildStdin, terminal: bool) -> io::Result<Self> {
        let raw = terminal.then(Raw::begin).transpose()?;
        let flags = Arc::new(Flags::default());
        let theirs = Arc::clone(&flags);
        let hand_over = move || {
            let mut to = Writer::new(to);
            // Who does not read any more has ended, and that is noticed elsewhere.
            let _ = pump(&mut to, terminal, &theirs);
            to
        };
        Ok(Self {
            flags,
            _raw: raw,
            _thread: thread::spawn(hand_over),
        })
    }

    /// Whether the user wants to leave the guest.
    pub(crate) fn left(&self) -> bool {
        self.flags.left.load(Ordering::Relaxed)
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // The thread ends at its next look, or with the process: it may wait for input.
        self.flags.over.store(true, Ordering::Relaxed);
    }
}

fn pump(to: &mut Writer<ChildStdin>, terminal: bool, flags: &Flags) -> io::Result<()> {
    let stdin = stdin();
    let mut leave = Leave::default();
    let mut size = None;
    let mut piece = [0; 16 << 10];
    while !flags.over.load(Ordering::Relaxed) {
        if terminal {
            let now = tcgetwinsize(stdin).map(|size| (size.ws_row, size.ws_col));
            if let Some((rows, columns)) = now.ok().filter(|now| size != Some(*now)) {
                size = Some((rows, columns));
                let both = [rows.to_le_bytes(), columns.to_le_bytes()].concat();
                to.add(told::SIZE, Kind::File, &both)?;
            }
        }
        // A terminal stops who reads from it in the background. The program may not want to read at all.
        if isatty(stdin) && tcgetpgrp(stdin) != Ok(getpgrp()) {
            sleep(Duration::from_millis(50));
            continue;
        }
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&PAUSE)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::io::read(stdin, &mut piece) {
            Ok(read @ 1..) => {
                if terminal && leave.wanted(&piece[..read], Instant::now()) {
                    flags.left.store(true, Ordering::Relaxed);
                }
                to.add(told::INPUT, Kind::File, &piece[..read])?;
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Ok(0) | Err(_) => return to.add(told::END, Kind::File, &[]),
        }
    }
    Ok(())
}

/// Notices the keys by which a user leaves a guest that does not answer: Ctrl-] three times within a second.
#[derive(Default)]
struct Leave {
    count: u32,
    since: Option<Instant>,
}

impl Leave {
    const KEY: u8 = 0x1d;
    const TIMES: u32 = 3;
    const WITHIN: Duration = Duration::from_secs(1);

    fn wanted(&mut self, typed: &[u8], now: Instant) -> bool {
        for key in typed {
            let late = self
                .since
                .is_some_and(|s| now.duration_since(s) > Self::WITHIN);
            if *key != Self::KEY {
                self.count = 0;
            } else if self.count == 0 || late {
                (self.count, self.since) = (1, Some(now));
            } else {
                self.count += 1;
            }
            if self.count == Self::TIMES {
                return true;
            }
        }
        false
    }
}

/// Standard input, a terminal, without any meaning of keys and lines: the guest's terminal has those.
struct Raw(Termios);

impl Raw {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_keys_in_a_row_and_in_time_leave_a_guest() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut leave = Leave::default();
        let key = [Leave::KEY];
        assert!(!leave.wanted(&key, at(0)));
        assert!(!leave.wanted(&key, at(400)));
        assert!(leave.wanted(&key, at(900)));
        let mut leave = Leave::default();
        assert!(!leave.wanted(&[Leave::KEY, Leave::KEY, b'x', Leave::KEY], at(0)));
        assert!(!leave.wanted(&key, at(10)));
        // Too late for the first two, and itself the first of others.
        assert!(!leave.wanted(&key, at(1200)));
        assert!(!leave.wanted(&key, at(1300)));
        assert!(leave.wanted(&key, at(1400)));
    }
}
