// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions that the linker folds into one. Those with checks are all different, since each has sites of its
//! own; those that call are one piece of code, which has the lines and the names of all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::lines::Built;

const TWINS: &str = "\
#include <cstdio>
__attribute__((noinline)) int first(int x) {
  if (x > 3)
    return x * 5;
  return x - 1;
}
__attribute__((noinline)) int second(int x) {
  if (x > 3)
    return x * 5;
  return x - 1;
}
int main(int argc, char **) {
  std::printf(\"%d\\n\", second(argc));
  return 0;
}
";

/// The linkers that can fold. gcc looks for `ld.lld`, which some systems have under another name only:
/// a folder has it under this one. Newer systems have no gold.
fn linkers() -> impl Iterator<Item = &'static str> {
    let skips = std::env::var_os("RKCOV_TEST_ALL").is_none();
    ["gold", "lld"].into_iter().filter(move |name| {
        let there = program(name).is_some();
        assert!(there || skips || *name == "gold", "there is no ld.{name}");
        if !there {
            println!("SKIPPED: there is no ld.{name}");
        }
        there
    })
}

fn program(linker: &str) -> Option<PathBuf> {
    let versions = (15..30).rev().map(|n| format!("ld.{linker}-{n}"));
    let names: Vec<_> = std::iter::once(format!("ld.{linker}"))
        .chain(versions)
        .collect();
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    places.find(|place| place.is_file())
}

/// A folder of linkers for `-B`.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("linkers");
    fs::create_dir_all(&folder).unwrap();
    if let Some(lld) = program("lld") {
        // Another test may be faster.
        let _ = symlink(lld, folder.join("ld.lld"));
    }
    folder
}

fn folding(linker: &str) -> String {
    let folder = folder();
    let folder = folder.display();
    format!("-ffunction-sections -B{folder}/ -fuse-ld={linker} -Wl,--icf=all")
}

fn signs(built: &Built) -> String {
    let report = built.report("--functions --source");
    let lines = report.lines().map(str::trim_start);
    let lines = lines.filter(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let is = |word: Option<&&str>| word.is_some_and(|word| ["+", "-", "?"].contains(word));
        is(words.first()) || is(words.get(1))
    });
    let lines = lines.map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [sign @ ("+" | "-" | "?"), name, ..] => format!("{sign}{name}"),
            [line, sign, ..] => format!("{sign}{line}"),
            _ => String::new(),
        }
    });
    lines.collect::<Vec<_>>().join(" ")
}

#[test]
fn folded_code_has_the_names_and_lines_of_all() {
    for linker in linkers() {
        let build = format!("c++ --calls g++ -g -O1 {} p.cc -o p", folding(linker));
        let built = Built::new(&[("p.cc", TWINS)], &build, "");
        assert_eq!(
            signs(&built),
            "+first(int) +second(int) +main \
             +2 +3 -4 +5 +6 +7 +8 -9 +10 +11 +12 +13 +15",
            "{linker}: {}",
            built.report("--functions --source")
        );
    }
}

#[test]
fn code_with_checks_is_never_folded() {
    for linker in linkers() {
        let build = format!("c++ g++ -g -O1 {} p.cc -o p", folding(linker));
        let built = Built::new(&[("p.cc", TWINS)], &build, "");
        assert_eq!(
            signs(&built),
            "-first(int) +second(int) +main \
             -2 -3 -4 -5 -6 +7 +8 -9 +10 +11 +12 +13 +15",
            "{linker}: {}",
            built.report("--functions --source")
        );
    }
}

/// In files of their own, and one that did not run.
#[test]
fn folded_code_that_did_not_run_is_in_all_of_its_files() {
    let one = "int one(int n)\n{\n    if (n > 3)\n        return n * 5;\n    return n - 1;\n}\n";
    let other = format!("\n{}", one.replace("one", "other"));
    let main =
        "int one(int), other(int);\nint main(int argc, char **argv)\n{\n    (void)argv;\n    \
                if (argc > 9)\n        return one(argc) + other(argc) < 0;\n    return 0;\n}\n";
    for linker in linkers() {
        let sources = [("one.c", one), ("other.c", &other), ("p.c", main)];
        let files = "one.c other.c p.c -o p";
        let build = format!("cc --calls gcc -g -O1 {} {files}", folding(linker));
        for (arguments, one_lines, other_lines) in [
            ("", ["DA:2,0", "DA:3,0"], ["DA:3,0", "DA:4,0"]),
            (
                "1 2 3 4 5 6 7 8 9",
                ["DA:2,1", "DA:3,1"],
                ["DA:3,1", "DA:4,1"],
            ),
        ] {
            let built = Built::in_mode(&sources, &build, arguments, "unique");
            let lcov = built.report("--format lcov");
            let of = |name: &str| {
                let (_, rest) = lcov.split_once(name).unwrap();
                rest.split("end_of_record").next().unwrap().to_owned()
            };
            for (file, lines) in [("/one.c\n", one_lines), ("/other.c\n", other_lines)] {
                for line in lines {
                    assert!(
                        of(file).contains(line),
                        "{linker} {arguments}: {file} {line}: {lcov}"
                    );
                }
            }
            assert!(of("/one.c\n").contains("FN:2,one\n"), "{linker}: {lcov}");
            assert!(
                of("/other.c\n").contains("FN:3,other\n"),
                "{linker}: {lcov}"
            );
        }
    }
}
