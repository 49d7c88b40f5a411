// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a workshop has: what it needs of the machine, and what is kept in it.

use crate::error::{io_error, Result};
use crate::flavor::{Arch, Flavor};
use crate::kernel::Image;
use crate::kvm::{self, Kvm, Trial};
use crate::setup::Workshop;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A thing that building or booting a kernel needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name: a Debian package, or bindgen.
    pub name: &'static str,
    /// What it is needed for.
    pub purpose: &'static str,
    /// The version that is here.
    pub version: Option<String>,
}

/// A folder that can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Below the workshop's folder.
    pub name: PathBuf,
    /// What it takes on the disk.
    pub bytes: u64,
    /// Of an image: whether it is the one that would be booted, and not built anew first.
    pub current: Option<bool>,
}

impl Workshop {
    /// What is known of KVM. It is tried if there is a kernel to try it with.
    ///
    /// # Errors
    /// What was found out cannot be kept.
    pub fn kvm(&self) -> Result<Kvm> {
        let kernel = self.version_folder(Arch::X86_64).ok().and_then(|folder| {
            let pcs = Flavor::all().filter(|f| f.arch == Arch::X86_64);
            let mut kernels = pcs.map(|flavor| Image::below(&folder, flavor).kernel);
            kernels.find(|kernel| kernel.is_file())
        });
        let trial = kernel.as_deref().map(|kernel| Trial { kernel, own: false });
        kvm::look(&self.known_kvm(), trial)
    }

    /// All that is kept, in the order of names.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn kept(&self) -> Result<Vec<Kept>> {
        let now = self.version_folder(Arch::X86_64).ok();
        let mut kept = Vec::new();
        let mut versions = folders(self.root())?;
        versions.retain(|folder| !folder.ends_with("trees"));
        versions.extend(folders(&self.root().join("trees"))?);
        for version in versions {
            let mut parts: Vec<PathBuf> = folders(&version)?;
            // Of what is built, each flavor by itself.
            for group in ["build", "image"] {
                parts.retain(|part| !part.ends_with(group));
                parts.extend(folders(&version.join(group))?);
            }
            parts.sort();
            for part in parts {
                let flavor = Flavor::all().find(|f| part.ends_with(format!("image/{f}")));
                let current = flavor.map(|flavor| {
                    now.as_deref() == Some(&*version)
                        && Image::below(&version, flavor).is_current(&flavor.config())
                });
                let bytes = bytes(&part);
                let name = part.strip_prefix(self.root()).unwrap_or(&part).to_owned();
                kept.push(Kept {
                    name,
                    bytes,
                    current,
                });
            }
        }
        Ok(kept)
    }
}

/// The folders in a folder, if it is there.
fn folders(of: &Path) -> Result<Vec<PathBuf>> {
    if !of.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(of).map_err(io_error(of))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    Ok(found)
}

/// What a folder takes on the disk. What cannot be read counts nothing.
fn bytes(path: &Path) -> u64 {
    /// Of which `st_blocks` counts.
    const BLOCK: u64 = 512;
    let Ok(found) = fs::symlink_metadata(path) else {
        return 0;
    };
    let below = match fs::read_dir(path) {
        Ok(entries) if found.is_dir() => entries.flatten().map(|e| bytes(&e.path())).sum(),
        _ => 0,
    };
    found.blocks() * BLOCK + below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_listed_with_its_size() {
        let dir = tempfile::TempDir::new().unwrap();
        let workshop = Workshop::new(dir.path());
        assert_eq!(workshop.kept().unwrap(), []);
        let version = dir.path().join("linux/6.12.0-0");
        for (file, size) in [
            ("source/kernel/kcov.c", 100_000),
            ("build/uml/vmlinux", 300_000),
            ("image/uml-rust/kernel", 200_000),
        ] {
            let file = version.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, vec![b'x'; size]).unwrap();
        }
        let kept = workshop.kept().unwrap();
        let names: Vec<_> = kept.iter().map(|k| (k.name.to_str(), k.current)).collect();
        assert_eq!(
            names,
            [
                (Some("6.12.0-0/build/uml"), None),
                // Of a package that is not the one here.
                (Some("6.12.0-0/image/uml-rust"), Some(false)),
                (Some("6.12.0-0/source"), None),
            ]
        );
        assert!(kept.iter().all(|k| k.bytes >= 100_000), "{kept:?}");
    }
}
