// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest is to do, as the host writes it and the guest reads it, and the names of what the
//! guest answers.

use crate::cpio::{Kind, Writer};
use crate::error::{io_error, Result};
use crate::program::libraries;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where the guest finds its job.
pub(crate) const JOB: &str = "/job";
/// Where the guest finds the program that it starts with: this very one.
pub(crate) const INIT: &str = "/rkcov";

/// What the guest answers: entries of these names, in the order in which things happen.
pub mod answer {
    /// A piece of the program's standard output.
    pub const STDOUT: &str = "stdout";
    /// A piece of the program's standard error.
    pub const STDERR: &str = "stderr";
    /// What one task had recorded: a [`Coverage`](super::Coverage).
    pub const COVERAGE: &str = "coverage";
    /// How many tasks could not be recorded, in decimal.
    pub const MISSED: &str = "missed";
    /// The program's exit status in decimal; 128 more than the signal that killed it.
    pub const STATUS: &str = "status";
    /// Why the guest could not do its job.
    pub const ERROR: &str = "error";
}

/// A program to run in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The program, by an absolute path, and its arguments.
    pub command: Vec<OsString>,
    /// Collect the kernel's coverage for the program, for its first task into a buffer of so many
    /// words.
    pub collect: Option<u32>,
}

impl Job {
    /// `WORDS\0PROGRAM\0ARGUMENT\0...`, where 0 words collect nothing.
    fn encode(&self) -> Vec<u8> {
        let mut out = self.collect.unwrap_or(0).to_string().into_bytes();
        out.push(0);
        for argument in &self.command {
            out.extend_from_slice(argument.as_bytes());
            out.push(0);
        }
        out
    }

    /// The job that [`Job::encode`] wrote.
    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        let mut parts = data.strip_suffix(b"\0")?.split(|b| *b == 0);
        let words: u32 = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let command = parts.map(|p| OsString::from_vec(p.to_vec())).collect();
        Some(Self {
            command,
            collect: (words > 0).then_some(words),
        })
    }
}

/// What the kernel recorded of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The process.
    pub process: u32,
    /// The task.
    pub task: u32,
    /// Whether it is the program's first task.
    pub first: bool,
    /// Whether it had ended.
    pub finished: bool,
    /// Records for which there was room.
    pub capacity: u64,
    /// The buffer: the count word and the records.
    pub words: Vec<u64>,
}

impl Coverage {
    /// Numbers of eight bytes, little-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head = [
            self.process.into(),
            self.task.into(),
            self.first.into(),
            self.finished.into(),
            self.capacity,
        ];
        let numbers = head.iter().chain(&self.words);
        numbers.flat_map(|n| n.to_le_bytes()).collect()
    }

    /// What `encode()` wrote.
    #[must_use]
    pub fn decode(data: &[u8]) -> Option<Self> {
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let mut numbers = data.chunks_exact(8).map(number);
        Some(Self {
            process: numbers.next()?.try_into().ok()?,
            task: numbers.next()?.try_into().ok()?,
            first: numbers.next()? != 0,
            finished: numbers.next()? != 0,
            capacity: numbers.next()?,
            words: numbers.collect(),
        })
    }

    /// The recorded PCs.
    #[must_use]
    pub fn records(&self) -> &[u64] {
        self.words.split_first().map_or(&[], |(_, records)| records)
    }
}

/// Writes the guest's first file system: the job, its program with all that it needs, `files` and
/// folders in full, each under the path that it has here, and this program as the first process.
///
/// # Errors
/// A file cannot be read, or the program cannot run in a guest.
pub fn write_initramfs(to: &Path, job: &Job, files: &[PathBuf]) -> Result<()> {
    let me = env::current_exe().map_err(io_error("/proc/self/exe"))?;
    let mut contents: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut add_program = |path: &Path, at: &Path| -> Result<()> {
        contents.insert(at.to_owned(), path.to_owned());
        for library in libraries(path)? {
            contents.insert(library.clone(), library);
        }
        Ok(())
    };
    add_program(&me, Path::new(INIT))?;
    if let Some(program) = job.command.first() {
        add_program(Path::new(program), Path::new(program))?;
    }
    for file in files {
        let file = std::path::absolute(file).map_err(io_error(file))?;
        add_all(&file, &mut contents)?;
    }

    let out = fs::File::create(to).map_err(io_error(to))?;
    pack(Writer::new(io::BufWriter::new(out)), job, &contents).map_err(io_error(to))
}

