// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts rkcov into a kernel tree and takes it out again.
//!
//! A tree gets a folder `kernel/rkcov` and one block of lines in each of a few files. All places
//! are looked for before the first byte is written, so a tree that is not one we know stays as it
//! is. Files that would not change are not written, so that a build has nothing to do again.

mod edits;
mod fence;

use edits::{Edit, EDITS};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// What stands in `kernel/rkcov`.
static SOURCES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// The folder that is ours, from the tree's top.
const FOLDER: &str = "kernel/rkcov";

/// A file that only our folder has.
const WITNESS: &str = "kcov_rust.rs";

/// The versions of Linux that the sources build in. What is particular to one is in `linux_6.rs` and
/// `linux_7.rs`: where the current task and the preempt count are, and the types of kcov's header.
const SUPPORTED: [Version; 2] = [
    Version {
        major: 6,
        minor: 12,
    },
    Version { major: 7, minor: 3 },
];

/// A version of Linux, without its patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// What the tree's top Makefile says.
    fn of(makefile: &str) -> Option<Self> {
        let number = |name: &str| {
            let line = makefile.lines().find(|line| {
                let rest = line.strip_prefix(name).map(str::trim_start);
                rest.is_some_and(|rest| rest.starts_with('='))
            });
            line?.split_once('=')?.1.trim().parse().ok()
        };
        Some(Self {
            major: number("VERSION")?,
            minor: number("PATCHLEVEL")?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why a tree could not be changed. Nothing was written, except with [`Error::Io`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the top of a kernel tree.
    #[error("{} is not the top of a Linux tree: it has no {missing}", tree.display())]
    NotATree {
        /// What was given.
        tree: PathBuf,
        /// The first file that is missing.
        missing: &'static str,
    },
    /// A place where a block goes was not found.
    #[error("{} is not a tree that rkcov knows: {file} has no {anchor}", tree.display())]
    UnknownTree {
        /// The tree.
        tree: PathBuf,
        /// The file.
        file: &'static str,
        /// What was looked for.
        anchor: &'static str,
    },
    /// The Rust kcov does not build in this version of Linux.
    #[error(
        "{} is Linux {version}, and the Rust kcov does not build there: it supports Linux {}. Nothing was changed",
        tree.display(),
        SUPPORTED.map(|version| version.to_string()).join(" and ")
    )]
    Unsupported {
        /// The tree.
        tree: PathBuf,
        /// Its version.
        version: Version,
    },
    /// Our marks in a file do not pair up.
    #[error("{}: the lines \"rkcov: begin\" and \"rkcov: end\" do not pair up", file.display())]
    Unpaired {
        /// The file.
        file: PathBuf,
    },
    /// `kernel/rkcov` exists and is not ours.
    #[error("{} exists, and rkcov did not make it", folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Whether a tree has rkcov.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No trace of it.
    Absent,
    /// As [`install`] of this very version leaves it.
    Current,
    /// Another version's, or parts of it.
    Stale,
}

/// All that [`install`] puts into a tree.
pub(crate) fn content() -> impl Iterator<Item = &'static [u8]> {
    let blocks = EDITS.iter().flat_map(|edit| edit.blocks);
    let blocks = blocks.map(|block| block.body.as_bytes());
    let files = SOURCES
        .iter()
        .flat_map(|(name, content)| [name.as_bytes(), content]);
    blocks.chain(files)
}

/// A tree with rkcov in it, as files to write; nothing is written yet.
struct Plan {
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Files in our folder that this version does not have.
    stale: Vec<PathBuf>,
}

/// Puts rkcov into the tree, or brings what is there up to this version. Returns how many files
/// were written or removed: none if all was in place.
///
/// # Errors
/// See [`Error`].
pub fn install(tree: &Path) -> Result<usize, Error> {
    let plan = plan(tree)?;
    let mut changed = plan.stale.len();
    for (path, content) in &plan.files {
        if fs::read(path).is_ok_and(|old| old == *content) {
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io_error(folder))?;
        }
        fs::write(path, content).map_err(io_error(path))?;
        changed += 1;
    }
    for path in &plan.stale {
        fs::remove_file(path).map_err(io_error(path))?;
    }
    Ok(changed)
}

