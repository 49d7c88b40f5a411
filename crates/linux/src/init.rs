// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first process of guests whose machine is another than this one: `rkcov-guest`, compiled for it.
//!
//! Its sources are in this program. They are compiled with the compiler that compiles the kernel's
//! Rust. That has no standard library for other machines, so cargo compiles one too.

use crate::error::{io_error, Error, Result};
use crate::flavor::Arch;
use crate::kernel::{without_rustup, RUSTC};
use crate::progress::{run_logged, Progress};
use crate::setup::Workshop;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of both crates, by their paths in the folder in which they are compiled.
static SOURCES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/agent.rs"));

/// The manifests, which name neither this workspace nor its lints.
const MANIFESTS: [(&str, &str); 2] = [
    (
        "guest/Cargo.toml",
        "[package]\n\
         name = \"rkcov-guest\"\n\
         version = \"0.0.0\"\n\
         edition = \"2021\"\n\
         [lib]\n\
         path = \"lib.rs\"\n\
         [[bin]]\n\
         name = \"rkcov-guest\"\n\
         path = \"main.rs\"\n\
         [dependencies]\n\
         libc = { version = \"0.2\", default-features = false }\n\
         rkcov-abi = { path = \"../abi\" }\n\
         rustix = { version = \"1\", features = [\"mount\", \"process\", \"pty\", \"stdio\", \"system\", \"termios\"] }\n\
         [profile.release]\n\
         panic = \"abort\"\n\
         strip = true\n\
         [workspace]\n",
    ),
    (
        "abi/Cargo.toml",
        "[package]\n\
         name = \"rkcov-abi\"\n\
         version = \"0.0.0\"\n\
         edition = \"2021\"\n\
         [lib]\n\
         path = \"lib.rs\"\n",
    ),
];

/// What rustc calls the machine, and the linker for it.
const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";

impl Workshop {
    /// The first process for this machine, compiled if need be; `None` if that is this very program.
    pub(crate) fn init(&self, arch: Arch, progress: &Progress) -> Result<Option<PathBuf>> {
        if arch != Arch::Arm64 {
            return Ok(None);
        }
        let folder = self.root().join("agent").join(key());
        let program = folder.join(format!("target/{TARGET}/release/rkcov-guest"));
        if program.is_file() {
            return Ok(Some(program));
        }
        self.check(arch)?;
        let sources = SOURCES.iter().copied();
        let manifests = MANIFESTS
            .iter()
            .map(|(name, text)| (*name, text.as_bytes()));
        for (name, content) in sources.chain(manifests) {
            write(&folder.join(name), content)?;
        }
        let log = self.logs()?.join("build-agent.log");
        let _ = fs::remove_file(&log);
        let what = "building the first process";
        run_logged(&mut command(&folder), what, &log, progress)?;
        if program.is_file() {
            Ok(Some(program))
        } else {
            Err(Error::Step {
                what: what.to_owned(),
                log,
            })
        }
    }
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io_error(folder))?;
    }
    fs::write(path, content).map_err(io_error(path))
}

/// Names what it is compiled from.
fn key() -> String {
    let mut hasher = DefaultHasher::new();
    SOURCES.hash(&mut hasher);
    MANIFESTS.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn command(folder: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    without_rustup(&mut cargo);
    cargo
        .args(["build", "--release", "-Zbuild-std=std,panic_abort"])
        .args(["--target", TARGET])
        .arg("--manifest-path")
        .arg(folder.join("guest/Cargo.toml"))
        .arg("--target-dir")
        .arg(folder.join("target"))
        .env("RUSTC", RUSTC)
        // For a standard library of one's own, which is in no stable release.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        // Not the configuration of a project that is in the current folder.
        .current_dir(folder);
    cargo
}
