// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of PCs that clients keep for reports. `docs/kcov.md` has their form.
//!
//! One call appends one list, with the process and its modules, and nobody else appends meanwhile.

use crate::modules::{self, Found};
use crate::sys;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU64, Ordering};

/// Appends the PCs of `buffer` to the file at `path`. The first word is the count.
pub(crate) fn append(path: &CStr, name: &[u8], buffer: &[AtomicU64]) -> Result<(), sys::Error> {
    let (count, records) = buffer.split_first().ok_or(sys::Error(libc::EINVAL))?;
    // The client may have written any count.
    let count = usize::try_from(count.load(Ordering::Acquire)).unwrap_or(usize::MAX);
    let pcs = records.get(..count).unwrap_or(records);
    let mut text = Text::new(sys::open_to_append(path)?);
    text.put(b"# rkcov list 1\nprocess ");
    text.decimal(sys::pid());
    text.put(b" ");
    text.line(sys::executable(&mut [0; PATH]));
    text.put(b"directory ");
    text.line(sys::working_directory(&mut [0; PATH]));
    modules::each_loaded(|found| module(&mut text, found));
    text.put(b"stream ");
    text.decimal(sys::thread_id());
    text.put(b" ");
    // A full buffer may have had no room for more.
    text.put(if count < records.len() {
        b"whole "
    } else {
        b"full "
    });
    text.line(name);
    for pc in pcs {
        text.hex(pc.load(Ordering::Relaxed));
        text.put(b"\n");
    }
    text.end()
}

/// Longest path.
const PATH: usize = 4096;

fn module(text: &mut Text, found: &Found) {
    if sys::is_kernels(found.mapped.start) {
        return;
    }
    let mut path = [0; PATH];
    let path = match found.name() {
        [] => sys::executable(&mut path),
        name @ [b'/', ..] => name,
        _ => sys::mapped_path(found.text_start, &mut path),
    };
    text.put(b"module");
    for number in [found.bias, found.text_start, found.text_end] {
        text.put(b" ");
        text.hex(number);
    }
    text.put(b" ");
    match found.build_id.get(..found.build_id_len) {
        None | Some([]) => text.put(b"-"),
        Some(id) => id.iter().for_each(|byte| text.byte_in_hex(*byte)),
    }
    text.put(b" ");
    text.line(path);
}

/// What is written, a block at a time. After an error nothing is.
struct Text {
    to: sys::Fd,
    bytes: [u8; 4096],
    used: usize,
    failed: Option<sys::Error>,
}

impl Text {
    const fn new(to: sys::Fd) -> Self {
        Self {
            to,
            bytes: [0; 4096],
            used: 0,
            failed: None,
        }
    }

    fn byte(&mut self, byte: u8) {
        if self.used == self.bytes.len() {
            self.write();
        }
        if let Some(place) = self.bytes.get_mut(self.used) {
            *place = byte;
            self.used += 1;
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.byte(*byte));
    }

    /// The rest of a line, which may have any bytes.
    fn line(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.put(b"\\n"),
                b'\\' => self.put(b"\\\\"),
                _ => self.byte(*byte),
            }
        }
        self.byte(b'\n');
    }

    fn decimal(&mut self, number: u32) {
        self.put(sys::Digits::of(number).as_bytes());
    }

    fn hex(&mut self, number: u64) {
        let zeros = number.leading_zeros() / 8;
        let bytes = number.to_be_bytes();
        let bytes = bytes.get(zeros.min(7) as usize..).unwrap_or(&[]);
        bytes.iter().for_each(|byte| self.byte_in_hex(*byte));
    }

    fn byte_in_hex(&mut self, byte: u8) {
        for digit in [byte >> 4, byte & 15] {
            self.byte(match digit {
                0..10 => b'0' + digit,
                _ => b'a' - 10 + digit,
            });
        }
    }

    fn write(&mut self) {
        if self.failed.is_none() {
            let bytes = self.bytes.get(..self.used).unwrap_or(&[]);
            self.failed = self.to.write_all(bytes).err();
        }
        self.used = 0;
    }

    fn end(mut self) -> Result<(), sys::Error> {
        self.write();
        self.failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn a_list_has_the_process_its_modules_and_the_pcs() {
        let folder = std::env::temp_dir().join(format!("rkcov-save-{}", std::process::id()));
        let path = CString::new(folder.to_str().unwrap()).unwrap();
        let buffer = [2, 0x1000, 0xabc, 7].map(AtomicU64::new);
        append(&path, b"a\nb\\", &buffer).unwrap();
        // A count that no buffer has room for.
        buffer[0].store(u64::MAX, Ordering::Relaxed);
        append(&path, b"", &buffer).unwrap();
        let text = std::fs::read_to_string(&folder).unwrap();
        std::fs::remove_file(&folder).unwrap();
        let pid = std::process::id();
        let exe = std::env::current_exe().unwrap();
        let (exe_name, here) = (exe.display(), std::env::current_dir().unwrap());
        let here = here.display();
        let head = format!("# rkcov list 1\nprocess {pid} {exe_name}\ndirectory {here}\nmodule ");
        assert!(text.starts_with(&head), "{text}");
        assert_eq!(text.matches(&head).count(), 2);
        let module = text.lines().nth(3).unwrap();
        let words: Vec<&str> = module.split(' ').collect();
        let hex = |word: &str| u64::from_str_radix(word, 16).unwrap();
        let here = append as *const () as u64;
        assert!((hex(words[2])..hex(words[3])).contains(&here), "{module}");
        assert_eq!(words[5], exe.to_str().unwrap());
        let (first, second) = text.rsplit_once("# rkcov list 1").unwrap();
        assert!(first.ends_with(" whole a\\nb\\\\\n1000\n0abc\n"), "{first}");
        assert!(second.ends_with(" full \n1000\n0abc\n07\n"), "{second}");
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let buffer = [const { AtomicU64::new(0) }; 4];
        let errno = |path: &CStr, buffer: &[AtomicU64]| append(path, b"", buffer).unwrap_err().0;
        assert_eq!(errno(c"/nowhere/list", &buffer), libc::ENOENT);
        assert_eq!(errno(c"/dev/full", &buffer), libc::ENOSPC);
        assert_eq!(errno(c"/dev/null", &[]), libc::EINVAL);
    }
}
