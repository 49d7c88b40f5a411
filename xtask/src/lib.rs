// SPDX-License-Identifier: MIT OR Apache-2.0
//! The project's own commands, as `cargo xtask COMMAND`.
//!
//! They are a library too, so that tests use the same source packages and the same builds as the
//! demonstration.

pub mod affected;
pub mod book;
mod choice;
pub mod compare;
pub mod demo;
pub mod differential;
pub mod dist;
pub mod hot_path;
pub mod lcov;
mod page;
pub mod per_test;
pub mod projects;
pub mod rust_projects;
pub mod setup;
pub mod shell;
pub mod sources;
pub mod test;
pub mod zstd;

use std::env;
use std::path::{Path, PathBuf};

/// The root of the repository.
#[must_use]
pub fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo's target folder.
#[must_use]
pub fn target_dir() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root().join(target)
}

/// A folder for what the commands make.
#[must_use]
pub fn work_dir(name: &str) -> PathBuf {
    target_dir().join("xtask").join(name)
}

/// `path` as it is seen from the root.
#[must_use]
pub fn from_root(path: &Path) -> &Path {
    path.strip_prefix(root()).unwrap_or(path)
}
