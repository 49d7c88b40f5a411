// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the system says of processes and threads, most of it in `/proc`.

use super::{pid, syscall, thread_id, Error, Fd, PAGE};
use core::ffi::CStr;
use core::ops::Range;
use core::ptr;

/// Opens what a process has open as `fd`, if its name begins with `link`. Of anything else the name
/// alone is read: opening may have effects.
pub(crate) fn open_of_process(pid: u32, fd: i32, link: &[u8]) -> Option<Fd> {
    let (mut path, mut name) = ([0; PATH], [0; PATH]);
    let (pid, fd) = (Digits::of(pid), Digits::of(fd as u32));
    let path = path_of(
        &[b"/proc/", pid.as_bytes(), b"/fd/", fd.as_bytes()],
        &mut path,
    )
    .ok()?;
    if !read_link(path, &mut name).starts_with(link) {
        return None;
    }
    let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
    Fd::open(path, flags).ok()
}

/// The parent of a process.
pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    let (mut path, mut stat) = ([0; PATH], [0; 256]);
    let path = path_of(
        &[b"/proc/", Digits::of(pid).as_bytes(), b"/stat"],
        &mut path,
    )
    .ok()?;
    let len = Fd::open(path, libc::O_RDONLY | libc::O_CLOEXEC)
        .and_then(|fd| fd.read(&mut stat))
        .ok()?;
    // `PID (NAME) STATE PARENT ...`, and the name may have anything in it.
    let stat = stat.get(..len)?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat.get(name_end..)?.split(|byte| *byte == b' ');
    core::str::from_utf8(fields.nth(2)?).ok()?.parse().ok()
}

/// Where a symbolic link points, cut off at the buffer's end.
pub(crate) fn read_link<'a>(path: &CStr, buf: &'a mut [u8]) -> &'a [u8] {
    let dir = libc::AT_FDCWD as usize;
    let (at, len) = (buf.as_mut_ptr() as usize, buf.len());
    let args = [dir, path.as_ptr() as usize, at, len, 0, 0];
    // SAFETY: the path is a C string and `buf` is writable for its length.
    let n = unsafe { syscall(libc::SYS_readlinkat, args) }.unwrap_or(0);
    buf.get(..n).unwrap_or(&[])
}

/// The path of the executable of this process, cut off at the buffer's end. Without `/proc`, what
/// `exec` was called with.
pub(crate) fn executable(buf: &mut [u8]) -> &[u8] {
    let len = read_link(c"/proc/self/exe", buf).len();
    if len > 0 {
        return buf.get(..len).unwrap_or(&[]);
    }
    // SAFETY: a plain question.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) };
    if name == 0 {
        return &[];
    }
    // SAFETY: the kernel's copy of the name, a C string that stays where it is.
    let name = unsafe { CStr::from_ptr(ptr::with_exposed_provenance(name as usize)) }.to_bytes();
    let mut used = 0;
    let mut append = |bytes: &[u8]| {
        for byte in bytes {
            if let Some(to) = buf.get_mut(used) {
                *to = *byte;
                used += 1;
            }
        }
    };
    if name.first() != Some(&b'/') {
        append(working_directory(&mut [0_u8; 2048]));
        append(b"/");
    }
    append(name.strip_prefix(b"./").unwrap_or(name));
    buf.get(..used).unwrap_or(&[])
}

/// The working directory; empty if it does not fit, or is gone.
pub(crate) fn working_directory(buf: &mut [u8]) -> &[u8] {
    let args = [buf.as_mut_ptr() as usize, buf.len(), 0, 0, 0, 0];
    // SAFETY: `buf` is writable for its length.
    let len = unsafe { syscall(libc::SYS_getcwd, args) }.unwrap_or(0);
    // The zero byte at the end is counted.
    buf.get(..len.saturating_sub(1)).unwrap_or(&[])
}

/// The path of the file that is mapped at `address`; empty if there is none.
pub(crate) fn mapped_path(address: u64, buf: &mut [u8]) -> &[u8] {
    let line = mapping(pid(), thread_id(), address, buf)
        .ok()
        .flatten()
        .unwrap_or(&[]);
    let slash = line.iter().position(|byte| *byte == b'/');
    slash.and_then(|at| line.get(at..)).unwrap_or(&[])
}

