// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest is to do, as the host writes it and the guest reads it, and the names of what the
//! guest answers.

use crate::cpio::{Kind, Writer};
use crate::error::{io_error, Result};
use crate::flavor::Arch;
use crate::program::{fits, libraries};
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
    let contents = contents(job, files)?;
    let out = fs::File::create(to).map_err(io_error(to))?;
    let out = pack(Writer::new(io::BufWriter::new(out)), job, &contents)?;
    out.into_inner()
        .map(drop)
        .map_err(|error| io_error(to)(error.into_error()))
}

/// Finds out what can be known of a job before there is a kernel.
///
/// # Errors
/// The program cannot run in a guest of this sort, or one of `files` is not there.
pub fn check(job: &Job, files: &[PathBuf], arch: Arch) -> Result<()> {
    if let Some(program) = job.command.first() {
        fits(Path::new(program), arch)?;
    }
    contents(job, files).map(drop)
}

/// All files of the guest, by their paths there.
fn contents(job: &Job, files: &[PathBuf]) -> Result<BTreeMap<PathBuf, PathBuf>> {
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
        let found = fs::metadata(&file).map_err(io_error(&file))?;
        if found.is_dir() {
            add_folder(&file, &mut Vec::new(), &mut contents)?;
        } else if found.is_file() {
            contents.insert(file.clone(), file);
        } else {
            return Err(io_error(&file)(io::Error::other(
                "neither a file nor a folder",
            )));
        }
    }
    Ok(contents)
}

/// All files of a folder. Links are followed, but not back into one of the folders `above`; what
/// is no file (a socket, a link to nothing) is left out.
fn add_folder(
    path: &Path,
    above: &mut Vec<PathBuf>,
    contents: &mut BTreeMap<PathBuf, PathBuf>,
) -> Result<()> {
    let real = fs::canonicalize(path).map_err(io_error(path))?;
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    for entry in fs::read_dir(path).map_err(io_error(path))? {
        let entry = entry.map_err(io_error(path))?.path();
        match fs::metadata(&entry) {
            Ok(found) if found.is_dir() => add_folder(&entry, above, contents)?,
            Ok(found) if found.is_file() => drop(contents.insert(entry.clone(), entry)),
            _ => {}
        }
    }
    above.pop();
    Ok(())
}

fn pack<W: io::Write>(
    mut archive: Writer<W>,
    job: &Job,
    contents: &BTreeMap<PathBuf, PathBuf>,
) -> Result<W> {
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
    // What goes wrong is said of the file that it goes wrong with, on either side.
    let mut add = |at: &Path, from: &Path, kind: Kind, data: &[u8]| {
        let added =
            name(at.strip_prefix("/").unwrap_or(at)).and_then(|name| archive.add(name, kind, data));
        added.map_err(io_error(from))
    };
    for folder in folders {
        add(&folder, &folder, Kind::Folder, &[])?;
    }
    let console = Path::new("/dev/console");
    add(console, console, Kind::Device { major: 5, minor: 1 }, &[])?;
    add(Path::new(JOB), Path::new(JOB), Kind::File, &job.encode())?;
    for (at, from) in contents {
        let found = fs::metadata(from).map_err(io_error(from))?;
        let executable = found.permissions().mode() & 0o111 != 0;
        let kind = if executable {
            Kind::Program
        } else {
            Kind::File
        };
        let data = fs::read(from).map_err(io_error(from))?;
        add(at, from, kind, &data)?;
    }
    archive.finish().map_err(io_error("the first file system"))
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

    #[test]
    fn files_that_are_not_there_are_named_and_what_is_no_file_is_left_out() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("folder/file"), "content").unwrap();
        symlink("file", at("folder/link")).unwrap();
        symlink("nothing", at("folder/dangling")).unwrap();
        symlink("..", at("folder/up")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("folder/socket")).unwrap();
        let job = Job {
            command: Vec::new(),
            collect: None,
        };
        let found = contents(&job, &[at("folder")]).unwrap();
        let here = |path: &&PathBuf| path.starts_with(dir.path());
        let found: Vec<&PathBuf> = found.keys().filter(here).collect();
        // The folder above is seen by its link, and is not entered again from there.
        assert_eq!(found, [&at("folder/file"), &at("folder/link")], "{found:?}");
        for (file, why) in [
            ("folder/nothing", "No such file"),
            ("folder/dangling", "No such file"),
            ("folder/socket", "neither a file nor a folder"),
        ] {
            let error = check(&job, &[at(file)], Arch::Uml).unwrap_err().to_string();
            let name = at(file).display().to_string();
            assert!(error.starts_with(&name) && error.contains(why), "{error}");
        }
    }
}
