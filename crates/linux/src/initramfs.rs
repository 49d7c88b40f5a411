// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first file system of a guest: its job, and all files that the job needs.

use crate::error::{io_error, Result};
use crate::flavor::Arch;
use crate::program::{fits, libraries};
use rkcov_guest::cpio::{Kind, Writer};
use rkcov_guest::job::{Job, INIT, JOB};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Writes the guest's first file system: the job, its program with all that it needs, `files` and
/// folders in full, each under the path that it has here, `more`, files by their paths and texts, and
/// `init` as the first process: if there is none, this very program.
///
/// # Errors
/// A file cannot be read, or the program cannot run in a guest.
pub fn write_initramfs(
    to: &Path,
    job: &Job,
    files: &[PathBuf],
    more: &[(&str, &str)],
    init: Option<&Path>,
) -> Result<()> {
    let mut contents = contents(job, files)?;
    let me = env::current_exe().map_err(io_error("/proc/self/exe"))?;
    add_program(init.unwrap_or(&me), Path::new(INIT), &mut contents)?;
    let out = fs::File::create(to).map_err(io_error(to))?;
    let out = pack(Writer::new(io::BufWriter::new(out)), job, &contents, more)?;
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

/// Puts a program there, with all that it needs.
fn add_program(path: &Path, at: &Path, contents: &mut BTreeMap<PathBuf, PathBuf>) -> Result<()> {
    contents.insert(at.to_owned(), path.to_owned());
    contents.extend(libraries(path)?);
    Ok(())
}

/// All files of the guest but the first process, by their paths there.
fn contents(job: &Job, files: &[PathBuf]) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let mut contents: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    if let Some(program) = job.command.first() {
        add_program(Path::new(program), Path::new(program), &mut contents)?;
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
    more: &[(&str, &str)],
) -> Result<W> {
    let mut folders: Vec<PathBuf> = ["dev", "proc", "sys", "tmp", "run"]
        .map(PathBuf::from)
        .into();
    let more_paths = more.iter().map(|(at, _)| Path::new(at));
    for at in contents.keys().map(PathBuf::as_path).chain(more_paths) {
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
    for (at, text) in more {
        let at = Path::new(at);
        // A file of the user's own comes first.
        if !contents.contains_key(at) {
            add(at, at, Kind::File, text.as_bytes())?;
        }
    }
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
    use rkcov_guest::cpio::{Next, Reader};

    #[test]
    fn the_first_file_system_has_what_the_program_needs() {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = dir.path().join("data");
        fs::create_dir_all(folder.join("deep")).unwrap();
        fs::write(folder.join("deep/file"), "content").unwrap();
        let sh = crate::program::find(OsStr::new("sh")).unwrap();
        let job = Job {
            command: vec![sh.clone().into()],
            ..Job::default()
        };
        let archive = dir.path().join("archive");
        let more = [("/etc/name", "text")];
        write_initramfs(&archive, &job, std::slice::from_ref(&folder), &more, None).unwrap();

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
        assert_eq!(seen["/etc/name"], b"text");
        for file in libraries(&sh).unwrap().into_keys().chain([sh, INIT.into()]) {
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
        let job = Job::default();
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
