// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a machine needs to build and boot a kernel, and how it gets that.

use crate::error::{io_error, Error, Result};
use crate::progress::{run_logged, Progress};
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

/// Bindgen's version, from crates.io.
const BINDGEN: &str = "0.73.2";

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
    pub(crate) fn version_folder(&self) -> Result<PathBuf> {
        let version = package_version(SOURCE_PACKAGE)?.ok_or_else(|| Error::Missing {
            missing: vec![format!("the package {SOURCE_PACKAGE}")],
        })?;
        Ok(self.root.join(version))
    }

    /// The folder for consoles and other logs.
    pub(crate) fn logs(&self) -> Result<PathBuf> {
        let logs = self.root.join("logs");
        std::fs::create_dir_all(&logs).map_err(io_error(&logs))?;
        Ok(logs)
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn bindgen_root(&self) -> PathBuf {
        self.root.with_file_name("bindgen")
    }

    /// The bindgen that [`Workshop::setup`] installs.
    pub(crate) fn bindgen(&self) -> PathBuf {
        self.bindgen_root().join("bin/bindgen")
    }

    /// What this machine has of what is needed, line by line: the thing, what for, whether it is
    /// there.
    ///
    /// # Errors
    /// The package manager cannot be asked.
    pub fn inventory(&self) -> Result<Vec<(String, &'static str, bool)>> {
        let mut list = Vec::new();
        for (package, purpose) in PACKAGES {
            list.push((
                package.to_owned(),
                purpose,
                package_version(package)?.is_some(),
            ));
        }
        list.push((
            "bindgen".to_owned(),
            "the kernel's Rust",
            self.bindgen().is_file(),
        ));
        Ok(list)
    }

    /// Fails if something is missing.
    ///
    /// # Errors
    /// [`Error::Missing`], and those of [`Workshop::inventory`].
    pub fn check(&self) -> Result<()> {
        let missing: Vec<String> = self
            .inventory()?
            .into_iter()
            .filter(|l| !l.2)
            .map(|l| l.0)
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Error::Missing { missing })
        }
    }

    /// Installs what is missing: Debian's packages (as root), and bindgen from crates.io.
    ///
    /// # Errors
    /// An installation failed; its log is named.
    pub fn setup(&self, progress: &Progress) -> Result<()> {
        let log = self.logs()?.join("setup.log");
        let missing: Vec<&str> = PACKAGES
            .iter()
            .map(|(package, _)| *package)
            .filter(|package| !matches!(package_version(package), Ok(Some(_))))
            .collect();
        if !missing.is_empty() {
            let mut update = Command::new("apt-get");
            update.arg("update");
            run_logged(&mut update, "reading the package lists", &log, progress)?;
            let mut install = Command::new("apt-get");
            install
                .args(["install", "--yes", "--no-install-recommends"])
                .args(&missing)
                .env("DEBIAN_FRONTEND", "noninteractive");
            run_logged(&mut install, "installing packages", &log, progress)?;
        }
        if !self.bindgen().is_file() {
            let mut install = Command::new("cargo");
            install
                .args(["install", "--locked", "--root"])
                .arg(self.bindgen_root())
                .arg(format!("bindgen-cli@{BINDGEN}"));
            run_logged(&mut install, "building bindgen", &log, progress)?;
        }
        self.check()
    }
}

/// The installed version of a package.
fn package_version(package: &str) -> Result<Option<String>> {
    let out = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat=${db:Status-Status} ${Version}",
            package,
        ])
        .output()
        .map_err(io_error("dpkg-query"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    Ok(text.strip_prefix("installed ").map(str::to_owned))
}
