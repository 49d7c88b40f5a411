// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sources of others: packages of crates.io, and those of the distribution, without root.
//!
//! apt-get is told to keep its lists and its cache in a folder of ours, and to read this machine's
//! own list of archives with `deb` turned into `deb-src`. So no address stands here, and what comes
//! is what the machine's administrator trusts.

use crate::shell::{self, Error};
use crate::work_dir;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of `cargo xtask sources`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The Debian source package; with --suite, a package linux-source-VERSION
    package: String,
    /// Take the sources of Linux from this suite of the archive, for example trixie-backports
    #[arg(long)]
    suite: Option<String>,
}

/// Prints the folder that has the sources of a Debian package.
///
/// # Errors
/// As of [`debian`] and [`linux`].
pub fn run(args: &Args) -> Result<(), Error> {
    let folder = match &args.suite {
        Some(suite) => linux(&args.package, suite)?,
        None => debian(&args.package)?,
    };
    println!("{}", folder.display());
    Ok(())
}

/// The tree in a package linux-source-VERSION of another suite than this machine's. It is fetched
/// once, and not installed.
///
/// # Errors
/// As of [`debian`].
pub fn linux(package: &str, suite: &str) -> Result<PathBuf, Error> {
    let dir = folder(package);
    let _turn = take_turn()?;
    if dir.is_dir() {
        return Ok(dir);
    }
    let download = work_dir("sources").join(format!("{package}.download"));
    let _ = fs::remove_dir_all(&download);
    fs::create_dir_all(&download)?;
    let apt = Apt::new(&format!("apt-{suite}"), &Archives::Suite(suite))?;
    shell::read(apt.get(&download).args(["download", package]))?;
    let deb = only_file(&download, |name| name.ends_with(".deb"))?;
    let unpacked = download.join("deb");
    shell::run(Command::new("dpkg-deb").arg("-x").args([&deb, &unpacked]))?;
    let archive = unpacked.join(format!("usr/src/{package}.tar.xz"));
    unpack(&archive, &dir)?;
    fs::remove_dir_all(&download)?;
    Ok(dir)
}

/// Where the sources of a package are, once they are fetched.
pub(crate) fn folder(package: &str) -> PathBuf {
    work_dir("sources").join(package)
}

/// The sources of a Debian package as their authors published them, unpacked. They are fetched
/// once.
///
/// # Errors
/// This is no Debian or its like, or the archive cannot be reached.
pub fn debian(package: &str) -> Result<PathBuf, Error> {
    let dir = folder(package);
    let _turn = take_turn()?;
    if dir.is_dir() {
        return Ok(dir);
    }
    let download = work_dir("sources").join(format!("{package}.download"));
    let _ = fs::remove_dir_all(&download);
    fs::create_dir_all(&download)?;
    fetch(package, &download)?;
    unpack(&only_file(&download, is_upstream)?, &dir)?;
    fs::remove_dir_all(&download)?;
    Ok(dir)
}

