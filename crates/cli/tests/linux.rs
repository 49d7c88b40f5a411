// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov linux run` with what cannot be run, known before a kernel is built, and `rkcov doctor` on
//! whatever machine this is. What needs a guest is in `.ci/linux`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const RKCOV: &str = env!("CARGO_BIN_EXE_rkcov");

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A folder to be in, and a cache with nothing in it.
struct Place {
    folder: TempDir,
    cache: TempDir,
}

impl Place {
    fn new() -> Self {
        let new = || tempfile::tempdir().unwrap();
        Self {
            folder: new(),
            cache: new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rkcov(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(RKCOV);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("RKCOV_CACHE_DIR", self.cache.path());
        command
    }

    /// Refused with this status and these words, on one line; and nothing was begun.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], status: i32, words: &[&str]) {
        let output = self
            .rkcov(&["linux", "run"])
            .args(arguments)
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        for words in words {
            assert!(said.contains(words), "{arguments:?}: {said}");
        }
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        assert_eq!(text(&output.stdout), "");
        let begun: Vec<_> = fs::read_dir(&self.cache).unwrap().collect();
        assert!(begun.is_empty(), "{arguments:?}: {begun:?}");
    }
}

#[test]
fn a_program_that_cannot_run_is_refused_as_by_a_shell() {
    let place = Place::new();
    let [none, data] = ["none", "data"].map(|name| place.path(name));
    fs::write(&data, "no program").unwrap();
    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let no_such = "there is no such program";
    place.refuses(&["--", &name(&none)], 127, &[&name(&none), no_such]);
    place.refuses(&["--", "no-such-in-any-folder"], 127, &[no_such]);
    let data_name = name(&data);
    place.refuses(&["--", &data_name], 126, &["not an executable file"]);
    place.refuses(&["--", "/"], 126, &["not an executable file"]);
    let mut mode = fs::metadata(&data).unwrap().permissions();
    mode.set_mode(0o755);
    fs::set_permissions(&data, mode).unwrap();
    place.refuses(&["--", "./data"], 126, &["not an ELF file"]);
    fs::write(&data, "#!/bin/sh\n").unwrap();
    place.refuses(&["--", "./data"], 126, &["script", "interpreter"]);
    // The head of a 32-bit program.
    let mut head = vec![0x7f, b'E', b'L', b'F', 1, 1, 1];
    head.resize(16, 0);
    head.extend([2, 0, 3, 0, 1, 0]);
    head.resize(64, 0);
    fs::write(&data, head).unwrap();
    place.refuses(&["--arch", "uml", "--", "./data"], 126, &["32-bit"]);
}

#[test]
fn a_program_that_lacks_a_library_is_refused() {
    let place = Place::new();
    fs::write(place.path("lib.c"), "int f(void) { return 0; }").unwrap();
    let main = "int f(void); int main(void) { return f(); }";
    fs::write(place.path("main.c"), main).unwrap();
    for line in ["-shared -fPIC -o libf.so lib.c", "-o main main.c libf.so"] {
        let mut gcc = Command::new("gcc");
        gcc.current_dir(&place.folder).args(line.split(' '));
        assert!(gcc.status().unwrap().success(), "{line}");
    }
    place.refuses(&["--", "./main"], 126, &["main", "libf.so"]);
}

#[test]
fn files_and_numbers_that_make_no_sense_are_refused() {
    let place = Place::new();
    let with = |path| ["--with", path, "--", "true"];
    place.refuses(&with("none"), 1, &["/none: No such file"]);
    place.refuses(&with("/dev/null"), 1, &["neither a file nor a folder"]);
    let output = |path| ["-o", path, "--", "true"];
    let no_folder = "cannot write no/folder/trace: No such file";
    place.refuses(&output("no/folder/trace"), 1, &[no_folder]);
    place.refuses(&output("/proc/trace"), 1, &["cannot write /proc/trace"]);
    place.refuses(&output("/"), 1, &["cannot write /"]);
    fs::write(place.path("file"), "").unwrap();
    for option in [
        ["--memory", "0"],
        ["--memory", "1x"],
        ["--memory", "99999999G"],
        ["--cpus", "0"],
        ["--gdb", "0"],
        ["--timeout", "0"],
        ["--arch", "vax"],
        ["--share", "none"],
        ["--share", "file"],
        ["--share", ".:/proc"],
        ["--share", ".:relative"],
    ] {
        let line = [&["linux", "run"], &option[..], &["--", "true"]].concat();
        let refused = place.rkcov(&line).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{option:?}");
        assert!(text(&refused.stderr).contains(option[0]), "{option:?}");
    }
    fs::remove_file(place.path("file")).unwrap();
    let left: Vec<_> = fs::read_dir(&place.folder).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_no_guest_has_is_refused_with_what_to_do() {
    let place = Place::new();
    let refuses = |options: &str, words: &[&str]| {
        let line: Vec<&str> = options.split(' ').chain(["--", "true"]).collect();
        place.refuses(&line, 1, words);
    };
    refuses("--memory 4000000M", &["4000000 MiB", "this machine has"]);
    refuses("--arch uml --cpus 2", &["one processor", "--arch x86-64"]);
    refuses("--arch uml --network", &["--network", "--arch x86-64"]);
    refuses("--arch uml --gdb 1234", &["--gdb", "--arch x86-64"]);
    refuses("--cpus 3", &["at most 2", "CONFIG_NR_CPUS=3"]);
    refuses("--checks kasan --network", &["--checks plain"]);
}

#[test]
fn a_kernel_of_the_user_s_own_that_cannot_be_booted_is_refused() {
    let place = Place::new();
    let own = |options: &str, status, words: &[&str]| {
        let own = ["--kernel", "kernel", "--vmlinux", "vmlinux"].into_iter();
        let options = options.split(' ').filter(|word| !word.is_empty());
        let line: Vec<&str> = own.chain(options).chain(["--", "true"]).collect();
        place.refuses(&line, status, words);
    };
    own("", 1, &["kernel: No such file"]);
    fs::write(place.path("kernel"), "text").unwrap();
    own(
        "",
        1,
        &["kernel: it is no bzImage", "arch/x86/boot/bzImage"],
    );
    own("--arch uml", 1, &["kernel: it is no program"]);
    let mut bz_image = vec![0; 1024];
    bz_image[0x202..0x206].copy_from_slice(b"HdrS");
    fs::write(place.path("kernel"), bz_image).unwrap();
    own("", 1, &["vmlinux: No such file"]);
    fs::write(place.path("vmlinux"), "text").unwrap();
    own("", 1, &["vmlinux: it is not an ELF file"]);
    fs::copy("/bin/true", place.path("vmlinux")).unwrap();
    own("", 1, &["vmlinux: it has no symbols"]);
    // Whatever has symbols: this very program.
    let me = std::env::current_exe().unwrap();
    fs::copy(me, place.path("vmlinux")).unwrap();
    let lacks = [
        "CONFIG_KCOV=y",
        "CONFIG_DEBUG_FS=y",
        "CONFIG_VIRTIO_CONSOLE=y",
    ];
    own("", 1, &lacks);
    own("--module .", 1, &["--kernel builds nothing", "NAME.ko"]);
    own("--module none", 1, &["none: No such file"]);
    own("--memory 4000000M", 1, &["this machine has"]);
    // One says which kernel, and to build none.
    for line in [
        "--kernel kernel",
        "--vmlinux vmlinux",
        "--kernel kernel --vmlinux vmlinux --tree .",
        "--kernel kernel --vmlinux vmlinux --config vmlinux",
        "--kernel kernel --vmlinux vmlinux --kcov c",
        "--kernel kernel --vmlinux vmlinux --checks kasan",
    ] {
        let line = line.split(' ').chain(["--", "true"]);
        let mut command = place.rkcov(&["linux", "run"]);
        let output = command.args(line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}");
    }
}

#[test]
fn a_module_that_cannot_be_loaded_is_refused() {
    let place = Place::new();
    let module = |name, words: &[&str]| {
        place.refuses(&["--module", name, "--", "true"], 1, words);
    };
    fs::write(place.path("text.ko"), "text").unwrap();
    module("text.ko", &["text.ko: it is not a module of Linux"]);
    module("none.ko", &["none.ko: No such file"]);
    // A folder of sources, or the name of a module: neither goes into a kernel without modules.
    module(".", &["--module", "CONFIG_MODULES=y"]);
    module("dummy", &["--module", "CONFIG_MODULES=y"]);
}

#[test]
fn a_shell_needs_a_terminal_or_a_program() {
    let place = Place::new();
    let output = place
        .rkcov(&["linux", "shell"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("not a terminal") && said.contains("rkcov linux shell -- "),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    let begun: Vec<_> = fs::read_dir(&place.cache).unwrap().collect();
    assert!(begun.is_empty(), "{begun:?}");
}

/// What a page says of things: their state and the rest of the line.
fn things(page: &str) -> Vec<(&str, &str)> {
    let states = ["here", "missing", "without"];
    page.lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter_map(|line| line.split_once(' '))
        .filter(|(state, _)| states.contains(state))
        .map(|(state, thing)| (state, thing.trim()))
        .collect()
}

#[test]
fn the_doctor_says_of_each_thing_whether_it_is_here_and_how_to_get_it() {
    let place = Place::new();
    let run = |line: &[&str]| -> Output { place.rkcov(line).output().unwrap() };
    let all = run(&["doctor"]);
    let linux = run(&["linux", "doctor"]);
    let (page, part) = (text(&all.stdout), text(&linux.stdout));
    assert_eq!(text(&all.stderr), "");
    assert_eq!(text(&linux.stderr), "");
    // The page about Linux is a part of the other.
    assert!(page.ends_with(part), "{page}\n{part}");
    // Tests need gcc, and cargo runs them.
    assert_eq!(all.status.code(), Some(0), "{page}");
    for thing in [": gcc ", "cargo 1.", "rustc 1."] {
        let said = |(state, text): &(&str, &str)| *state == "here" && text.contains(thing);
        assert!(things(page).iter().any(said), "{thing}: {page}");
    }
    let named = |name: &str| {
        let found = things(part).into_iter().find(|(_, t)| t.starts_with(name));
        found.unwrap_or_else(|| panic!("{name}: {part}"))
    };
    // A cache with nothing in it has no bindgen either.
    assert_eq!(named("bindgen").0, "missing");
    assert_eq!(linux.status.code(), Some(1), "{part}");
    // The rustc of `rustc-web` makes the kernel and the build's own programs, not the first in the path.
    for name in [
        "linux-source-6.12",
        "clang-22",
        "rustc-web",
        "qemu-system-x86",
    ] {
        let (state, line) = named(name);
        match state {
            "here" => assert!(line.split_once(": ").unwrap().0.contains(' '), "{line}"),
            _ => assert!(part.contains("apt-get install"), "{part}"),
        }
    }
    named("KVM");
    assert!(part.contains("\"rkcov linux setup\""), "{part}");
    assert!(part.contains("cargo install --locked --root"), "{part}");
    // Guests of another machine need more.
    assert!(!part.contains("qemu-system-arm"), "{part}");
    let arm64 = run(&["linux", "doctor", "--arch", "arm64"]);
    let more = text(&arm64.stdout);
    assert!(
        more.contains("\"rkcov linux setup --arch arm64\""),
        "{more}"
    );
    assert!(more.contains("qemu-system-arm"), "{more}");
    assert!(more.contains("libc6-dev-arm64-cross"), "{more}");
    let kept = format!("cached in {}/linux", place.cache.path().display());
    assert!(part.contains(&kept) && part.contains("empty"), "{part}");
}

#[test]
fn the_doctor_has_an_answer_where_nothing_is() {
    let place = Place::new();
    let said = |line: &[&str]| {
        let output = place.rkcov(line).env("PATH", "/nowhere").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{line:?}");
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout).to_owned()
    };
    let page = said(&["doctor"]);
    for thing in [
        "missing  a C compiler: apt-get install gcc",
        "without  cargo: ",
        "missing  Debian or ",
    ] {
        assert!(page.contains(thing), "{page}");
    }
    assert!(page.ends_with(&said(&["linux", "doctor"])), "{page}");
}
