// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests need of a machine beside Rust and gcc.

use crate::shell::{self, Error};
use crate::{sources, work_dir};
use std::path::PathBuf;
use std::process::Command;

/// A program that tests use, the Debian package that has it, and what for.
struct Tool {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const fn tool(program: &'static str, package: &'static str, purpose: &'static str) -> Tool {
    Tool {
        program,
        package,
        purpose,
    }
}

const TOOLS: &[Tool] = &[
    tool("clang++-22", "clang-22", "builds with clang"),
    tool("ld.lld-22", "lld-22", "builds with another linker"),
    tool("llvm-ar-22", "llvm-22", "link-time optimization with clang"),
    tool("cmake", "cmake", "builds by CMake"),
    tool("meson", "meson", "builds by Meson"),
    tool("ninja", "ninja-build", "builds by Meson"),
    tool("autoreconf", "autoconf", "builds by autotools"),
    tool("automake", "automake", "builds by autotools"),
    tool("libtoolize", "libtool", "builds by autotools"),
    tool("ccache", "ccache", "builds through ccache"),
    tool("pkg-config", "pkgconf", "the installed runtime"),
    tool("genhtml", "lcov", "reports in lcov's format"),
    tool("xmllint", "libxml2-utils", "reports in XML"),
    tool("dwz", "dwz", "shared debug information"),
    tool("man", "man-db", "the manual pages"),
    tool("fish", "fish", "its completions"),
    tool("zsh", "zsh", "its completions"),
    tool("bwrap", "bubblewrap", "programs in other namespaces"),
    tool("node", "nodejs", "the program of reports for browsers"),
    tool("valgrind", "valgrind", "leaks"),
    tool("python3", "python3", "queries to tables"),
    tool("musl-gcc", "musl-tools", "programs of musl's"),
    tool(
        "aarch64-linux-gnu-gcc",
        "gcc-aarch64-linux-gnu",
        "the runtime on aarch64",
    ),
    tool(
        "aarch64-linux-gnu-g++",
        "g++-aarch64-linux-gnu",
        "checks in code for arm64",
    ),
    tool("qemu-aarch64", "qemu-user", "the runtime on aarch64"),
];

/// Packages without a program that one could look for.
const OTHERS: &[(&str, &str)] = &[
    ("libclang-rt-22-dev", "clang's sanitizers"),
    ("libgtest-dev", "tests of googletest"),
    ("libgmock-dev", "tests of googletest"),
    ("python3-dev", "extension modules of Python"),
    ("python3-venv", "extension modules of Python"),
    ("python3-setuptools", "extension modules of Python"),
    ("python3-pytest", "tests of pytest"),
    ("python3-pytest-xdist", "tests of pytest"),
    ("libjemalloc-dev", "programs with other allocators"),
    ("libmimalloc-dev", "programs with other allocators"),
    ("libc6-dev-arm64-cross", "the runtime on aarch64"),
    ("rustc-web", "the runtime on aarch64"),
    ("rust-web-src", "the runtime on aarch64"),
    (
        "linux-source-6.12",
        "the programs of the kernel's documentation",
    ),
];

/// What tests use of PyPI. The page that they read shows what this version prints.
const PYTHON: &[&str] = &["duckdb==2.0.1"];

/// Says what is missing, or installs it: packages of Debian if we are root, and those of PyPI in a folder of
/// our own.
///
/// # Errors
/// Something is missing and cannot be installed.
pub fn run() -> Result<(), Error> {
    debian()?;
    // Reports are checked against the DTD that Cobertura itself has.
    if shell::has("apt-get") {
        sources::debian(COBERTURA)?;
    }
    pypi()
}

const COBERTURA: &str = "cobertura";

/// The DTD of Cobertura's reports, once `run` has fetched its sources.
#[must_use]
pub fn cobertura_dtd() -> PathBuf {
    let dtds = "cobertura/src/test/resources/dtds";
    sources::folder(COBERTURA)
        .join(dtds)
        .join("coverage-04.dtd")
}

/// A Python with the packages that tests use, once `run` has made it.
#[must_use]
pub fn python() -> PathBuf {
    work_dir("python").join("bin/python")
}

fn pypi() -> Result<(), Error> {
    let list = work_dir("python").join("packages");
    let wanted = PYTHON.join("\n");
    if std::fs::read_to_string(&list).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    println!(
        "The tests need these packages of PyPI, in {}: {}",
        work_dir("python").display(),
        PYTHON.join(", ")
    );
    shell::read(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(work_dir("python")),
    )?;
    let mut pip = Command::new(python());
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    shell::read(pip.args(PYTHON))?;
    Ok(std::fs::write(list, wanted)?)
}

fn debian() -> Result<(), Error> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(package, _)| *package).collect();
    let wants: String = missing
        .iter()
        .map(|(package, purpose)| format!("\n  {package:22}{purpose}"))
        .collect();
    if !shell::has("apt-get") || !is_root()? {
        let packages = packages.join(" ");
        return Err(format!(
            "these Debian packages are missing, or what another system has in their place:{wants}\n\
             As root: apt-get install {packages}\n\
             Without them: cargo xtask test --no-setup, which passes over what needs them"
        )
        .into());
    }
    println!("The tests need these Debian packages; apt-get installs them now:{wants}");
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.args([
            "-qq",
            "-o",
            "Acquire::Retries=3",
            "-o",
            "DPkg::Lock::Timeout=300",
        ]);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell::read(apt_get().arg("update"))?;
    shell::read(
        apt_get()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&packages),
    )?;
    Ok(())
}

/// Packages that are not here, and what for.
fn missing() -> Vec<(&'static str, &'static str)> {
    let tools = TOOLS
        .iter()
        .filter(|tool| !shell::has(tool.program))
        .map(|tool| (tool.package, tool.purpose));
    let others = OTHERS
        .iter()
        .copied()
        .filter(|(package, _)| !is_installed(package));
    tools.chain(others).collect()
}

/// Whether a Debian package is installed. On another system, where nobody knows, it is taken to be.
fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    match query.output() {
        Ok(output) => output.stdout == b"installed",
        Err(_) => true,
    }
}

fn is_root() -> Result<bool, Error> {
    Ok(shell::read(Command::new("id").arg("-u"))?.trim() == "0")
}
