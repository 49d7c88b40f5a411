// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guards' calls become stores where nothing more is wanted than whether an edge ran.
#![cfg(target_arch = "x86_64")]

use crate::support::Project;
use object::{Object, ObjectSection};
use rkcov_abi::sites::{find, Given, Site, Store, GUARDS};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const SHOP: [(&str, &str); 4] = [
    (
        "Cargo.toml",
        "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\nmembers = [\"kit\"]\n\
         [dependencies]\nkit = { path = \"kit\" }\n",
    ),
    (
        "kit/Cargo.toml",
        "[package]\nname = \"kit\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    ),
    (
        "kit/src/lib.rs",
        "pub fn price(n: u32) -> u32 {\n    if n > 3 { n * 2 } else { n + 1 }\n}\n",
    ),
    (
        "src/main.rs",
        "fn main() {\n    let sum: u32 = (0..9).map(kit::price).sum();\n    println!(\"{sum}\");\n}\n",
    ),
];

/// How many guards a program has, and how many of them are stored into.
fn guards_and_stores(program: &Path) -> (usize, usize) {
    let (guards, stores) = stores_of(program);
    (guards, stores.len())
}

/// How many guards a program has, and its stores.
fn stores_of(program: &Path) -> (usize, Vec<Store>) {
    let bytes = fs::read(program).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let guards = file.section_by_name(GUARDS).unwrap();
    let range = guards.address()..guards.address() + guards.size();
    let text = file.section_by_name(".text").unwrap();
    let sites = find(text.data().unwrap(), text.address());
    let stores = sites.filter_map(|site| match site {
        Site::Store(store) => Some(store).filter(|store| range.contains(&store.guard)),
        Site::Check(_) => None,
    });
    (guards.size() as usize / 4, stores.collect())
}

fn built(project: &Project, below: &str) -> PathBuf {
    let host = format!("{}-unknown-linux-gnu/debug/shop", std::env::consts::ARCH);
    project.path("target/rkcov").join(below).join(host)
}

#[test]
fn calls_become_stores_by_the_users_own_linker() {
    let project = Project::new(&SHOP);
    let linker = project.path("my-linker");
    fs::write(
        &linker,
        "#!/bin/sh\necho linked >> links.log\nexec cc \"$@\"\n",
    )
    .unwrap();
    fs::set_permissions(&linker, fs::Permissions::from_mode(0o755)).unwrap();
    let text = "[build]\nrustflags = [\"-Clinker=./my-linker\"]\n";
    project.write(".cargo/config.toml", text);

    project.succeed("build");
    let (guards, stores) = guards_and_stores(&built(&project, ""));
    assert!(stores * 10 > guards * 9, "{stores} of {guards}");
    assert_eq!(
        fs::read_to_string(project.path("links.log")).unwrap(),
        "linked\n"
    );
    // The archive is kept, and the program is linked with it once more.
    let kept = || fs::read_dir(project.path("target/rkcov/stores")).unwrap();
    let archives = kept().map(|entry| entry.unwrap().path());
    assert_eq!(
        archives
            .filter(|path| path.extension() == Some("a".as_ref()))
            .count(),
        1
    );
    assert_eq!(kept().count(), 1, "nothing else is left");
    project.write("src/main.rs", &SHOP[3].1.replace("0..9", "0..5"));
    project.succeed("build");
    assert!(guards_and_stores(&built(&project, "")).1 >= stores);
    assert_eq!(kept().count(), 1);

    // Every edge calls where more is wanted than whether it ran.
    project.succeed("run --mode trace --no-report");
    assert_eq!(guards_and_stores(&built(&project, "calls")).1, 0);
    assert!(guards_and_stores(&built(&project, "")).1 > 0);
}

#[test]
fn a_client_keeps_its_calls() {
    let project = Project::new(&SHOP);
    project.write(
        "src/main.rs",
        "extern \"C\" {\n    fn rkcov_open() -> i32;\n}\n\
         fn main() {\n    println!(\"{} {}\", unsafe { rkcov_open() } >= 0, kit::price(2));\n}\n",
    );
    project.succeed("build");
    assert_eq!(guards_and_stores(&built(&project, "")).1, 0);
}

/// Loops, a table of jumps, and what is dropped while a panic unwinds.
const LOOPS: &str = r#"
use std::cell::Cell;
use std::hint::black_box;
use std::panic::{catch_unwind, AssertUnwindSafe};

struct Loud<'a>(&'a Cell<u32>);

