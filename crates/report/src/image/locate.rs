// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the file that a module was, and its debug information, and lets no other pass for it.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object::Object;

use super::cache::Cache;
use super::elf::{ElfError, ElfFile};
use crate::trace::BuildId;

/// Where to look for files beside the paths that a trace names.
#[derive(Clone, Debug)]
pub struct Search {
    /// Folders of separate debug information, laid out as `/usr/lib/debug` is.
    pub debug_dirs: Vec<PathBuf>,
    /// Folders of executables and libraries that are no longer where they ran.
    pub binaries: Vec<PathBuf>,
    /// Where files ran, by their build ids: a copy may be gone, and the file itself be there.
    pub ran: Vec<(BuildId, PathBuf)>,
    /// Folders that debug information has instead of others, in which the sources are.
    pub moved: Vec<(PathBuf, PathBuf)>,
    /// Where what is derived of files is kept, if anywhere.
    pub cache: Option<Cache>,
    /// Asked for what is at none of these places.
    pub remote: Option<Arc<dyn Remote>>,
}

/// Has files that are not on this machine.
pub trait Remote: fmt::Debug + Send + Sync {
    /// A copy of the file that has this build id and is this part of what was built, if there is one. Whoever asks
    /// checks what it is.
    fn fetch(&self, build_id: &BuildId, part: Part) -> Option<PathBuf>;
}

/// What is built of a program or a library and has its build id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The file that runs.
    Executable,
    /// The file with its debug information.
    Debug,
}

impl Search {
    /// The usual places, and these folders of executables and libraries.
    #[must_use]
    pub fn with_binaries(binaries: &[PathBuf]) -> Self {
        Self {
            binaries: binaries.to_vec(),
            ..Self::default()
        }
    }
}

impl Default for Search {
    fn default() -> Self {
        Self {
            debug_dirs: vec!["/usr/lib/debug".into()],
            binaries: Vec::new(),
            ran: Vec::new(),
            moved: Vec::new(),
            cache: None,
            remote: None,
        }
    }
}

impl Search {
    /// The same places, but nobody is asked for what is not there.
    pub(crate) fn here(&self) -> Self {
        Self {
            remote: None,
            ..self.clone()
        }
    }

    /// The file from elsewhere that has this build id, and is as it has to be.
    fn fetched(
        &self,
        build_id: &BuildId,
        part: Part,
        fits: impl Fn(&ElfFile) -> bool,
    ) -> Option<ElfFile> {
        let remote = self.remote.as_ref().filter(|_| !build_id.is_empty())?;
        let file = ElfFile::open(&remote.fetch(build_id, part)?).ok()?;
        (file.build_id() == *build_id && fits(&file)).then_some(file)
    }
}

/// What kept an image from being read as well as it could be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file is not there.
    #[error(
        "{} cannot be read ({source}); give the folder of a copy with `--binaries DIR`",
        path.display()
    )]
    Missing {
        /// The path in the trace.
        path: PathBuf,
        /// What the system said, or what is wrong with the file.
        source: ElfError,
    },
    /// Another file has taken its place.
    #[error(
        "{} is not the file that ran: its build id was {recorded} and is {}; \
         give the folder of the old one with `--binaries DIR`, or record again",
        path.display(),
        Named(found)
    )]
    Changed {
        /// The path in the trace.
        path: PathBuf,
        /// The build id of what ran.
        recorded: BuildId,
        /// The build id of what is there, empty if it has none.
        found: BuildId,
    },
    /// The file that ran had no build id, so nothing tells whether it is still the same.
    #[error(
        "{} has no build id, so a change since the run would go unnoticed; \
         link with -Wl,--build-id",
        path.display()
    )]
    Unchecked {
        /// The path.
        path: PathBuf,
    },
    /// A file of debug information belongs to another build.
    #[error("{} is debug information of another build, not of {}", debug.display(), path.display())]
    OtherDebug {
        /// The file that was looked up for.
        path: PathBuf,
        /// The file that was refused.
        debug: PathBuf,
    },
    /// There are no line tables, so there are function names only.
    #[error(
        "{} has no debug information: functions are known by their symbols, lines not at all; \
         build with -g, or give its folder with `--debug-dir DIR`",
        path.display()
    )]
    NoLines {
        /// The path.
        path: PathBuf,
    },
    /// There are neither line tables nor symbols, other than for the dynamic linker.
    #[error(
        "{} is stripped and has no separate debug information: lines are not known, nor functions \
         but those that it exports; give its folder with `--debug-dir DIR`",
        path.display()
    )]
    Stripped {
        /// The path.
        path: PathBuf,
    },
    /// The debug information cannot be read.
    #[error("the debug information in {} cannot be read: {what}", debug.display())]
    BadDebug {
        /// The file.
        debug: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl Problem {
    /// Whether the file that ran is not there, so that nothing can be said of its lines.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Changed { .. })
    }
}

