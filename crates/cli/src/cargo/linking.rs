// SPDX-License-Identifier: MIT OR Apache-2.0
//! The linker's place: guards' calls become stores in what it is given.
//!
//! rustc is told of a link to this program as its linker. The link has the name of the linker that the
//! user has, or that rustc would take, since rustc tells by the name how a linker is to be spoken to. Objects
//! are rewritten into a folder that is gone when the link is done; archives, which many programs of a
//! workspace are linked with, into one that is kept, once for each state of theirs.

use super::tools::{become_program, link, Plan};
use super::Error;
use crate::wrap::response;
use rayon::prelude::*;
use rkcov_rewrite::object;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// The folder of the links.
const LINKS: &str = "rkcov-linker";
/// What has the linker that a link stands in for.
const LINKER: &str = "RKCOV_LINKER";

/// Whether a program that was run is such a link.
pub(super) fn is_link(program: &Path) -> bool {
    let folder = program.parent().and_then(Path::file_name);
    folder.is_some_and(|folder| folder == LINKS)
}

/// The linker that rustc takes, given these arguments; `None` if only rustc knows.
fn linker(args: &[OsString]) -> Option<OsString> {
    let mut linker = None;
    let mut flavor: Option<String> = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        let option = match bytes {
            b"-C" | b"--codegen" => args.next().map(|value| value.as_bytes()),
            _ => bytes
                .strip_prefix(b"-C")
                .or_else(|| bytes.strip_prefix(b"--codegen=")),
        };
        let option = option.unwrap_or_default();
        if let Some(path) = option.strip_prefix(b"linker=") {
            linker = Some(OsStr::from_bytes(path).to_owned());
        } else if let Some(name) = option.strip_prefix(b"linker-flavor=") {
            flavor = Some(String::from_utf8_lossy(name).into_owned());
        }
    }
    linker.or_else(|| match flavor.as_deref() {
        None | Some("gcc" | "gnu-cc" | "gnu-lld-cc") => Some("cc".into()),
        Some("ld" | "gnu") => Some("ld".into()),
        Some(_) => None,
    })
}

/// Has rustc, whose arguments are `given`, link by way of this program. `folder` is that of the tools.
pub(super) fn stand_in(
    folder: &Path,
    given: &[OsString],
    command: &mut Command,
) -> Result<(), Error> {
    let Some(linker) = linker(given) else {
        return Ok(());
    };
    let Some(name) = Path::new(&linker).file_name() else {
        return Ok(());
    };
    let links = folder.join(LINKS);
    let stand_in = links.join(name);
    let made = std::env::current_exe()
        .and_then(|ourselves| fs::create_dir_all(&links).map(|()| ourselves))
        .and_then(|ourselves| link(&ourselves, &stand_in));
    made.map_err(|source| Error::File {
        path: stand_in.clone(),
        source,
    })?;
    let mut option = OsString::from("-Clinker=");
    option.push(stand_in);
    command.arg(option).env(LINKER, linker);
    Ok(())
}

/// Links, as the linker that `program` stands in for.
pub(super) fn run(program: &Path, plan: &Plan, args: &[OsString]) -> Result<Infallible, Error> {
    let default = || program.file_name().unwrap_or_default().to_owned();
    let mut linker = Command::new(std::env::var_os(LINKER).unwrap_or_else(default));
    let Some(kept) = plan.stores() else {
        linker.args(args);
        return become_program(linker);
    };
    let failed = |source| Error::File {
        path: kept.to_owned(),
        source,
    };
    fs::create_dir_all(kept).map_err(failed)?;
    let scratch = tempfile::tempdir_in(kept).map_err(failed)?;
    let given = response::expand(args, |file| fs::read(file).ok());
    let inputs: Result<Vec<Input>, Error> = given
        .par_iter()
        .enumerate()
        .map(|(number, given)| {
            let new = scratch.path().join(number.to_string());
            Input::of(Path::new(&given.text), kept, &new).map_err(|source| Error::File {
                path: (&given.text).into(),
                source,
            })
        })
        .collect();
    let inputs = inputs?;
    let is_client = inputs.iter().any(|input| matches!(input, Input::Client));
    let mut new = Vec::with_capacity(given.len());
    for (given, input) in given.into_iter().zip(inputs) {
        new.push(match input {
            Input::New(path) if !is_client => path.into_os_string(),
            _ => given.text,
        });
    }
    // Arguments that needed a file need one again.
    if args.iter().any(|arg| arg.as_bytes().starts_with(b"@")) {
        let path = scratch.path().join("arguments");
        fs::write(&path, quoted(&new)).map_err(failed)?;
        let mut argument = OsString::from("@");
        argument.push(path);
        linker.arg(argument);
    } else {
        linker.args(new);
    }
    let status = linker.status().map_err(|source| Error::Start {
        program: linker.get_program().to_owned(),
        source,
    })?;
    drop(scratch);
    std::process::exit(status.code().unwrap_or(1))
}