/// Whether the thread `(pid, tid)` has at `address` what this one has there.
pub(crate) fn shares_mapping(pid: u32, tid: u32, address: u64) -> Result<bool, Error> {
    let (mut ours, mut theirs) = ([0; 128], [0; 128]);
    let ours = mapping(self::pid(), thread_id(), address, &mut ours)?;
    // Where our own cannot be found, that theirs cannot says nothing.
    let ours = file_of_line(ours).ok_or(Error(libc::EIO))?;
    let theirs = mapping(pid, tid, address, &mut theirs)?;
    Ok(file_of_line(theirs) == Some(ours))
}

/// The device and the inode in a line of `/proc/PID/maps`.
fn file_of_line(line: Option<&[u8]>) -> Option<(&str, &str)> {
    let mut fields = core::str::from_utf8(line?).ok()?.split_ascii_whitespace();
    Some((fields.nth(3)?, fields.next()?))
}

/// The line of `/proc/PID/maps` for `address`: `start-end perms offset device inode    path`. What
/// does not fit into `buf` is cut off. A thread is asked, since a process whose first thread has
/// ended has no maps itself.
fn mapping(pid: u32, tid: u32, address: u64, buf: &mut [u8]) -> Result<Option<&[u8]>, Error> {
    let maps = of_thread(pid, tid, b"/maps")?;
    let mut chunk = [0_u8; 1024];
    let mut line = 0;
    while let n @ 1.. = maps.read(&mut chunk)? {
        for byte in chunk.get(..n).unwrap_or(&[]) {
            if *byte != b'\n' {
                // The end of a line that is longer than the buffer is lost.
                if let Some(to) = buf.get_mut(line) {
                    *to = *byte;
                    line += 1;
                }
                continue;
            }
            if range_of_line(buf.get(..line).unwrap_or(&[])).is_some_and(|r| r.contains(&address)) {
                return Ok(buf.get(..line));
            }
            line = 0;
        }
    }
    Ok(None)
}

/// The addresses that a line of `/proc/PID/maps` is about.
fn range_of_line(line: &[u8]) -> Option<Range<u64>> {
    let dash = line.iter().position(|byte| *byte == b'-')?;
    let space = line.iter().position(|byte| *byte == b' ')?;
    Some(hex(line.get(..dash)?)?..hex(line.get(dash + 1..space)?)?)
}