/// A build id, or that there is none.
struct Named<'a>(&'a BuildId);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            f.write_str("not there any more")
        } else {
            self.0.fmt(f)
        }
    }
}

/// The files of one image.
#[derive(Debug, Default)]
pub(crate) struct Located {
    /// The file that ran.
    pub(crate) binary: Option<ElfFile>,
    /// The file with its line tables, perhaps the same.
    pub(crate) debug: Option<ElfFile>,
    /// What the debug information shares with that of other files (`dwz` makes it).
    pub(crate) supplementary: Option<ElfFile>,
    pub(crate) problems: Vec<Problem>,
}

/// Finds the files of the image that was at `path` and had this build id.
pub(crate) fn locate(path: &Path, build_id: &BuildId, search: &Search) -> Located {
    let mut found = Located::default();
    found.binary = binary(path, build_id, search, &mut found.problems);
    if let Some(binary) = &found.binary {
        if binary.has_lines() {
            found.debug = ElfFile::open(binary.path()).ok();
        }
    }
    if found.debug.is_none() {
        found.debug = debug(path, build_id, search, &mut found);
    }
    if let Some(debug) = &found.debug {
        found.supplementary = supplementary(debug, search);
        if found.binary.is_none() {
            // Lines are known after all: what is missing is the code itself.
            found.problems.clear();
        }
    } else if let Some(binary) = &found.binary {
        let path = path.to_owned();
        found.problems.push(if binary.has_symbols() {
            Problem::NoLines { path }
        } else {
            Problem::Stripped { path }
        });
    }
    found
}

/// The file that ran, alone.
pub(crate) fn executable(path: &Path, build_id: &BuildId, search: &Search) -> Option<ElfFile> {
    binary(path, build_id, search, &mut Vec::new())
}

fn binary(
    path: &Path,
    build_id: &BuildId,
    search: &Search,
    problems: &mut Vec<Problem>,
) -> Option<ElfFile> {
    let problem = match ElfFile::open(path) {
        Ok(file) if build_id.is_empty() => {
            let path = path.to_owned();
            problems.push(Problem::Unchecked { path });
            return Some(file);
        }
        Ok(file) => {
            let found = file.build_id();
            if found == *build_id {
                return Some(file);
            }
            Problem::Changed {
                path: path.to_owned(),
                recorded: build_id.clone(),
                found,
            }
        }
        Err(source) => Problem::Missing {
            path: path.to_owned(),
            source,
        },
    };
    let in_copies = search.binaries.iter().flat_map(|dir| {
        let by_name = path.file_name().map(|name| dir.join(name));
        [
            Some(below(dir, path)),
            by_name,
            by_build_id(dir, build_id, ""),
        ]
    });
    let in_debug = search
        .debug_dirs
        .iter()
        .map(|dir| by_build_id(dir, build_id, ""));
    let ran = search.ran.iter().filter(|(id, _)| id == build_id);
    let ran = ran.map(|(_, path)| Some(path.clone()));
    let places = in_copies.chain(in_debug).chain(ran);
    let copy = places.flatten().find_map(|candidate| {
        let file = ElfFile::open(&candidate).ok()?;
        (file.build_id() == *build_id).then_some(file)
    });
    let copy = copy.or_else(|| search.fetched(build_id, Part::Executable, |_| true));
    if copy.is_none() {
        problems.push(problem);
    }
    copy
}

