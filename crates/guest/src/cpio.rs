// SPDX-License-Identifier: MIT OR Apache-2.0
//! Archives in the format `newc` of cpio: what a kernel unpacks as its first file system, and the
//! stream in which a guest hands over what it has to say.

use std::io::{self, Read, Write};

/// The name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";
const MAGIC: &[u8; 6] = b"070701";
/// The magic number and 13 fields of 8 hexadecimal digits.
const HEADER_LEN: usize = 110;
/// No entry that we read is larger.
const MAX_NAME: usize = 4096;

/// What an entry is, with its permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder, for everybody.
    Folder,
    /// A file.
    File,
    /// A file that can be executed.
    Program,
    /// A character device with these numbers, for its owner.
    Device {
        /// The driver.
        major: u32,
        /// Which of the driver's devices.
        minor: u32,
    },
}

/// Writes an archive, entry after entry.
pub struct Writer<W: Write> {
    to: W,
    inode: u32,
}

impl<W: Write> Writer<W> {
    /// An archive that is written to `to`.
    pub fn new(to: W) -> Self {
        Self { to, inode: 0 }
    }

    /// Adds an entry. Its folder must have been added before it.
    ///
    /// # Errors
    /// Those of writing, and `InvalidInput` for 4 GiB of data or more.
    pub fn add(&mut self, name: &str, kind: Kind, data: &[u8]) -> io::Result<()> {
        let (mode, major, minor) = match kind {
            Kind::Folder => (0o040_755, 0, 0),
            Kind::File => (0o100_644, 0, 0),
            Kind::Program => (0o100_755, 0, 0),
            Kind::Device { major, minor } => (0o020_600, major, minor),
        };
        self.inode = self.inode.wrapping_add(1);
        self.entry(name, self.inode, mode, (major, minor), data)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, 0, 0, (0, 0), &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn entry(
        &mut self,
        name: &str,
        inode: u32,
        mode: u32,
        (major, minor): (u32, u32),
        data: &[u8],
    ) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let size = u32::try_from(data.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        let fields = [
            inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0,
        ];
        let mut out = MAGIC.to_vec();
        for field in fields {
            write!(out, "{field:08x}")?;
        }
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(4), 0);
        // One write for each entry: a reader at the other end of a wire sees it whole or not yet.
        self.to.write_all(&out)
    }
}

/// Reads the files of an archive while it is still being written.
#[derive(Default)]
pub struct Reader {
    pending: Vec<u8>,
}

/// What a [`Reader`] has next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A file's name and data.
    Entry(String, Vec<u8>),
    /// The archive is complete.
    End,
    /// Nothing, until more of the archive is fed.
    More,
}

impl Reader {
    /// Takes all that `from` has now.
    ///
    /// # Errors
    /// Those of reading.
    pub fn feed(&mut self, from: &mut impl Read) -> io::Result<()> {
        from.read_to_end(&mut self.pending).map(drop)
    }

    /// The next entry.
    ///
    /// # Errors
    /// `InvalidData` if this is no archive.
    pub fn next_entry(&mut self) -> io::Result<Next> {
        let Some(header) = self.pending.get(..HEADER_LEN) else {
            return Ok(Next::More);
        };
        let field = |i: usize| -> Option<usize> {
            let digits = std::str::from_utf8(header.get(6 + 8 * i..)?.get(..8)?).ok()?;
            usize::from_str_radix(digits, 16).ok()
        };
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let (size, name_size) = match (header.starts_with(MAGIC), field(6), field(11)) {
            (true, Some(size), Some(name @ 1..=MAX_NAME)) => (size, name),
            _ => return Err(bad()),
        };
        let data_at = (HEADER_LEN + name_size).next_multiple_of(4);
        let end = (data_at + size).next_multiple_of(4);
        if self.pending.len() < end {
            return Ok(Next::More);
        }
        let name = &self.pending[HEADER_LEN..HEADER_LEN + name_size - 1];
        let name = String::from_utf8(name.to_vec()).map_err(|_| bad())?;
        let data = self.pending[data_at..data_at + size].to_vec();
        self.pending.drain(..end);
        Ok(if name == TRAILER {
            Next::End
        } else {
            Next::Entry(name, data)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        writer.add("a", Kind::Folder, &[]).unwrap();
        writer.add("a/b", Kind::Program, b"hello").unwrap();
        writer.add("c", Kind::File, &[]).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_at_any_pace() {
        let archive = archive();
        for step in [1, 2, 7, 110, archive.len()] {
            let mut reader = Reader::default();
            let mut seen = Vec::new();
            for chunk in archive.chunks(step) {
                reader.feed(&mut &*chunk).unwrap();
                loop {
                    match reader.next_entry().unwrap() {
                        Next::More => break,
                        Next::End => {
                            seen.push((String::from("end"), Vec::new()));
                            break;
                        }
                        Next::Entry(name, data) => seen.push((name, data)),
                    }
                }
            }
            let expect = [("a", &b""[..]), ("a/b", b"hello"), ("c", b""), ("end", b"")];
            assert_eq!(seen, expect.map(|(n, d)| (n.to_owned(), d.to_vec())));
        }
    }

    #[test]
    fn nonsense_is_no_archive() {
        for garbage in [vec![b'x'; 200], [&b"070701"[..], &[b'z'; 200]].concat()] {
            let mut reader = Reader::default();
            reader.feed(&mut &*garbage).unwrap();
            let kind = reader.next_entry().unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn an_archive_that_was_cut_never_ends() {
        let archive = archive();
        let mut reader = Reader::default();
        reader.feed(&mut &archive[..archive.len() - 4]).unwrap();
        while let Next::Entry(..) = reader.next_entry().unwrap() {}
        assert_eq!(reader.next_entry().unwrap(), Next::More);
    }

    #[test]
    fn cpio_reads_it() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("archive");
        std::fs::write(&file, archive()).unwrap();
        let listed = std::process::Command::new("cpio")
            .args(["--list", "--quiet", "-F"])
            .arg(&file)
            .output();
        // The tool is not needed for anything else.
        if let Ok(listed) = listed {
            assert_eq!(String::from_utf8_lossy(&listed.stdout), "a\na/b\nc\n");
        }
    }
}
