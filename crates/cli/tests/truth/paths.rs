// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sources whose paths are not UTF-8: two paths are two files, in every format.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

use super::{lines::RKCOV, succeed};

fn command(folder: &Path, words: &[&[u8]]) -> Command {
    let mut command = Command::new(RKCOV);
    command.args(words.iter().map(|word| OsStr::from_bytes(word)));
    command.current_dir(folder);
    command
}

/// Writes the sources, builds the program of those that end with `.c`, runs it and reports it, in `format`,
/// to a file or to standard output.
fn report(sources: &[(&[u8], &[u8])], flags: &[&[u8]], format: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    for (name, text) in sources {
        fs::write(folder.join(OsStr::from_bytes(name)), text).unwrap();
    }
    let names = sources.iter().map(|(name, _)| *name);
    let names = names.filter(|name| name.ends_with(b".c"));
    let build: Vec<&[u8]> = [&b"cc"[..], b"gcc", b"-g", b"-o", b"p"]
        .into_iter()
        .chain(flags.iter().copied())
        .chain(names)
        .collect();
    succeed(&mut command(&folder, &build));
    succeed(&mut command(&folder, &[b"run", b"-o", b"t.rkcov", b"./p"]));
    let words: [&[u8]; 4] = [b"report", b"t.rkcov", b"--format", format.as_bytes()];
    let Output { status, stdout, .. } = command(&folder, &words).output().unwrap();
    assert!(status.success());
    let stdout = match format.split_once('=') {
        Some((_, path)) => fs::read(folder.join(path)).unwrap(),
        None => stdout,
    };
    without(&stdout, folder.as_os_str().as_bytes())
}

/// Bytes without each place of `part`.
fn without(bytes: &[u8], part: &[u8]) -> Vec<u8> {
    let mut left = Vec::new();
    let mut rest = bytes;
    while let Some((first, others)) = rest.split_first() {
        match rest.strip_prefix(part) {
            Some(after) => rest = after,
            None => {
                left.push(*first);
                rest = others;
            }
        }
    }
    left
}

/// The files and lines of an lcov tracefile.
fn lines_of(lcov: &[u8]) -> Vec<&[u8]> {
    let lines = lcov.split(|byte| *byte == b'\n');
    lines
        .filter(|line| line.starts_with(b"SF:") || line.starts_with(b"DA:"))
        .collect()
}

const TWO: [(&[u8], &[u8]); 2] = [
    (b"m\xe8.c", b"int g(int x){\n  return x;\n}\n"),
    (
        b"m\xe9.c",
        b"int g(int);\nint main(int c,char**v){\n  (void)v;\n  if(c>3)\n    return 9;\n  return g(c)-1;\n}\n",
    ),
];

#[test]
fn two_files_of_two_units() {
    let lcov = report(&TWO, &[], "lcov");
    let expected: [&[u8]; 10] = [
        b"SF:/m\xe8.c",
        b"DA:1,1",
        b"DA:2,1",
        b"DA:3,1",
        b"SF:/m\xe9.c",
        b"DA:2,1",
        b"DA:4,1",
        b"DA:5,0",
        b"DA:6,1",
        b"DA:7,1",
    ];
    assert_eq!(lines_of(&lcov), expected);
}

/// Formats that are UTF-8 have another name for each.
#[test]
fn two_files_in_formats_of_text() {
    for format in ["text", "json", "cobertura", "github", "html=page.html"] {
        let report = String::from_utf8(report(&TWO, &[], format)).unwrap();
        let backslash = if ["json", "html=page.html"].contains(&format) {
            "\\\\"
        } else {
            "\\"
        };
        let wanted = if format == "github" {
            &["E9"][..]
        } else {
            &["E8", "E9"]
        };
        for byte in wanted {
            let name = format!("m{backslash}x{byte}.c");
            assert!(report.contains(&name), "{format}: {name}: {report}");
        }
        assert!(!report.contains('\u{fffd}'), "{format}: {report}");
    }
}

/// In one unit, where only the code tells them apart: one is inlined into the other.
#[test]
fn two_headers_of_one_unit() {
    let sources: [(&[u8], &[u8]); 3] = [
        (
            b"h\xe8.h",
            b"static inline int one(int n)\n{\n    if (n > 5)\n        return n * 7;\n    return n;\n}\n",
        ),
        (
            b"h\xe9.h",
            b"#define F __attribute__((always_inline)) static inline\n\nF int other(int n)\n{\n    return one(n + 1) + 1;\n}\n",
        ),
        (
            b"p.c",
            b"#include \"h\xe8.h\"\n#include \"h\xe9.h\"\nint main(int argc, char **argv)\n{\n    (void)argv;\n    return other(argc) == 0;\n}\n",
        ),
    ];
    for flags in [&[b"-O0" as &[u8]], &[b"-O1"]] {
        let lcov = report(&sources, flags, "lcov");
        let lines = lines_of(&lcov);
        let of = |name: &[u8]| -> Vec<&[u8]> {
            let at = lines.iter().position(|line| *line == name).unwrap();
            let rest = lines[at + 1..].iter().copied();
            rest.take_while(|line| line.starts_with(b"DA:")).collect()
        };
        let (one, other) = (of(b"SF:/h\xe8.h"), of(b"SF:/h\xe9.h"));
        assert!(one.contains(&&b"DA:3,1"[..]), "{flags:?}");
        assert!(one.contains(&&b"DA:4,0"[..]), "{flags:?}");
        assert_eq!(other, [b"DA:5,1"], "{flags:?}");
    }
}