/// Arguments as the text of a response file.
fn quoted(args: &[OsString]) -> Vec<u8> {
    let mut text = Vec::new();
    for arg in args {
        text.push(b'"');
        for &byte in arg.as_bytes() {
            if let b'"' | b'\\' = byte {
                text.push(b'\\');
            }
            text.push(byte);
        }
        text.extend(b"\"\n");
    }
    text
}

/// What an argument of the linker is.
#[derive(Debug)]
enum Input {
    /// Nothing that changes.
    Same,
    /// A file of a client.
    Client,
    /// A file that another one takes the place of.
    New(PathBuf),
}

impl Input {
    /// Looks at an argument. Archives are rewritten into the folder `kept`, others as the file `new`.
    fn of(argument: &Path, kept: &Path, new: &Path) -> io::Result<Self> {
        if argument.as_os_str().as_bytes().starts_with(b"-") {
            return Ok(Self::Same);
        }
        // Rust's own libraries are not instrumented.
        let is_rusts = Component::Normal("rustlib".as_ref());
        let Ok(state) = fs::metadata(argument) else {
            return Ok(Self::Same);
        };
        if !state.is_file() || argument.components().any(|part| part == is_rusts) {
            return Ok(Self::Same);
        }
        let known = Kept::new(argument, &state, kept)?;
        if let Some(input) = known.input() {
            return Ok(input);
        }
        let mut file = fs::read(argument)?;
        if object::is_thin(&file) {
            let folder = argument.parent().unwrap_or(Path::new(""));
            match object::thicken(&file, |member| fs::read(folder.join(member)).ok()) {
                Some(whole) => file = whole,
                None => return Ok(Self::Same),
            }
            // Its members may change and it need not.
            return rewrite(&mut file, new);
        }
        if !file.starts_with(b"!<arch>\n") {
            return rewrite(&mut file, new);
        }
        let input = rewrite(&mut file, &known.file(Kept::NEW))?;
        known.keep(&input)?;
        Ok(input)
    }
}

/// Rewrites a file's contents into the file `new`.
fn rewrite(file: &mut [u8], new: &Path) -> io::Result<Input> {
    if object::is_client(file) && !is_runtime(file) {
        return Ok(Input::Client);
    }
    if !object::has_calls(file) {
        return Ok(Input::Same);
    }
    if object::rewrite(file).stores == 0 {
        return Ok(Input::Same);
    }
    // Another link may do the same at this moment.
    let partial = new.with_extension(format!("{}.partial", std::process::id()));
    fs::write(&partial, file)?;
    fs::rename(partial, new)?;
    Ok(Input::New(new.to_owned()))
}

/// Whether a file is our own runtime, which has all that a client uses.
fn is_runtime(file: &[u8]) -> bool {
    let ours = [
        rkcov_artifacts::OBJECT,
        rkcov_artifacts::STATIC_OBJECT,
        rkcov_artifacts::MODULE_OBJECT,
        rkcov_artifacts::LIBRARY,
    ];
    ours.iter().any(|artifact| artifact.bytes == file)
}

/// What is kept of one state of an archive: a file whose extension says what it is.
struct Kept {
    folder: PathBuf,
    /// Of the archive's path, and of its state.
    name: [String; 2],
}

impl Kept {
    /// It stays as it is.
    const SAME: &str = "same";
    /// It is of a client.
    const CLIENT: &str = "client";
    /// It is rewritten; this is it.
    const NEW: &str = "a";

