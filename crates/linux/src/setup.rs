// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a machine needs to build and boot a kernel, and how it gets that.

use crate::error::{io_error, Error, Result};
use crate::flavor::Arch;
use crate::inventory::Item;
use crate::progress::{run_logged, Progress};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of Debian's LLVM packages, as the kernel's `LLVM=-N` has it.
pub(crate) const LLVM: &str = "22";
/// Debian's package of the kernel's sources.
pub(crate) const SOURCE_PACKAGE: &str = "linux-source-6.12";

/// Debian's packages, and what for.
const PACKAGES: [(&str, &str); 16] = [
    (SOURCE_PACKAGE, "the kernel"),
    ("clang-22", "its C"),
    ("lld-22", "its linker"),
    ("llvm-22", "its binary tools"),
    ("rustc-web", "its Rust"),
    ("rust-web-src", "its Rust's core"),
    ("make", "its build"),
    ("flex", "its build"),
    ("bison", "its build"),
    ("bc", "its build"),
    ("cpio", "its build"),
    ("xz-utils", "unpacking it"),
    ("libelf-dev", "objtool"),
    ("libssl-dev", "its build"),
    ("gcc", "the build's own programs"),
    ("qemu-system-x86", "the guest"),
];

/// What a guest with arm64 processors needs besides.
const ARM64_PACKAGES: [(&str, &str); 3] = [
    ("gcc-aarch64-linux-gnu", "linking its first process"),
    ("libc6-dev-arm64-cross", "its first process"),
    ("qemu-system-arm", "the guest"),
];

/// From crates.io.
const BINDGEN: &str = "bindgen";
const BINDGEN_VERSION: &str = "0.73.2";

/// Where everything that can be made again is kept.
#[derive(Clone, Debug)]
pub struct Workshop {
    root: PathBuf,
}

impl Workshop {
    /// The workshop in the cache folder `cache`.
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self {
            root: cache.join("linux"),
        }
    }

    /// The folder for what belongs to this version of the kernel's sources.
    pub(crate) fn version_folder(&self, arch: Arch) -> Result<PathBuf> {
        let versions = package_versions(&[SOURCE_PACKAGE])?;
        let version = versions.get(SOURCE_PACKAGE).ok_or_else(|| Error::Missing {
            missing: vec![format!("the package {SOURCE_PACKAGE}")],
            arch,
        })?;
        Ok(self.root.join(version))
    }

    /// Where it is kept whether KVM works.
    pub(crate) fn known_kvm(&self) -> PathBuf {
        self.root.join("kvm")
    }

    /// The folder for consoles and other logs.
    pub(crate) fn logs(&self) -> Result<PathBuf> {
        let logs = self.root.join("logs");
        std::fs::create_dir_all(&logs).map_err(io_error(&logs))?;
        Ok(logs)
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn bindgen_root(&self) -> PathBuf {
        self.root.with_file_name("bindgen")
    }

    /// The bindgen that [`Workshop::setup`] installs.
    pub(crate) fn bindgen(&self) -> PathBuf {
        self.bindgen_root().join("bin/bindgen")
    }

    /// What is needed for guests of this sort, with what of it is here.
    ///
    /// # Errors
    /// The package manager cannot be asked.
    pub fn inventory(&self, arch: Arch) -> Result<Vec<Item>> {
        let packages: Vec<(&str, &str)> = packages(arch).collect();
        let names: Vec<&str> = packages.iter().map(|(name, _)| *name).collect();
        let mut versions = package_versions(&names)?;
        let packages = packages.into_iter().map(|(name, purpose)| Item {
            name,
            purpose,
            version: versions.remove(name),
        });
        let mut items: Vec<Item> = packages.collect();
        items.push(Item {
            name: BINDGEN,
            purpose: "the kernel's Rust",
            version: version_of(&self.bindgen()),
        });
        Ok(items)
    }

    /// The commands that install what these lack, with what to say of each.
    #[must_use]
    pub fn remedies(&self, items: &[Item]) -> Vec<(&'static str, Command)> {
        let missing = items.iter().filter(|item| item.version.is_none());
        let (packages, others): (Vec<&str>, Vec<&str>) = missing
            .map(|item| item.name)
            .partition(|name| *name != BINDGEN);
        let mut remedies = Vec::new();
        if !packages.is_empty() {
            let mut update = Command::new("apt-get");
            update.arg("update");
            remedies.push(("reading the package lists", update));
            let mut install = Command::new("apt-get");
            install
                .args(["install", "--yes", "--no-install-recommends"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive");
            remedies.push(("installing packages", install));
        }
        if !others.is_empty() {
            let mut install = Command::new("cargo");
            install
                .args(["install", "--locked", "--root"])
                .arg(self.bindgen_root())
                .arg(format!("bindgen-cli@{BINDGEN_VERSION}"));
            remedies.push(("building bindgen", install));
        }
        remedies
    }

    /// Fails if something is missing.
    ///
    /// # Errors
    /// [`Error::Missing`], and those of [`Workshop::inventory`].
    pub fn check(&self, arch: Arch) -> Result<()> {
        let missing: Vec<String> = self
            .inventory(arch)?
            .into_iter()
            .filter(|item| item.version.is_none())
            .map(|item| item.name.to_owned())
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Error::Missing { missing, arch })
        }
    }

    /// Installs what is missing: Debian's packages (as root), and bindgen from crates.io.
    ///
    /// # Errors
    /// An installation failed; its log is named.
    pub fn setup(&self, arch: Arch, progress: &Progress) -> Result<()> {
        let log = self.logs()?.join("setup.log");
        for (what, mut command) in self.remedies(&self.inventory(arch)?) {
            run_logged(&mut command, what, &log, progress)?;
        }
        self.check(arch)
    }
}

