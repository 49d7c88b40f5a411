// SPDX-License-Identifier: MIT OR Apache-2.0
//! The folder of a project's traces, which several runs may use at once.
//!
//! A run claims a number: it holds a lock on the file `N.claim` until it ends, however it ends.
//! Whoever removes traces removes none that another run has claimed. The folder itself is locked
//! while claims are made and looked at.

use super::Error;
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The folder.
#[derive(Clone, Debug)]
pub struct Traces {
    folder: PathBuf,
}

/// The extension of a claim.
const CLAIM: &str = "claim";

/// A trace that is this process's, until this value is dropped.
#[derive(Debug)]
#[must_use = "the trace is free for others when this is dropped"]
pub struct Claim {
    /// The file to write.
    pub trace: PathBuf,
    claim: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // If it stays, nobody has a lock on it.
        let _ = fs::remove_file(&self.claim);
    }
}

impl Traces {
    /// The traces in `folder`, which need not be there yet.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn failed(&self) -> impl Fn(io::Error) -> Error + '_ {
        |source| Error::File {
            path: self.folder.clone(),
            source,
        }
    }

    /// Locks the folder. A file system without locks has to do without.
    fn lock(&self) -> Result<File, Error> {
        let failed = self.failed();
        fs::create_dir_all(&self.folder).map_err(&failed)?;
        let folder = File::open(&self.folder).map_err(&failed)?;
        let _ = flock(&folder, FlockOperation::LockExclusive);
        Ok(folder)
    }

    /// A name for the next trace. With `clean`, what earlier runs left is removed first, but not
    /// what another run that goes on now has claimed; `alone` is called if there is no such run.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn claim(&self, clean: bool, alone: impl FnOnce()) -> Result<Claim, Error> {
        let failed = self.failed();
        let _locked = self.lock()?;
        let claimed = self.claimed()?;
        if clean {
            for path in self.files()? {
                if !number_of(&path).is_some_and(|number| claimed.contains(&number)) {
                    fs::remove_file(&path).map_err(&failed)?;
                }
            }
            if claimed.is_empty() {
                alone();
            }
        }
        for number in 1_u32.. {
            let trace = self.folder.join(format!("{number}.rkcov"));
            if claimed.contains(&number) || trace.exists() {
                continue;
            }
            let claim = self.folder.join(format!("{number}.{CLAIM}"));
            let lock = File::create(&claim).map_err(&failed)?;
            let _ = flock(&lock, FlockOperation::NonBlockingLockExclusive);
            return Ok(Claim {
                trace,
                claim,
                _lock: lock,
            });
        }
        Err(Error::NoTraces(self.folder.clone()))
    }

    /// The traces that are there, in the order of their numbers.
    #[must_use]
    pub fn recorded(&self) -> Vec<PathBuf> {
        let mut traces: Vec<PathBuf> = self.files().unwrap_or_default();
        traces.retain(|path| path.extension() == Some(OsStr::new("rkcov")));
        traces.sort_by_key(|path| (number_of(path), path.clone()));
        traces
    }

    fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let failed = self.failed();
        let entries = fs::read_dir(&self.folder).map_err(&failed)?;
        entries
            .map(|entry| Ok(entry.map_err(&failed)?.path()))
            .collect()
    }

    /// The numbers that runs have which go on now.
    fn claimed(&self) -> Result<Vec<u32>, Error> {
        let files = self.files()?;
        let claims = files
            .iter()
            .filter(|path| path.extension() == Some(OsStr::new(CLAIM)) && is_held(path));
        Ok(claims.filter_map(|path| number_of(path)).collect())
    }
}

/// The number in the name of a trace, of a claim or of what will become a trace.
fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.trim_start_matches('.');
    name.split('.').next()?.parse().ok()
}

fn is_held(claim: &Path) -> bool {
    let Ok(file) = File::open(claim) else {
        return false;
    };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(traces: &Traces) -> Vec<String> {
        let mut names: Vec<String> = traces
            .files()
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_another_run_has_stays() {
        let folder = tempfile::tempdir().unwrap();
        let traces = Traces::new(folder.path().join("trace"));
        let first = traces.claim(true, || ()).unwrap();
        fs::write(&first.trace, "").unwrap();
        let second = traces
            .claim(true, || panic!("another run goes on"))
            .unwrap();
        assert_ne!(first.trace, second.trace);
        assert_eq!(names(&traces), ["1.claim", "1.rkcov", "2.claim"]);
        drop(first);
        // Ended, so what it left is what an earlier run left.
        let third = traces.claim(true, || ()).unwrap();
        assert_eq!(names(&traces), ["1.claim", "2.claim"]);
        drop((second, third));
        // A run that was killed leaves a claim that nobody holds.
        fs::write(traces.folder().join("1.claim"), "").unwrap();
        fs::write(traces.folder().join("7.rkcov.partial"), "").unwrap();
        let mut was_alone = false;
        let _fourth = traces.claim(true, || was_alone = true).unwrap();
        assert!(was_alone);
        assert_eq!(names(&traces), ["1.claim"]);
    }

    #[test]
    fn without_cleaning_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let traces = Traces::new(folder.path().join("trace"));
        for number in [1, 2, 3] {
            let claim = traces.claim(false, || ()).unwrap();
            assert_eq!(number_of(&claim.trace), Some(number));
            fs::write(&claim.trace, "").unwrap();
        }
        assert_eq!(traces.recorded().len(), 3);
    }
}
