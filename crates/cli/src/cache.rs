// SPDX-License-Identifier: MIT OR Apache-2.0
//! The folder for what can be made again: what compilers were found to be, and the unpacked runtime.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "debuginfod")]
use std::sync::OnceLock;
use std::{env, fs, io};

#[cfg(feature = "debuginfod")]
use crate::debuginfod::Client;
use rkcov_report::image::{Cache, Remote, Search};

/// What reports keep of programs may take this much.
const IMAGES: u64 = 1 << 30;

/// The cache folder: `$RKCOV_CACHE_DIR`, `$XDG_CACHE_HOME/rkcov` or `~/.cache/rkcov`, whichever is
/// set first. Where none can be made (package builds have no home) it is a folder of the user's
/// own in the temporary folder.
///
/// # Errors
/// No place can be written to.
pub fn dir() -> io::Result<PathBuf> {
    let named = |variable: &str, below: &str| {
        let path = PathBuf::from(env::var_os(variable)?);
        path.is_absolute().then(|| path.join(below))
    };
    let place = named("RKCOV_CACHE_DIR", "")
        .or_else(|| named("XDG_CACHE_HOME", "rkcov"))
        .or_else(|| named("HOME", ".cache/rkcov"));
    match place {
        Some(path) if fs::create_dir_all(&path).is_ok() => Ok(path),
        _ => private_temporary_dir(),
    }
}

/// The folder with the runtime's files, unpacked. No other version of the runtime has it: shared
/// libraries keep the path.
///
/// # Errors
/// No place can be written to.
pub fn runtime() -> io::Result<PathBuf> {
    let dir = dir()?.join("runtime").join(rkcov_artifacts::FINGERPRINT);
    rkcov_artifacts::install(&dir)?;
    Ok(dir)
}

/// Where the files of modules may be: beside the usual places in these folders of executables and libraries. What
/// reports derive of them is kept in the cache folder, unless `$RKCOV_NO_CACHE` is set. The servers that
/// `$DEBUGINFOD_URLS` names are asked for what is at none of these places.
#[must_use]
pub fn search(binaries: &[PathBuf]) -> Search {
    Search {
        cache: images(),
        remote: remote(),
        ..Search::with_binaries(binaries)
    }
}

#[cfg(feature = "debuginfod")]
fn remote() -> Option<Arc<dyn Remote>> {
    // One for the process: it knows what was answered, and whom to ask no more.
    static CLIENT: OnceLock<Option<Arc<Client>>> = OnceLock::new();
    let client = CLIENT.get_or_init(|| Client::of_environment().map(Arc::new));
    Some(client.clone()?)
}

#[cfg(not(feature = "debuginfod"))]
const fn remote() -> Option<Arc<dyn Remote>> {
    None
}

fn images() -> Option<Cache> {
    if env::var_os("RKCOV_NO_CACHE").is_some_and(|value| !value.is_empty()) {
        return None;
    }
    // Another build may derive something else of the same file.
    let program = env::current_exe().ok()?.metadata().ok()?;
    let times = (program.mtime(), program.mtime_nsec(), program.ctime());
    Some(Cache {
        folder: dir().ok()?.join("images"),
        build: format!(
            "{} {} {} {times:?}",
            env!("CARGO_PKG_VERSION"),
            program.ino(),
            program.len()
        ),
        limit: IMAGES,
    })
}

/// A folder in the temporary folder that nobody else can write to: others could put objects into
/// a shared one, and these are linked into programs.
fn private_temporary_dir() -> io::Result<PathBuf> {
    let user = fs::metadata("/proc/self")?.uid();
    let path = env::temp_dir().join(format!("rkcov-{user}"));
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(&path)?;
    if found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0 {
        Ok(path)
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} belongs to another user", path.display()),
        ))
    }
}

/// Writes a file so that another process sees all of it or the one before.
///
/// # Errors
/// The folder cannot be made or written to.
pub fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    rkcov_artifacts::replace(path, |partial| fs::write(partial, contents))
}
