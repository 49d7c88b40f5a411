// SPDX-License-Identifier: MIT OR Apache-2.0
//! What reports keep of programs changes no report.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rkcov_report::coverage::{Coverage, Named};
use rkcov_report::image::{Cache, Search};
use rkcov_report::progress::Progress;
use rkcov_report::trace::TraceFile;

use super::lines::{Built, RKCOV};
use super::{has, succeed};

const PROGRAM: &str = "\
int half(int);
static inline __attribute__((always_inline)) int inlined(int n) {
    if (n > 3)
        return n - 3;
    return n;
}
int main(int argc, char **argv) {
    int sum = argv == 0;
    for (int i = 0; i < 9; i++)
        sum += half(inlined(i)) ? argc : 0;
    switch (sum) {
    case 1: return 0;
    case 2: return half(argc);
    case 3: return 1;
    default: return sum > 99;
    }
}
";

const HALF: &str = "\
int half(int n) {
    if (n % 2)
        return (n - 1) / 2;
    return n / 2;
}
";

/// The images in a cache folder.
fn kept(cache: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(cache.join("images")).into_iter().flatten();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn report(built: &Built, options: &str, cache: &Path, off: bool) -> String {
    let mut command = Command::new(RKCOV);
    command.args(format!("report t.rkcov {options}").split_whitespace());
    command
        .env("RKCOV_CACHE_DIR", cache)
        .current_dir(built.path());
    if off {
        command.env("RKCOV_NO_CACHE", "1");
    }
    succeed(&mut command)
}

const FORMATS: [&str; 3] = ["--source --all-files", "--format lcov", "--format json"];

/// Reports are the same without a cache, with a new one, and with one that has the image.
fn same(built: &Built, what: &str) {
    for format in FORMATS {
        let cache = tempfile::tempdir().unwrap();
        let reference = report(built, format, cache.path(), true);
        assert_eq!(kept(cache.path()), [] as [PathBuf; 0], "{what}");
        assert_eq!(
            report(built, format, cache.path(), false),
            reference,
            "{what}, cold"
        );
        let files = kept(cache.path());
        assert!(!files.is_empty(), "{what}: nothing is kept");
        let written: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        assert_eq!(
            report(built, format, cache.path(), false),
            reference,
            "{what}, warm"
        );
        // What is known was not written again, and is not asked of debug information.
        assert_eq!(kept(cache.path()), files, "{what}");
        let after: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        assert!(written == after, "{what}: it was not used");
    }
}

fn built(steps: &[&str]) -> Built {
    let built = Built {
        folder: tempfile::tempdir().unwrap(),
    };
    for (name, text) in [("p.c", PROGRAM), ("half.c", HALF)] {
        fs::write(built.folder.path().join(name), text).unwrap();
    }
    for step in steps {
        built.rkcov(step);
    }
    built.rkcov("run -o t.rkcov -- ./p");
    built
}

#[test]
fn reports_are_the_same_with_and_without_what_is_kept() {
    if !has("gcc") {
        return;
    }
    same(&built(&["cc gcc -g -O1 p.c half.c -o p"]), "a program in C");
    same(
        &built(&["cc gcc -g -O1 -static p.c half.c -o p"]),
        "a static program",
    );
    let library = [
        "cc gcc -g -O1 -fPIC -shared half.c -o libhalf.so",
        "cc gcc -g -O1 p.c -L. -lhalf -Wl,-rpath,$ORIGIN -o p",
    ];
    same(&built(&library), "a library");
    let split = [
        "cc gcc -g -gsplit-dwarf -c p.c -o p.o",
        "cc gcc -g -gsplit-dwarf -c half.c -o half.o",
        "cc gcc -g p.o half.o -o p",
    ];
    same(&built(&split), "split debug information");
}

#[test]
fn split_debug_information_that_appears_counts() {
    let built = built(&[
        "cc gcc -g -gsplit-dwarf -c p.c -o p.o",
        "cc gcc -g -gsplit-dwarf -c half.c -o half.o",
        "cc gcc -g p.o half.o -o p",
    ]);
    let cache = tempfile::tempdir().unwrap();
    let with = report(&built, "--functions", cache.path(), true);
    let (at, gone) = (built.path().join("half.dwo"), built.path().join("gone"));
    fs::rename(&at, &gone).unwrap();
    let without = report(&built, "--functions", cache.path(), true);
    assert_eq!(report(&built, "--functions", cache.path(), false), without);
    fs::rename(&gone, &at).unwrap();
    assert_eq!(report(&built, "--functions", cache.path(), false), with);
    fs::rename(&at, &gone).unwrap();
    assert_eq!(report(&built, "--functions", cache.path(), false), without);
}

#[test]
fn an_image_without_build_id_is_not_kept() {
    let built = built(&["cc gcc -g p.c half.c -o p"]);
    let mut objcopy = Command::new("objcopy");
    objcopy.args(["--remove-section", ".note.gnu.build-id", "p"]);
    succeed(objcopy.current_dir(built.path()));
    built.rkcov("run -o t.rkcov -- ./p");
    let cache = tempfile::tempdir().unwrap();
    report(&built, "", cache.path(), false);
    assert_eq!(kept(cache.path()), [] as [PathBuf; 0]);
}

#[test]
fn a_folder_that_cannot_be_written_is_no_error() {
    let built = built(&["cc gcc -g p.c half.c -o p"]);
    let cache = tempfile::tempdir().unwrap();
    fs::write(cache.path().join("images"), "a file").unwrap();
    let reference = report(&built, "--format lcov", cache.path(), true);
    assert_eq!(
        report(&built, "--format lcov", cache.path(), false),
        reference
    );
}

#[test]
fn damaged_files_count_as_none() {
    let built = built(&["cc gcc -g p.c half.c -o p"]);
    let cache = tempfile::tempdir().unwrap();
    let reference = report(&built, "--format json", cache.path(), false);
    let [file] = &kept(cache.path())[..] else {
        panic!()
    };
    let whole = fs::read(file).unwrap();
    let mut damaged = vec![
        Vec::new(),
        whole[..7].to_vec(),
        whole[..whole.len() / 2].to_vec(),
    ];
    damaged.push([&whole[..], b"more"].concat());
    for at in (0..whole.len()).step_by(whole.len() / 16) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        damaged.push(bytes);
    }
    for bytes in damaged {
        fs::write(file, &bytes).unwrap();
        assert_eq!(
            report(&built, "--format json", cache.path(), false),
            reference
        );
        // It was made again.
        let again = fs::read(file).unwrap();
        assert!(again != bytes && again.len() == whole.len());
    }
}