fn hex(digits: &[u8]) -> Option<u64> {
    let digits = core::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// Whether `bytes` more are a small part of what the process may still map: where its address space
/// is limited, the program is to have what it needs.
pub(crate) fn has_room(bytes: usize) -> bool {
    /// We take at most this part of what is left.
    const PART: u64 = 4;
    let mut limit = libc::rlimit64 {
        rlim_cur: libc::RLIM64_INFINITY,
        rlim_max: libc::RLIM64_INFINITY,
    };
    let (kind, at) = (libc::RLIMIT_AS as usize, ptr::from_mut(&mut limit) as usize);
    // SAFETY: the kernel writes one `rlimit64`.
    let asked = unsafe { syscall(libc::SYS_prlimit64, [0, kind, 0, at, 0, 0]) };
    if asked.is_err() || limit.rlim_cur == libc::RLIM64_INFINITY {
        return true;
    }
    let mut line = [0_u8; 64];
    let used = Fd::open(c"/proc/self/statm", libc::O_RDONLY | libc::O_CLOEXEC)
        .and_then(|file| file.read(&mut line))
        .ok()
        .and_then(|n| pages_of(line.get(..n)?))
        .unwrap_or(0)
        .saturating_mul(PAGE as u64);
    bytes as u64 <= limit.rlim_cur.saturating_sub(used) / PART
}

/// The first number of `/proc/PID/statm`.
fn pages_of(line: &[u8]) -> Option<u64> {
    let line = core::str::from_utf8(line).ok()?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// What `/proc` says of a thread.
pub(crate) struct ThreadStatus {
    /// It has ended, though somebody has yet to wait for it.
    pub(crate) is_dead: bool,
    /// When it began, in clock ticks since the system did.
    pub(crate) start: u64,
}

/// What `/proc` says of the thread `(process, thread)`, or of the calling one.
pub(crate) fn thread_status(which: Option<(u32, u32)>) -> Result<ThreadStatus, Error> {
    let (pid, tid) = which.unwrap_or((pid(), thread_id()));
    let file = of_thread(pid, tid, b"/stat")?;
    let mut line = [0_u8; 1024];
    let n = file.read(&mut line)?;
    status_of(line.get(..n).unwrap_or(&[])).ok_or(Error(libc::EIO))
}

/// Reads a line of `/proc/PID/stat`: the state is the first field behind the name, which stands in
/// parentheses and may hold anything; the start is the 22nd of all.
fn status_of(line: &[u8]) -> Option<ThreadStatus> {
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let rest = core::str::from_utf8(line.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some(ThreadStatus {
        is_dead: matches!(state, "Z" | "X" | "x"),
        start,
    })
}

/// Opens the file of `fd` anew: a position and locks of its own.
pub(crate) fn open_again(fd: i32) -> Result<Fd, Error> {
    let mut path = [0_u8; PATH];
    let path = path_of(
        &[b"/proc/self/fd/", Digits::of(fd as u32).as_bytes()],
        &mut path,
    )?;
    Fd::open(path, libc::O_RDWR | libc::O_CLOEXEC)
}

/// Room for a path in `/proc`.
const PATH: usize = 64;

/// Opens what `/proc` has of a thread.
fn of_thread(pid: u32, tid: u32, name: &[u8]) -> Result<Fd, Error> {
    let mut path = [0_u8; PATH];
    let (pid, tid) = (Digits::of(pid), Digits::of(tid));
    let pieces = [b"/proc/", pid.as_bytes(), b"/task/", tid.as_bytes(), name];
    let path = path_of(&pieces, &mut path)?;
    Fd::open(path, libc::O_RDONLY | libc::O_CLOEXEC)
}

/// The path that is made of these pieces.
fn path_of<'p>(pieces: &[&[u8]], path: &'p mut [u8; PATH]) -> Result<&'p CStr, Error> {
    for (to, from) in path.iter_mut().zip(pieces.iter().copied().flatten()) {
        *to = *from;
    }
    CStr::from_bytes_until_nul(path).map_err(|_| Error(libc::ENOENT))
}

/// A number in decimal.
pub(crate) struct Digits {
    bytes: [u8; 20],
    from: usize,
}

impl Digits {
    pub(crate) fn of(number: impl Into<u64>) -> Self {
        let mut number = number.into();
        let mut digits = Self {
            bytes: [b'0'; 20],
            from: 20,
        };
        for (at, byte) in digits.bytes.iter_mut().enumerate().rev() {
            *byte = b'0' + (number % 10) as u8;
            number /= 10;
            digits.from = at;
            if number == 0 {
                break;
            }
        }
        digits
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{map_shared_anonymous, unmap};

    #[test]
    fn status_of_a_thread_with_a_hostile_name() {
        let line = b"7 (a) Z 1 (b) Z) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let status = status_of(line).unwrap();
        assert_eq!((status.is_dead, status.start), (false, 4711));
        assert!(status_of(b"7 (a) Z 1 2").is_none());
        assert!(status_of(b"").is_none());
        assert!(thread_status(None).unwrap().start > 0);
    }

    #[test]
    fn a_mapping_is_told_from_others() {
        let at = map_shared_anonymous(1 << 16).unwrap();
        let address = at.expose_provenance() as u64;
        assert_eq!(shares_mapping(pid(), thread_id(), address + 4096), Ok(true));
        let mut child = std::process::Command::new("cat");
        let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
        // Until it is another program, it has what we have.
        let shares = || shares_mapping(child.id(), child.id(), address);
        while shares() == Ok(true) {
            std::thread::yield_now();
        }
        assert_eq!(shares(), Ok(false));
        child.kill().unwrap();
        child.wait().unwrap();
        // SAFETY: mapped just now.
        unsafe { unmap(at, 1 << 16) };
        assert!(shares_mapping(pid(), thread_id(), address).is_err());
        assert!(shares_mapping(u32::MAX, u32::MAX, address).is_err());
        let line = b"7f0-7f8 rw-s 00000000 00:01 4711   /dev/zero (deleted)";
        assert_eq!(range_of_line(line), Some(0x7f0..0x7f8));
        assert_eq!(file_of_line(Some(line)), Some(("00:01", "4711")));
    }

    #[test]
    fn room_is_what_a_limit_leaves() {
        assert!(has_room(1 << 40), "there is no limit");
        assert_eq!(pages_of(b"1234 5 6\n"), Some(1234));
        assert_eq!(pages_of(b""), None);
    }

    #[test]
    fn digits() {
        assert_eq!(Digits::of(0_u32).as_bytes(), b"0");
        assert_eq!(Digits::of(u32::MAX).as_bytes(), b"4294967295");
        assert_eq!(Digits::of(u64::MAX).as_bytes(), b"18446744073709551615");
    }
}