/// The packages for guests of this sort.
fn packages(arch: Arch) -> impl Iterator<Item = (&'static str, &'static str)> {
    let more: &[(&str, &str)] = match arch {
        Arch::X86_64 | Arch::Uml => &[],
        Arch::Arm64 => &ARM64_PACKAGES,
    };
    PACKAGES.iter().chain(more).copied()
}

/// A command as one types it.
#[must_use]
pub fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// The versions of those of these packages that are installed.
fn package_versions(packages: &[&str]) -> Result<HashMap<String, String>> {
    // It complains of each that it does not know.
    let out = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat=${Package} ${db:Status-Status} ${Version}\n",
        ])
        .args(packages)
        .output()
        .map_err(io_error("dpkg-query"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let installed = text.lines().filter_map(|line| {
        let (name, state) = line.split_once(' ')?;
        let version = state.strip_prefix("installed ")?;
        Some((name.to_owned(), version.to_owned()))
    });
    Ok(installed.collect())
}

/// What a program says of its version, if it runs.
fn version_of(program: &Path) -> Option<String> {
    let out = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let version = text.split_whitespace().nth(1)?;
    out.status.success().then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_installed_by_its_own_means() {
        let workshop = Workshop::new(Path::new("/cache"));
        let item = |name, version: Option<&str>| Item {
            name,
            purpose: "",
            version: version.map(str::to_owned),
        };
        let said = |items: &[Item]| -> Vec<String> {
            let remedies = workshop.remedies(items).into_iter();
            remedies.map(|(_, command)| words(&command)).collect()
        };
        let here = [item("flex", Some("2")), item("bindgen", Some("0"))];
        assert_eq!(said(&here), [""; 0]);
        let missing = [item("flex", None), item("bc", None), item("bindgen", None)];
        assert_eq!(
            said(&missing),
            [
                "apt-get update".to_owned(),
                "apt-get install --yes --no-install-recommends flex bc".to_owned(),
                format!(
                    "cargo install --locked --root /cache/bindgen bindgen-cli@{BINDGEN_VERSION}"
                ),
            ]
        );
    }

    #[test]
    fn programs_say_their_version() {
        // "cargo 1.88.0 (...)"
        let cargo = version_of(Path::new("cargo")).unwrap();
        assert!(cargo.starts_with("1."), "{cargo}");
        assert_eq!(version_of(Path::new("/no/such/program")), None);
        assert_eq!(version_of(Path::new("false")), None);
    }
}
