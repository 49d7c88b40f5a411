// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov install`: what is built with what it put there, by pkg-config alone, runs.

#[path = "here/mod.rs"]
mod here;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const RKCOV: &str = env!("CARGO_BIN_EXE_rkcov");

fn rkcov<const N: usize>(arguments: [&str; N]) -> Output {
    Command::new(RKCOV).args(arguments).output().unwrap()
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A folder with the runtime installed in it.
struct Installed(TempDir);

impl Installed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("prefix");
        let prefix = prefix.to_str().unwrap();
        let output = rkcov(["install", "--prefix", prefix, "--no-command"]);
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("installed 13 files under {prefix}\n")
        );
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What pkg-config says, in words.
    fn flags(&self, options: &[&str]) -> Vec<String> {
        let mut command = Command::new("pkg-config");
        command
            .env("PKG_CONFIG_PATH", self.path("prefix/lib/pkgconfig"))
            .args(options)
            .args(["--cflags", "--libs", "rkcov"]);
        let said = succeed(&mut command);
        said.split_whitespace().map(str::to_owned).collect()
    }

    /// Compiles the client as a stranger would, and runs it.
    fn client(&self, compiler: &[&str], options: &[&str]) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/install/client.c");
        let program = self.path("client");
        let (name, arguments) = compiler.split_first().unwrap();
        let mut cc = Command::new(name);
        cc.args(arguments)
            .args(["-Wall", "-Wextra", "-Werror", "-pthread"])
            .arg("-fsanitize-coverage=trace-pc")
            .arg(source)
            .args(["-x", "none"])
            .args(self.flags(options))
            .arg("-o")
            .arg(&program);
        succeed(&mut cc);
        let mut run = Command::new("timeout");
        run.arg("60")
            .arg(&program)
            .env("LD_LIBRARY_PATH", self.path("prefix/lib"));
        let said = succeed(&mut run);
        assert!(said.ends_with(" PCs\n"), "{said}");
    }
}

#[test]
fn clients_in_c_and_in_cxx() {
    let installed = Installed::new();
    installed.client(&["gcc"], &[]);
    installed.client(&["g++", "-x", "c++"], &[]);
}

#[test]
fn static_clients() {
    let installed = Installed::new();
    installed.client(&["gcc", "-static"], &["--static"]);
    installed.client(&["g++", "-static-pie", "-fPIE", "-x", "c++"], &["--static"]);
}

#[test]
fn a_program_and_its_library_have_one_runtime() {
    let installed = Installed::new();
    let prefix = installed.path("prefix/lib");
    // One is linked with what is installed, the other by the wrapper.
    let soname = |file: &Path| {
        let said = succeed(Command::new("readelf").arg("-d").arg(file));
        let line = said.lines().find(|line| line.contains("librkcov"));
        line.and_then(|line| line.split(['[', ']']).nth(1))
            .map(str::to_owned)
    };
    let source = installed.path("one.c");
    fs::write(&source, "int one(void) { return 1; }\n").unwrap();
    let wrapped = installed.path("libone.so");
    succeed(
        Command::new(RKCOV)
            .args(["cc", "gcc", "-shared", "-fPIC", "-o"])
            .args([&wrapped, &source]),
    );
    assert_eq!(
        soname(&prefix.join("librkcov.so")),
        Some("librkcov.so.0".into())
    );
    assert_eq!(soname(&wrapped), Some("librkcov.so.0".into()));
}

/// All files below a folder.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let said = succeed(
        Command::new("find")
            .args([".", "!", "-type", "d"])
            .current_dir(folder),
    );
    said.lines().map(PathBuf::from).collect()
}

