// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding programs as a shell does, and never ourselves.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// A program that was found, and when its file last changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it was found: the name that it was called by, in a folder of `$PATH` or as given.
    pub path: PathBuf,
    /// What tells this version of the file from an earlier one.
    pub stamp: Stamp,
}

/// What tells two versions of a file apart: a new compiler under the old name has another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// The file behind all symbolic links.
    pub file: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Time of last modification, nanoseconds since 1970.
    pub modified: i128,
}

/// Why a program cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// No such file.
    #[error("{}: not found", .0.display())]
    Missing(PathBuf),
    /// There is a file, but it may not be run, or it is rkcov itself.
    #[error("{}: not an executable program", .0.display())]
    NotExecutable(PathBuf),
}

/// Finds `name` as a shell does: a path as it is, anything else in the folders of `$PATH`. Links to
/// the running program are passed over, so that a wrapper never finds itself.
///
/// # Errors
/// There is none.
pub fn find(name: &OsStr) -> Result<Program, NotFound> {
    let ourselves = env::current_exe().and_then(fs::canonicalize).ok();
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    find_in(name, &path, ourselves.as_deref())
}

fn find_in(name: &OsStr, path: &OsStr, ourselves: Option<&Path>) -> Result<Program, NotFound> {
    let candidates: Vec<PathBuf> = if name.as_encoded_bytes().contains(&b'/') {
        vec![PathBuf::from(name)]
    } else {
        env::split_paths(path).map(|dir| dir.join(name)).collect()
    };
    let mut refused = false;
    for candidate in candidates {
        match stamp(&candidate) {
            Ok(Some(stamp)) if Some(stamp.file.as_path()) != ourselves => {
                return Ok(Program {
                    path: candidate,
                    stamp,
                });
            }
            Ok(_) => refused = true,
            Err(_) => {}
        }
    }
    Err(if refused {
        NotFound::NotExecutable(name.into())
    } else {
        NotFound::Missing(name.into())
    })
}

/// The stamp of the file at `path`, `None` if it cannot be run.
///
/// # Errors
/// There is no such file.
pub fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    let file = fs::canonicalize(path)?;
    let found = fs::metadata(&file)?;
    let runs = found.is_file() && found.mode() & 0o111 != 0;
    Ok(runs.then(|| Stamp {
        file,
        size: found.size(),
        modified: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_are_found_and_ourselves_are_passed_over() {
        let sh = find_in(OsStr::new("sh"), OsStr::new("/nowhere:/bin:/usr/bin"), None).unwrap();
        assert_eq!(sh.path, Path::new("/bin/sh"));
        assert_eq!(
            find_in(OsStr::new("/bin/sh"), OsStr::new(""), None).unwrap(),
            sh
        );
        let refused = find_in(OsStr::new("sh"), OsStr::new("/bin"), Some(&sh.stamp.file));
        assert!(
            matches!(refused, Err(NotFound::NotExecutable(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn missing_and_not_executable_differ() {
        let missing = find_in(OsStr::new("no-such-compiler"), OsStr::new("/bin"), None);
        assert!(matches!(missing, Err(NotFound::Missing(_))), "{missing:?}");
        for file in ["/proc/self/status", "/"] {
            let refused = find_in(OsStr::new(file), OsStr::new(""), None);
            assert!(
                matches!(refused, Err(NotFound::NotExecutable(_))),
                "{refused:?}"
            );
        }
    }
}