/// Takes rkcov out of the tree. Every file is then as it was before [`install`], byte for byte.
/// Returns how many files were written or removed.
///
/// # Errors
/// See [`Error`].
pub fn uninstall(tree: &Path) -> Result<usize, Error> {
    check_tree(tree)?;
    let folder = tree.join(FOLDER);
    let ours = files_in_our_folder(&folder)?;
    let mut stripped = Vec::new();
    for edit in &EDITS {
        let path = tree.join(edit.path);
        // A file that is not there has no block.
        let Some(text) = read_if_there(&path)? else {
            continue;
        };
        let without = strip(&path, &text, edit)?;
        if without != text {
            stripped.push((path, without));
        }
    }
    for (path, text) in &stripped {
        fs::write(path, text).map_err(io_error(path))?;
    }
    if !ours.is_empty() {
        fs::remove_dir_all(&folder).map_err(io_error(&folder))?;
    }
    Ok(stripped.len() + ours.len())
}

/// Looks whether the tree has rkcov, and changes nothing.
///
/// # Errors
/// See [`Error`].
pub fn state(tree: &Path) -> Result<State, Error> {
    let plan = plan(tree)?;
    let same = |(path, content): &(PathBuf, Vec<u8>)| fs::read(path).is_ok_and(|c| c == *content);
    if plan.stale.is_empty() && plan.files.iter().all(same) {
        return Ok(State::Current);
    }
    for edit in &EDITS {
        let path = tree.join(edit.path);
        let text = read_if_there(&path)?.unwrap_or_default();
        if strip(&path, &text, edit)? != text {
            return Ok(State::Stale);
        }
    }
    let folder = files_in_our_folder(&tree.join(FOLDER))?;
    Ok(if folder.is_empty() {
        State::Absent
    } else {
        State::Stale
    })
}

fn plan(tree: &Path) -> Result<Plan, Error> {
    check_tree(tree)?;
    let version = check_version(tree)?;
    let mut files = Vec::new();
    for edit in &EDITS {
        if version.major < edit.since {
            continue;
        }
        let path = tree.join(edit.path);
        let text = read_if_there(&path)?.unwrap_or_default();
        let text = strip(&path, &text, edit)?;
        let lines: Vec<&str> = text.lines().collect();
        let mut with = text.clone();
        // From the last, for the places of the others not to move.
        for block in edit.blocks.iter().rev() {
            let line = (block.find)(&lines).filter(|_| text.ends_with('\n'));
            let line = line.ok_or_else(|| Error::UnknownTree {
                tree: tree.to_owned(),
                file: edit.path,
                anchor: block.anchor,
            })?;
            with = fence::insert(&with, line, block.body, edit.comment);
        }
        files.push((path, with.into_bytes()));
    }
    let folder = tree.join(FOLDER);
    let mut stale = files_in_our_folder(&folder)?;
    for (name, content) in SOURCES {
        let path = folder.join(name);
        stale.remove(&path);
        files.push((path, content.to_vec()));
    }
    Ok(Plan {
        files,
        stale: stale.into_iter().collect(),
    })
}

fn check_tree(tree: &Path) -> Result<(), Error> {
    for missing in ["Kbuild", "Kconfig", "Makefile", "include/linux/sched.h"] {
        if !tree.join(missing).is_file() {
            return Err(Error::NotATree {
                tree: tree.to_owned(),
                missing,
            });
        }
    }
    Ok(())
}

fn check_version(tree: &Path) -> Result<Version, Error> {
    let makefile = tree.join("Makefile");
    let text = fs::read_to_string(&makefile).map_err(io_error(&makefile))?;
    match Version::of(&text) {
        Some(version) if SUPPORTED.contains(&version) => Ok(version),
        Some(version) => Err(Error::Unsupported {
            tree: tree.to_owned(),
            version,
        }),
        None => Err(Error::UnknownTree {
            tree: tree.to_owned(),
            file: "Makefile",
            anchor: "VERSION and PATCHLEVEL",
        }),
    }
}

/// All files of our folder; none if there is no such folder.
fn files_in_our_folder(folder: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let mut files = BTreeSet::new();
    if !folder.exists() {
        return Ok(files);
    }
    if !folder.join(WITNESS).is_file() {
        return Err(Error::Foreign {
            folder: folder.to_owned(),
        });
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(io_error(&folder))? {
            let path = entry.map_err(io_error(&folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path);
            }
        }
    }
    Ok(files)
}

fn strip(path: &Path, text: &str, edit: &Edit) -> Result<String, Error> {
    fence::strip(text, edit.comment).map_err(|fence::Unpaired| Error::Unpaired {
        file: path.to_owned(),
    })
}

fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error(path)(e)),
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
