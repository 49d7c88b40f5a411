// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of a release: a Debian package, an archive, and their checksums.
//!
//! The commands in them are linked statically, so that they run with any C library, or with none.

mod licences;

use crate::shell::{self, heading, Error};
use crate::{from_root, root, sources, target_dir, work_dir};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

/// Arguments of `cargo xtask dist`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// The version of all crates.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version of cargo-deb that is installed if there is none.
const CARGO_DEB: &str = "3.8.0";

/// Makes all files of a release in `target/dist`.
///
/// # Errors
/// A build fails, or a program that it needs is missing.
pub fn run(_: &Args) -> Result<(), Error> {
    for (program, package) in [("tar", "tar"), ("xz", "xz-utils"), ("dpkg", "dpkg")] {
        if !shell::has(program) {
            return Err(format!("{program} is missing: apt-get install {package}").into());
        }
    }
    let path = path_with_cargo_deb()?;
    // The target that programs are built for if nothing is said.
    let host = shell::of_rustc("host")?;
    let built = build(&host)?;
    let stage = Stage::new(&built, &host)?;
    let epoch = epoch()?;

    let dist = target_dir().join("dist");
    remove(&dist)?;
    fs::create_dir_all(&dist)?;
    stage.archive(&dist, &epoch)?;

    let mut deb = Command::new("cargo");
    deb.current_dir(root())
        .env("PATH", path)
        .env("SOURCE_DATE_EPOCH", &epoch)
        .args(["deb", "--quiet", "--locked", "--no-build", "--no-strip"])
        .args(["--package", "rkcov-cli", "--profile", "shipped", "--target"])
        .args([&host, "--output"])
        .arg(&dist);
    step(&mut deb)?;

    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(&dist)? {
        names.push(entry?.file_name());
    }
    names.sort();
    let sums = shell::read(Command::new("sha256sum").args(&names).current_dir(&dist))?;
    fs::write(dist.join("SHA256SUMS"), sums)?;
    println!();
    for name in names.iter().map(Path::new).chain([Path::new("SHA256SUMS")]) {
        let bytes = fs::metadata(dist.join(name))?.len();
        println!("{bytes:>10} {}", from_root(&dist.join(name)).display());
    }
    Ok(())
}

/// The folder with the commands, linked statically.
fn build(host: &str) -> Result<PathBuf, Error> {
    // The names of folders of this machine are in no release.
    let home = sources::cargo_home();
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=/cargo", home.display()),
        format!(
            "--remap-path-prefix={}=/rkcov",
            root().canonicalize()?.display()
        ),
    ];
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(root())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .args(["build", "--locked", "--profile", "shipped"])
        // Only with a target the flags are not for procedural macros, which cannot be static.
        .args(["--package", "rkcov-cli", "--bins", "--target", host]);
    step(&mut cargo)?;
    let built = target_dir().join(host).join("shipped");
    for name in ["rkcov", "cargo-rkcov"] {
        let headers = shell::read(Command::new("readelf").arg("-lW").arg(built.join(name)))?;
        if headers.contains("INTERP") {
            return Err(format!("{name} is not static").into());
        }
    }
    Ok(built)
}

/// What is installed, below `usr`.
struct Stage {
    folder: PathBuf,
    arch: String,
}

impl Stage {
    fn new(built: &Path, host: &str) -> Result<Self, Error> {
        // cargo-deb finds it by its name `target/release/package`.
        let folder = built.join("package");
        remove(&folder)?;
        let mut install = Command::new(built.join("rkcov"));
        install
            .args(["install", "--prefix", "/usr", "--destdir"])
            .arg(&folder);
        shell::read(&mut install)?;
        let usr = folder.join("usr");
        // The commands contain the runtime. Who wants it as files has `rkcov install`.
        for name in ["include", "lib", "share/rkcov"] {
            fs::remove_dir_all(usr.join(name))?;
        }

        let mut gzip = Command::new("gzip");
        gzip.args(["--best", "--no-name"]);
        for entry in fs::read_dir(usr.join("share/man/man1"))? {
            gzip.arg(entry?.path());
        }
        shell::read(&mut gzip)?;

        let doc = usr.join("share/doc/rkcov");
        fs::create_dir_all(doc.join("docs"))?;
        let licences = ["LICENSE-APACHE", "LICENSE-GPL-2.0", "LICENSE-MIT"];
        for name in ["README.md", "CHANGELOG.md"].into_iter().chain(licences) {
            fs::copy(root().join(name), doc.join(name))?;
        }
        for entry in fs::read_dir(root().join("docs"))? {
            let path = entry?.path();
            if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                fs::copy(&path, doc.join("docs").join(name))?;
            }
        }
        fs::write(doc.join("copyright"), licences::copyright()?)?;
        fs::write(
            doc.join("LICENSES-OF-DEPENDENCIES"),
            licences::of_dependencies(host)?,
        )?;
        let arch = host.split('-').next().unwrap_or(host).to_owned();
        Ok(Self { folder, arch })
    }

    /// An archive that is the same for the same files.
    fn archive(&self, dist: &Path, epoch: &str) -> Result<(), Error> {
        let name = format!("rkcov-{VERSION}-{}-linux", self.arch);
        let mut tar = Command::new("tar");
        tar.arg("--directory")
            .arg(&self.folder)
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .args(["--mode=u=rwX,go=rX", &format!("--mtime=@{epoch}")])
            .arg(format!("--transform=s,^usr,{name},"))
            .args(["--use-compress-program=xz -T0", "--create", "--file"])
            .arg(dist.join(format!("{name}.tar.xz")))
            .arg("usr");
        step(&mut tar)
    }
}

/// The time that the files have: that of the commit.
fn epoch() -> Result<String, Error> {
    if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let mut git = Command::new("git");
    git.current_dir(root()).args(["log", "-1", "--format=%ct"]);
    let said = shell::read(&mut git)
        .map_err(|error| format!("set SOURCE_DATE_EPOCH, as git knows no commit: {error}"))?;
    Ok(said.trim().to_owned())
}

/// `$PATH` with cargo-deb in it, which is installed into `target` if need be.
fn path_with_cargo_deb() -> Result<OsString, Error> {
    if shell::has("cargo-deb") {
        return Ok(shell::path_behind([]));
    }
    let folder = work_dir("cargo-deb");
    if !folder.join("bin/cargo-deb").is_file() {
        let mut install = Command::new("cargo");
        install
            .args(["install", "--quiet", "--locked", "cargo-deb"])
            .args(["--version", CARGO_DEB, "--root"])
            .arg(&folder);
        step(&mut install).map_err(|error| {
            format!("cargo-deb is missing and cannot be installed; put it into $PATH: {error}")
        })?;
    }
    Ok(shell::path_behind([&*folder.join("bin")]))
}

fn step(command: &mut Command) -> Result<(), Error> {
    heading(&shell::line(command))?;
    shell::run(command)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