impl Drop for Loud<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[inline(never)]
fn scan(text: &[u8]) -> [u32; 6] {
    let mut counts = [0; 6];
    let mut at = 0;
    while at < text.len() {
        let kind = match text[at] {
            b'a' => 0,
            b'b' => black_box(1),
            b'c' => {
                while text.get(at + 1) == Some(&b'c') {
                    at += 1;
                    black_box(at);
                }
                2
            }
            b'd' => black_box(text.len() % 3),
            b'e' if at > 3 => 4,
            b'f' => black_box(3) + 1,
            _ => 5,
        };
        for _ in 0..black_box(2) {
            counts[kind] += black_box(1);
        }
        at += 1;
    }
    counts
}

#[inline(never)]
fn risky(n: u32, dropped: &Cell<u32>) -> u32 {
    let mut sum = 0;
    for i in 0..n {
        let _loud = Loud(dropped);
        let name = format!("{}", black_box(i));
        if black_box(i) == 7 {
            panic!("{name}");
        }
        sum += name.len() as u32;
    }
    sum
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    println!("{:?}", scan(b"abcccdefgabccee"));
    let dropped = Cell::new(0);
    let mut sums = 0;
    for n in [3, 9, 5] {
        match catch_unwind(AssertUnwindSafe(|| risky(n, &dropped))) {
            Ok(sum) => sums += sum,
            Err(_) => sums += 100,
        }
    }
    println!("{sums} {}", dropped.get());
}
"#;

#[test]
fn a_guard_that_a_loop_has_in_a_register_is_stored_into_and_called_again() {
    let project = Project::new(&[
        (
            "Cargo.toml",
            "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n",
        ),
        ("src/main.rs", LOOPS),
    ]);
    project.succeed("build --release");
    let host = format!("{}-unknown-linux-gnu/release/shop", std::env::consts::ARCH);
    let program = project.path("target/rkcov").join(host);
    let (guards, stores) = stores_of(&program);
    let in_registers = stores
        .iter()
        .filter(|store| matches!(store.given, Given::Register(_)));
    assert!(in_registers.count() > 1, "{stores:?}");
    assert!(
        stores.len() * 20 > guards * 19,
        "{} of {guards}",
        stores.len()
    );

    // The same program, of which every store is recorded once, or calls.
    let recorded = |mode: &str| -> BTreeSet<String> {
        let run = format!(
            "rkcov run --mode {mode} -o {mode}.rkcov -- {} && \
             rkcov report --format pcs {mode}.rkcov",
            program.display()
        );
        let output = project.shell(&run).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{mode}: {said}");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines().map(str::to_owned);
        let expected = ["[6, 4, 4, 0, 8, 2]", "108 16"];
        for line in expected {
            assert_eq!(lines.next().unwrap(), line, "{mode}");
        }
        lines.collect()
    };
    let unique = recorded("unique");
    assert!(unique.len() > 30, "{unique:?}");
    assert_eq!(unique, recorded("trace"));
}

/// The files of a cache folder with what is kept of programs, and what is in them.
fn kept(cache: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(cache.join("images")).into_iter().flatten();
    let paths = files.map(|file| file.unwrap().path());
    let mut files: Vec<_> = paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn reports_are_the_same_with_and_without_what_is_kept() {
    let project = Project::new(&SHOP);
    // What Rust has and C has not: instances, values that are dropped, closures.
    project.write(
        "src/main.rs",
        "struct Loud<T: std::fmt::Display>(T);\n\
         impl<T: std::fmt::Display> Drop for Loud<T> {\n    fn drop(&mut self) {\n        println!(\"{}\", self.0);\n    }\n}\n\
         fn larger<T: PartialOrd>(a: T, b: T) -> T {\n    if a > b { a } else { b }\n}\n\
         fn main() {\n    let sum: u32 = (0..9).map(|n| kit::price(n)).sum();\n\
         let _loud = (Loud(larger(sum, 7)), Loud(larger(\"a\", \"b\")));\n    if sum > 1000 {\n        drop(Loud(1.5));\n    }\n}\n",
    );
    for build in ["", "--release"] {
        project.succeed(&format!("run {build}"));
        for format in ["--json", "--lcov", "--text --functions --full"] {
            let cache = tempfile::tempdir().unwrap();
            let report = |off: bool| {
                let mut command = project.command(&format!("report {format}"));
                command.env("RKCOV_CACHE_DIR", cache.path());
                if off {
                    command.env("RKCOV_NO_CACHE", "1");
                }
                let output = command.output().unwrap();
                assert!(output.status.success(), "{output:?}");
                String::from_utf8(output.stdout).unwrap()
            };
            let reference = report(true);
            assert!(reference.contains("main.rs"), "{reference}");
            assert_eq!(kept(cache.path()), []);
            assert_eq!(report(false), reference, "{build} {format}, cold");
            let cold = kept(cache.path());
            assert!(!cold.is_empty(), "{build} {format}: nothing is kept");
            assert_eq!(report(false), reference, "{build} {format}, warm");
            assert!(
                kept(cache.path()) == cold,
                "{build} {format}: it was not used"
            );
        }
    }
}