/// The one file in `folder` with such a name.
fn only_file(folder: &Path, is_wanted: fn(&str) -> bool) -> Result<PathBuf, Error> {
    fs::read_dir(folder)?
        .flatten()
        .find(|entry| is_wanted(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .ok_or_else(|| format!("{}: no such file was brought", folder.display()).into())
}

/// Unpacks an archive as `dir`, under another name first: a folder of the right name is whole.
fn unpack(archive: &Path, dir: &Path) -> Result<(), Error> {
    let partial = dir.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial)?;
    let mut tar = Command::new("tar");
    tar.arg("-xf")
        .arg(archive)
        .args(["--strip-components=1", "-C"]);
    shell::run(tar.arg(&partial))?;
    fs::rename(&partial, dir)?;
    Ok(())
}

/// SQLite's sources with all of it in one file, `sqlite3.c`, as its authors publish it, and
/// `shell.c`. They are made once.
///
/// # Errors
/// As of [`debian`], or SQLite's own build fails.
pub fn sqlite() -> Result<PathBuf, Error> {
    let source = debian("sqlite3")?;
    let folder = work_dir("sqlite");
    let _turn = take_turn()?;
    if folder.join("sqlite3.c").is_file() {
        return Ok(folder);
    }
    if source.join("sqlite3.c").is_file() {
        copy(&source, &folder)?;
        return Ok(folder);
    }
    let partial = work_dir("sqlite.partial");
    copy(&source, &partial)?;
    let mut make = Command::new("sh");
    make.args(["-c", "./configure && make sqlite3.c shell.c"]);
    shell::read(make.current_dir(&partial))?;
    fs::rename(&partial, &folder)?;
    Ok(folder)
}

/// Several tests may want the same sources at once; one fetches them, the others wait. The lock goes
/// with the file.
fn take_turn() -> Result<fs::File, Error> {
    fs::create_dir_all(work_dir("sources"))?;
    let turn = fs::File::create(work_dir("sources").join("lock"))?;
    rustix::fs::flock(&turn, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(turn)
}

/// A package of crates.io as cargo unpacks it. It is fetched once.
///
/// # Errors
/// Cargo cannot fetch it.
pub fn crates_io(package: &str, version: &str) -> Result<PathBuf, Error> {
    let name = format!("{package}-{version}");
    let dir = folder(&name);
    let _turn = take_turn()?;
    if dir.is_dir() {
        return Ok(dir);
    }
    // This fetches the package and unpacks it, and nothing of what it depends on. In our own
    // workspace cargo would look at our lock file.
    let mut info = Command::new("cargo");
    info.args(["info", "--quiet", "--registry", "crates-io"])
        .arg(format!("{package}@{version}"));
    shell::read(info.current_dir(work_dir("sources")))?;
    let home = cargo_home();
    let registries = fs::read_dir(home.join("registry/src"))?.flatten();
    let unpacked = registries
        .map(|registry| registry.path().join(&name))
        .find(|path| path.join(".cargo-ok").is_file())
        .ok_or_else(|| format!("cargo fetched {name}, but it is not in {}", home.display()))?;
    let partial = work_dir("sources").join(format!("{name}.partial"));
    copy(&unpacked, &partial)?;
    fs::remove_file(partial.join(".cargo-ok"))?;
    fs::rename(&partial, &dir)?;
    Ok(dir)
}

/// The folder where cargo keeps what it has fetched.
#[must_use]
pub fn cargo_home() -> PathBuf {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
    }
}

/// A package of PyPI as its authors published its sources. It is fetched once.
///
/// # Errors
/// pip cannot fetch it.
pub fn pypi(package: &str, version: &str) -> Result<PathBuf, Error> {
    let name = format!("pypi-{package}-{version}");
    let dir = folder(&name);
    let _turn = take_turn()?;
    if dir.is_dir() {
        return Ok(dir);
    }
    let download = work_dir("sources").join(format!("{name}.download"));
    let _ = fs::remove_dir_all(&download);
    fs::create_dir_all(&download)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps"]);
    // Not of all: what builds it may come built.
    pip.args(["--no-binary", package]);
    shell::read(
        pip.arg(format!("{package}=={version}"))
            .current_dir(&download),
    )?;
    unpack(
        &only_file(&download, |name| name.ends_with(".tar.gz"))?,
        &dir,
    )?;
    fs::remove_dir_all(&download)?;
    Ok(dir)
}

/// Copies a folder to `to`, in the place of what is there.
///
/// # Errors
/// Those of the file system.
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let _ = fs::remove_dir_all(to);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    shell::run(Command::new("cp").arg("-r").arg(from).arg(to))
}

fn is_upstream(name: &str) -> bool {
    name.contains(".orig.tar.") && !name.ends_with(".asc")
}

fn fetch(package: &str, download: &Path) -> Result<(), Error> {
    let apt = Apt::new("apt", &Archives::Sources)?;
    // A mirror may name a version of today and not have its files yet: then another one serves.
    let mut wanted = vec![package.to_owned()];
    let known = shell::read(apt.cache(download).args(["showsrc", package]))?;
    wanted.extend(versions(&known).map(|version| format!("{package}={version}")));
    let mut failures = String::new();
    for wanted in wanted {
        let mut source = apt.get(download);
        // Not what Debian adds: nobody here reads it.
        source.args(["source", "--download-only", "--tar-only"]);
        match shell::read(source.arg(wanted)) {
            Ok(_) => return Ok(()),
            Err(error) => {
                let _ = writeln!(failures, "{error}");
            }
        }
    }
    Err(failures.into())
}

/// apt-get with lists and archives of its own.
struct Apt(PathBuf);

/// Which archives are read. Their addresses are those that this machine has for its release.
enum Archives<'a> {
    /// The sources of this release.
    Sources,
    /// The packages of this suite.
    Suite(&'a str),
}

impl Apt {
    /// Reads the lists of these archives.
    fn new(folder: &str, archives: &Archives<'_>) -> Result<Self, Error> {
        if !shell::has("apt-get") {
            return Err("this needs apt-get: the sources come from the Debian archive".into());
        }
        let apt = Self(work_dir(folder));
        for dir in ["sources.list.d", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.0.join(dir))?;
        }
        let (stanzas, lines) = archives_of_this_release(archives)?;
        fs::write(apt.0.join("sources.list.d/release.sources"), stanzas)?;
        fs::write(apt.0.join("sources.list.d/release.list"), lines)?;
        shell::read(apt.get(&apt.0).arg("update"))?;
        Ok(apt)
    }

    fn get(&self, download: &Path) -> Command {
        self.command("apt-get", download)
    }

    fn cache(&self, download: &Path) -> Command {
        self.command("apt-cache", download)
    }

    fn command(&self, program: &str, download: &Path) -> Command {
        let mut command = Command::new(program);
        let option = |name: &str, path: &str| format!("{name}={}", self.0.join(path).display());
        for option in [
            String::from("Dir::Etc::SourceList=/dev/null"),
            option("Dir::Etc::SourceParts", "sources.list.d"),
            option("Dir::State::Lists", "lists"),
            option("Dir::Cache", "cache"),
            String::from("Acquire::Retries=3"),
            // As root apt-get would fetch as another user, who may not write to our folder.
            String::from("APT::Sandbox::User="),
        ] {
            command.args(["-o", &option]);
        }
        command.arg("-qq").current_dir(download);
        command
    }
}