    fn new(archive: &Path, state: &Metadata, folder: &Path) -> io::Result<Self> {
        let hash = |what: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            what(&mut hasher);
            format!("{:016x}", hasher.finish())
        };
        let path = std::path::absolute(archive)?;
        Ok(Self {
            folder: folder.to_owned(),
            name: [
                hash(&|hasher| path.hash(hasher)),
                hash(&|hasher| {
                    let times = [state.mtime(), state.mtime_nsec(), state.ctime()];
                    let file = [state.ino(), state.dev(), state.size()];
                    (times, file, state.ctime_nsec()).hash(hasher);
                    env!("CARGO_PKG_VERSION").hash(hasher);
                }),
            ],
        })
    }

    fn file(&self, kind: &str) -> PathBuf {
        let [path, state] = &self.name;
        self.folder.join(format!("{path}-{state}.{kind}"))
    }

    /// What is known of it.
    fn input(&self) -> Option<Input> {
        if self.file(Self::SAME).exists() {
            return Some(Input::Same);
        }
        if self.file(Self::CLIENT).exists() {
            return Some(Input::Client);
        }
        let path = self.file(Self::NEW);
        path.exists().then_some(Input::New(path))
    }

    /// Keeps what was found out, in the place of what was known of earlier states.
    fn keep(&self, input: &Input) -> io::Result<()> {
        let [path, state] = &self.name;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?.path();
            let name = entry.file_name().unwrap_or_default().to_string_lossy();
            let rest = name.strip_prefix(path.as_str());
            if rest.is_some_and(|rest| rest.starts_with('-') && !rest[1..].starts_with(state)) {
                // Another link may have removed it.
                let _ = fs::remove_file(&entry);
            }
        }
        match input {
            Input::Same => fs::write(self.file(Self::SAME), []),
            Input::Client => fs::write(self.file(Self::CLIENT), []),
            Input::New(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linker_of(args: &[&str]) -> Option<String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        Some(linker(&args)?.into_string().unwrap())
    }

    #[test]
    fn the_linker_is_the_users_or_rustcs() {
        for (args, found) in [
            (&["-Copt-level=2"][..], Some("cc")),
            (&["-Clinker=clang"], Some("clang")),
            (
                &["-C", "linker=/opt/ld.sh", "-C", "lto"],
                Some("/opt/ld.sh"),
            ),
            (&["--codegen=linker=a", "--codegen", "linker=b"], Some("b")),
            (&["-Clinker-flavor=gnu-lld-cc"], Some("cc")),
            (&["-Clinker-flavor=ld"], Some("ld")),
            (&["-Clinker-flavor=ld", "-Clinker=mold"], Some("mold")),
            (&["-Clinker-flavor=wasm-lld"], None),
        ] {
            assert_eq!(linker_of(args).as_deref(), found, "{args:?}");
        }
    }

    #[test]
    fn a_link_is_known_by_its_folder() {
        assert!(is_link(Path::new("/t/tools/00/rkcov-linker/cc")));
        assert!(!is_link(Path::new("/usr/bin/cc")));
        assert!(!is_link(Path::new("rkcov-linker")));
    }

    #[test]
    fn quoted_arguments_are_read_again() {
        let args = ["plain", "a b", "", "q\"u'o\\te", "new\nline"].map(OsString::from);
        assert_eq!(response::split(&quoted(&args)), args);
    }

    #[test]
    fn an_archive_is_rewritten_once() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).unwrap();
        let archive = folder.path().join("lib.rlib");
        fs::write(&archive, "!<arch>\n").unwrap();
        let new = folder.path().join("new");
        let look = || Input::of(&archive, &kept, &new).unwrap();
        assert!(matches!(look(), Input::Same));
        assert!(matches!(look(), Input::Same));
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 1);
        fs::write(&archive, "!<arch>\nrkcov_open\0").unwrap();
        assert!(matches!(look(), Input::Client));
        assert!(matches!(look(), Input::Client));
        assert_eq!(
            fs::read_dir(&kept).unwrap().count(),
            1,
            "the old state is gone"
        );
    }
}