/// All files of a folder, or the file itself.
fn add_all(path: &Path, contents: &mut BTreeMap<PathBuf, PathBuf>) -> Result<()> {
    if !path.is_dir() {
        contents.insert(path.to_owned(), path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(io_error(path))? {
        add_all(&entry.map_err(io_error(path))?.path(), contents)?;
    }
    Ok(())
}

fn pack(
    mut archive: Writer<impl io::Write>,
    job: &Job,
    contents: &BTreeMap<PathBuf, PathBuf>,
) -> io::Result<()> {
    let mut folders: Vec<PathBuf> = ["dev", "proc", "sys", "tmp", "run"]
        .map(PathBuf::from)
        .into();
    for at in contents.keys() {
        let at = at.strip_prefix("/").unwrap_or(at);
        folders.extend(at.ancestors().skip(1).map(Path::to_owned));
    }
    folders.retain(|f| f != Path::new(""));
    // A folder sorts before what is in it.
    folders.sort();
    folders.dedup();
    for folder in folders {
        archive.add(name(&folder)?, Kind::Folder, &[])?;
    }
    archive.add("dev/console", Kind::Device { major: 5, minor: 1 }, &[])?;
    archive.add(JOB.trim_start_matches('/'), Kind::File, &job.encode())?;
    for (at, from) in contents {
        let executable = fs::metadata(from)?.permissions().mode() & 0o111 != 0;
        let kind = if executable {
            Kind::Program
        } else {
            Kind::File
        };
        archive.add(
            name(at.strip_prefix("/").unwrap_or(at))?,
            kind,
            &fs::read(from)?,
        )?;
    }
    archive.finish().map(drop)
}

fn name(path: &Path) -> io::Result<&str> {
    let name: &OsStr = path.as_os_str();
    name.to_str()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::{Next, Reader};

    #[test]
    fn a_job_arrives_as_it_was_sent() {
        for collect in [None, Some(64)] {
            let job = Job {
                command: ["/bin/x", "", "a b\n"].map(OsString::from).into(),
                collect,
            };
            assert_eq!(Job::decode(&job.encode()), Some(job));
        }
        for bad in [&b""[..], b"1", b"x\0a\0"] {
            assert_eq!(Job::decode(bad), None);
        }
    }

    #[test]
    fn coverage_arrives_as_it_was_recorded() {
        let coverage = Coverage {
            process: 30,
            task: 31,
            first: false,
            finished: true,
            capacity: 511,
            words: vec![2, 0xffff_ffff_8100_0000, 7],
        };
        assert_eq!(coverage.records(), [0xffff_ffff_8100_0000, 7]);
        let data = coverage.encode();
        assert_eq!(Coverage::decode(&data), Some(coverage));
        assert_eq!(Coverage::decode(&data[..32]), None);
    }

    #[test]
    fn the_first_file_system_has_what_the_program_needs() {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = dir.path().join("data");
        fs::create_dir_all(folder.join("deep")).unwrap();
        fs::write(folder.join("deep/file"), "content").unwrap();
        let sh = crate::program::find(OsStr::new("sh")).unwrap();
        let job = Job {
            command: vec![sh.clone().into()],
            collect: None,
        };
        let archive = dir.path().join("archive");
        write_initramfs(&archive, &job, std::slice::from_ref(&folder)).unwrap();

        let mut reader = Reader::default();
        reader.feed(&mut fs::File::open(&archive).unwrap()).unwrap();
        let mut seen = BTreeMap::new();
        while let Next::Entry(name, data) = reader.next_entry().unwrap() {
            assert_eq!(seen.insert(format!("/{name}"), data), None, "twice: {name}");
        }
        assert_eq!(seen[JOB], job.encode());
        assert_eq!(
            seen[&folder.join("deep/file").display().to_string()],
            b"content"
        );
        for file in libraries(&sh).unwrap().into_iter().chain([sh, INIT.into()]) {
            assert!(seen.contains_key(&file.display().to_string()), "{file:?}");
        }
    }
}