fn debug(path: &Path, build_id: &BuildId, search: &Search, found: &mut Located) -> Option<ElfFile> {
    let dirs = || search.debug_dirs.iter().chain(&search.binaries);
    let by_id = dirs().filter_map(|dir| by_build_id(dir, build_id, ".debug"));
    for candidate in by_id {
        if let Ok(file) = ElfFile::open(&candidate) {
            if file.build_id() == *build_id && file.has_lines() {
                return Some(file);
            }
        }
    }
    // Names say less than build ids: what is found by name must show that it belongs here.
    let by_name = debug_by_name(path, build_id, search, found);
    by_name.or_else(|| search.fetched(build_id, Part::Debug, ElfFile::has_lines))
}

fn debug_by_name(
    path: &Path,
    build_id: &BuildId,
    search: &Search,
    found: &mut Located,
) -> Option<ElfFile> {
    let dirs = || search.debug_dirs.iter().chain(&search.binaries);
    let binary = found.binary.as_ref()?;
    let object = binary.object()?;
    let link = object.gnu_debuglink().ok().flatten();
    let folder = binary.path().parent().unwrap_or(Path::new("."));
    let mut names: Vec<(PathBuf, Option<u32>)> = Vec::new();
    if let Some((name, sum)) = link {
        let name = Path::new(OsStr::from_bytes(name)).file_name()?;
        let recorded = path.parent().unwrap_or(Path::new("/"));
        names.push((folder.join(name), Some(sum)));
        names.push((folder.join(".debug").join(name), Some(sum)));
        names.extend(dirs().map(|dir| (below(dir, recorded).join(name), Some(sum))));
        names.extend(dirs().map(|dir| (dir.join(name), Some(sum))));
    }
    let mut beside = binary.path().as_os_str().to_owned();
    beside.push(".debug");
    if names.iter().all(|(name, _)| *name != *beside) {
        names.push((beside.into(), None));
    }
    for (candidate, sum) in names {
        let Ok(file) = ElfFile::open(&candidate) else {
            continue;
        };
        let id = file.build_id();
        let same = if id.is_empty() || build_id.is_empty() {
            sum.is_some_and(|sum| crc32fast::hash(file.bytes()) == sum)
        } else {
            id == *build_id
        };
        if same && file.has_lines() {
            return Some(file);
        }
        if !same {
            found.problems.push(Problem::OtherDebug {
                path: path.to_owned(),
                debug: candidate,
            });
        }
    }
    None
}

fn supplementary(debug: &ElfFile, search: &Search) -> Option<ElfFile> {
    let object = debug.object()?;
    let (name, id) = object.gnu_debugaltlink().ok().flatten()?;
    let id = BuildId(id.to_vec());
    let folder = debug.path().parent().unwrap_or(Path::new("."));
    let named = folder.join(OsStr::from_bytes(name));
    let dirs = search.debug_dirs.iter();
    let by_id = dirs.filter_map(|dir| by_build_id(dir, &id, ".debug"));
    let here = std::iter::once(named)
        .chain(by_id)
        .filter_map(|path| ElfFile::open(&path).ok())
        .find(|file| file.build_id() == id);
    here.or_else(|| search.fetched(&id, Part::Debug, |_| true))
}

/// `DIR/.build-id/ab/cdef...`, where packages put files by their build id.
fn by_build_id(dir: &Path, id: &BuildId, suffix: &str) -> Option<PathBuf> {
    let hex = id.to_string();
    let (first, rest) = hex.split_at_checked(2)?;
    Some(
        dir.join(".build-id")
            .join(first)
            .join(format!("{rest}{suffix}")),
    )
}

/// `path` below `dir`, as below another root.
fn below(dir: &Path, path: &Path) -> PathBuf {
    dir.join(path.strip_prefix("/").unwrap_or(path))
}