fn coverage(built: &Built, cache: &Cache) -> Coverage {
    let trace = TraceFile::open(built.path().join("t.rkcov")).unwrap();
    let trace = trace.trace().unwrap();
    let named = Named {
        name: "t.rkcov",
        trace: &trace,
    };
    let search = Search {
        cache: Some(cache.clone()),
        ..Search::default()
    };
    Coverage::watched(&[named], &search, &Progress::default()).unwrap()
}

#[test]
fn hostile_files_do_no_harm() {
    let built = built(&["cc gcc -g p.c half.c -o p"]);
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache {
        folder: folder.path().join("images"),
        build: "test".into(),
        limit: 1 << 20,
    };
    coverage(&built, &cache);
    let [file] = &kept(folder.path())[..] else {
        panic!()
    };
    let whole = fs::read(file).unwrap();
    for at in (12..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] = [0xff, 0x00, 0x01, 0x7f][at % 4];
        // The checksum is right: what it covers has to be looked at.
        let sum = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        fs::write(file, &bytes).unwrap();
        coverage(&built, &cache);
    }
}

#[test]
fn the_folder_is_bounded() {
    // In folders of different names, so with different build ids.
    let programs = [(); 3].map(|()| built(&["cc gcc -g -O1 p.c half.c -o p"]));
    let folder = tempfile::tempdir().unwrap();
    let mut cache = Cache {
        folder: folder.path().join("images"),
        build: "test".into(),
        limit: 1 << 20,
    };
    coverage(&programs[0], &cache);
    let first = kept(folder.path());
    coverage(&programs[1], &cache);
    let both = kept(folder.path());
    assert_eq!((first.len(), both.len()), (1, 2));
    let size = |file: &PathBuf| file.metadata().unwrap().len();
    cache.limit = both.iter().map(size).sum::<u64>() + 64;
    // The first is used again, so the second has not been used for the longest time.
    coverage(&programs[0], &cache);
    coverage(&programs[2], &cache);
    let after = kept(folder.path());
    assert!(after.contains(&first[0]), "{first:?} {after:?}");
    assert!(after.iter().map(size).sum::<u64>() <= cache.limit);
    assert!(after.len() == 2 && after != both, "{both:?} {after:?}");
}