#[test]
fn a_package_holds_what_the_manifest_says_and_nothing_of_where_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let destdir = folder.path().to_str().unwrap();
    let place = ["--prefix", "/usr", "--destdir", destdir];
    let mut install = Command::new(RKCOV);
    install
        .arg("install")
        .args(place)
        .args(["--libdir", "lib/x86_64-linux-gnu"]);
    let said = succeed(&mut install);
    let manifest = fs::read_to_string(folder.path().join("usr/share/rkcov/manifest")).unwrap();
    let lines = manifest.lines().filter(|line| !line.ends_with('/'));
    let number = lines.clone().count();
    assert_eq!(said, format!("installed {number} files under /usr\n"));
    let named = lines.map(|line| Path::new("./usr").join(line));
    assert_eq!(named.collect::<BTreeSet<_>>(), files(folder.path()));
    insta::assert_snapshot!("manifest", manifest);
    let pc = folder
        .path()
        .join("usr/lib/x86_64-linux-gnu/pkgconfig/rkcov.pc");
    insta::assert_snapshot!("pkg_config", fs::read_to_string(&pc).unwrap());
    for (name, says) in [("rkcov", "rkcov "), ("cargo-rkcov", "cargo-rkcov ")] {
        let command = folder.path().join("usr/bin").join(name);
        let version = succeed(Command::new(command).arg("--version"));
        assert!(version.starts_with(says), "{version}");
    }
    // Man reads each page without a complaint, and shells their completions.
    for page in fs::read_dir(folder.path().join("usr/share/man/man1")).unwrap() {
        let page = page.unwrap().path();
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(&page);
        let output = man.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{page:?}: {said}"
        );
    }
    let share = folder.path().join("usr/share");
    let completions = share.join("bash-completion/completions");
    let script = "source \"$0\"; COMP_WORDS=(rkcov rep) COMP_CWORD=1; _rkcov rkcov rep rkcov; echo \"${COMPREPLY[*]}\"";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script])
        .arg(completions.join("rkcov"));
    assert_eq!(succeed(&mut bash), "report\n");
    let script = "source \"$0\"; COMP_WORDS=(cargo-rkcov nex) COMP_CWORD=1; _cargo__rkcov cargo-rkcov nex cargo-rkcov; \
                  echo \"${COMPREPLY[*]}\"";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script])
        .arg(completions.join("cargo-rkcov"));
    assert_eq!(succeed(&mut bash), "nextest\n");
    if here::has("fish") {
        let script = "source $argv[1]; complete -C 'rkcov rep' | cut -f 1; complete -C 'rkcov report --wat' | cut -f 1";
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", script])
            .arg(share.join("fish/vendor_completions.d/rkcov.fish"));
        assert_eq!(succeed(&mut fish), "report\n--watch\n");
        let script = "source $argv[1]; complete -C 'cargo-rkcov nex' | cut -f 1";
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", script])
            .arg(share.join("fish/vendor_completions.d/cargo-rkcov.fish"));
        assert_eq!(succeed(&mut fish), "nextest\n");
    }
    if here::has("zsh") {
        // It finds the function by the name of its file, and can load it.
        let script = "fpath=($0 $fpath); autoload -U compinit; compinit -u -D; \
                      print $_comps[rkcov]; autoload +X _rkcov && print ${functions[_rkcov]:+loaded}; \
                      autoload +X _cargo-rkcov && print ${functions[_cargo-rkcov]:+loaded}";
        let mut zsh = Command::new("zsh");
        zsh.args(["-f", "-c", script])
            .arg(share.join("zsh/site-functions"));
        assert_eq!(succeed(&mut zsh), "_rkcov\nloaded\nloaded\n");
    }

    // Into another folder of libraries: the one before is cleared.
    let mut again = Command::new(RKCOV);
    succeed(again.args(["install", "--no-command"]).args(place));
    assert!(!pc.exists() && !folder.path().join("usr/bin").exists());

    let mine = folder.path().join("usr/lib/mine");
    fs::write(&mine, "").unwrap();
    let mut uninstall = Command::new(RKCOV);
    uninstall.arg("uninstall").args(place);
    assert_eq!(succeed(&mut uninstall), "removed 13 files under /usr\n");
    assert_eq!(files(folder.path()), ["./usr/lib/mine".into()].into());
}

#[test]
fn folders_that_were_there_before_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let place = ["--prefix", folder.path().to_str().unwrap()];
    let theirs = ["include", "lib/pkgconfig", "share"];
    for name in theirs {
        fs::create_dir_all(path(name)).unwrap();
    }
    // The second time the folders of the first are there, and ours still.
    for _ in 0..2 {
        let mut install = Command::new(RKCOV);
        succeed(install.args(["install", "--no-command"]).args(place));
    }
    let mut uninstall = Command::new(RKCOV);
    succeed(uninstall.arg("uninstall").args(place));
    assert!(theirs.into_iter().all(|name| path(name).is_dir()));
    assert!(!path("lib/rkcov").exists() && !path("share/rkcov").exists());
    assert_eq!(files(folder.path()), BTreeSet::new());
}

#[test]
fn what_cannot_be_installed_or_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("file"), "").unwrap();
    for (arguments, expect) in [
        (
            vec!["install", "--prefix", "/a b"],
            "rkcov.pc cannot contain /a b: it has white space, quotes, $, # or \\ in it",
        ),
        (
            vec!["install", "--libdir", "../lib"],
            "../lib is not below the prefix: give --libdir as lib or lib/ARCHITECTURE",
        ),
        (
            vec!["install", "--prefix", &path("file")],
            "cannot write FOLDER/file/include/rkcov.h: Not a directory (os error 20)",
        ),
        (
            vec!["uninstall", "--prefix", &path("nothing")],
            "nothing is installed under FOLDER/nothing",
        ),
    ] {
        let output = Command::new(RKCOV).args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.replace(folder.path().to_str().unwrap(), "FOLDER");
        assert_eq!(said, format!("rkcov: {expect}\n"));
    }
}

#[test]
fn the_wrapper_finds_the_header_behind_the_users_own() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a.c");
    fs::write(
        &source,
        "#include <rkcov.h>\nint main(void) { return VALUE; }\n",
    )
    .unwrap();
    let ours = |options: &[&str]| {
        let mut command = Command::new(RKCOV);
        command.args(["cc", "gcc"]).args(options).arg(&source);
        command.current_dir(folder.path()).output().unwrap()
    };
    let handle = "-DVALUE=(int)kcov_common_handle()";
    for options in [[handle, "-c"], [handle, "-E"], [handle, "-MM"]] {
        let output = ours(&options);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{options:?}: {said}");
    }
    fs::create_dir(folder.path().join("theirs")).unwrap();
    fs::write(
        folder.path().join("theirs/rkcov.h"),
        "enum { VALUE = 3 };\n",
    )
    .unwrap();
    assert!(ours(&["-Itheirs", "-o", "theirs/a"]).status.success());
    let status = Command::new(folder.path().join("theirs/a")).status();
    assert_eq!(status.unwrap().code(), Some(3));
}