/// The versions in what `apt-cache showsrc` prints.
fn versions(sources: &str) -> impl Iterator<Item = &str> {
    sources
        .lines()
        .filter_map(|line| line.strip_prefix("Version: "))
}

/// This machine's archives of this release, as `archives` changes them: in the format of `.sources`
/// files, and in that of `.list` files.
fn archives_of_this_release(archives: &Archives<'_>) -> Result<(String, String), Error> {
    let release = fs::read_to_string("/etc/os-release")?;
    let release = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .ok_or("/etc/os-release does not say which release this is")?
        .trim_matches('"');
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    for entry in fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
    {
        files.push(entry?.path());
    }
    let (mut stanzas, mut lines) = (String::new(), String::new());
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        match file.extension().and_then(|e| e.to_str()) {
            Some("sources") => stanzas += &archives.stanzas(&text, release),
            Some("list") => lines += &archives.lines(&text, release),
            _ => {}
        }
    }
    Ok((stanzas, lines))
}

impl Archives<'_> {
    /// What becomes of the stanzas of `text`, a file `.sources`.
    fn stanzas(&self, text: &str, release: &str) -> String {
        let mut stanzas = String::new();
        for stanza in text.split("\n\n") {
            let suites = |line: &str| line.strip_prefix("Suites:").map(str::to_owned);
            let Some(suites) = stanza.lines().find_map(suites) else {
                continue;
            };
            if !self.has(&suites, release) {
                continue;
            }
            let kept = |line: &&str| !line.starts_with("Types:") && !line.starts_with("Suites:");
            for line in stanza.lines().filter(kept) {
                let _ = writeln!(stanzas, "{line}");
            }
            let _ = match self {
                Self::Sources => write!(stanzas, "Suites:{suites}\nTypes: deb-src\n\n"),
                Self::Suite(suite) => write!(stanzas, "Suites: {suite}\nTypes: deb\n\n"),
            };
        }
        stanzas
    }

    /// What becomes of the lines of `text`, a file `.list`.
    fn lines(&self, text: &str, release: &str) -> String {
        let mut lines = String::new();
        for archive in text.lines() {
            let Some(archive) = archive.trim_start().strip_prefix("deb ") else {
                continue;
            };
            if !self.has(archive, release) {
                continue;
            }
            let _ = match self {
                Self::Sources => writeln!(lines, "deb-src {archive}"),
                Self::Suite(suite) => {
                    writeln!(lines, "deb {}", archive.replacen(release, suite, 1))
                }
            };
        }
        lines
    }

    /// Whether these archives are below an address that is given for `suites`. Only the release itself
    /// stands beside other suites; its security updates have an address of their own.
    fn has(&self, suites: &str, release: &str) -> bool {
        match self {
            Self::Sources => suites.contains(release),
            Self::Suite(_) => suites.split_whitespace().any(|suite| suite == release),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_package() {
        let sources = "Package: zstd\nVersion: 1.5-1\n\nPackage: zstd\nVersion: 1.5-1+u1\n";
        assert!(versions(sources).eq(["1.5-1", "1.5-1+u1"]));
        assert_eq!(versions("Package: zstd\n").count(), 0);
    }

    #[test]
    fn archives_become_archives_of_sources() {
        let text = "Types: deb\nURIs: http://mirror.example/\nSuites: sid sid-updates\n\n\
                    Types: deb\nURIs: http://other.example/\nSuites: nodistro\n";
        assert_eq!(
            Archives::Sources.stanzas(text, "sid"),
            "URIs: http://mirror.example/\nSuites: sid sid-updates\nTypes: deb-src\n\n"
        );
        let text = "# deb http://x.example sid main\n deb [a=b] http://x.example sid main\n\
                    deb-src http://x.example sid main\ndeb http://x.example other main\n";
        assert_eq!(
            Archives::Sources.lines(text, "sid"),
            "deb-src [a=b] http://x.example sid main\n"
        );
    }

    #[test]
    fn archives_become_those_of_another_suite() {
        let text = "Types: deb\nURIs: http://mirror.example/\nSuites: old old-updates\n\n\
                    Types: deb\nURIs: http://security.example/\nSuites: old-security\n";
        let suite = Archives::Suite("new-backports");
        assert_eq!(
            suite.stanzas(text, "old"),
            "URIs: http://mirror.example/\nSuites: new-backports\nTypes: deb\n\n"
        );
        let text = "deb [a=b] http://x.example old main\ndeb http://y.example old-security main\n";
        assert_eq!(
            suite.lines(text, "old"),
            "deb [a=b] http://x.example new-backports main\n"
        );
    }
}
