// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines that marks in the sources exclude are in no report, and it is said how many there are.

use std::fs;

use serde_json::Value;

use super::lines::Built;

const MARKED: &str = "\
#include \"lib.h\"
static int never(int n)
{
    return n + 1; // LCOV_EXCL_LINE
}
// GCOVR_EXCL_START
static int debug(int n)
{
    return n - 1;
}
// GCOVR_EXCL_STOP
int main(int argc, char **argv)
{
    (void)argv; // LCOV_EXCL_BR_LINE
    if (argc > 5)
        return never(argc) + debug(argc); /* GRCOV_EXCL_LINE */
    return lib(argc) - 1;
}
";

const LIB: &str = "\
static inline int lib(int n)
{
    if (n > 5)
        return 5; /* GCOV_EXCL_LINE */
    return n;
}
/* LCOV_EXCL_START */
";

fn marked() -> Built {
    let sources = [("p.c", MARKED), ("lib.h", LIB)];
    Built::new(&sources, "cc gcc -g -O0 p.c -o p", "")
}

/// The lines with code of all files that an lcov tracefile has.
fn lines_of(lcov: &str) -> Vec<&str> {
    let lines = lcov.lines();
    lines
        .filter(|line| {
            ["DA:", "SF:", "FN:"]
                .iter()
                .any(|kind| line.starts_with(kind))
        })
        .collect()
}

#[test]
fn marked_lines_are_in_no_format() {
    let built = marked();
    let lcov = built.report("--format lcov");
    assert_eq!(
        lines_of(&lcov),
        [
            "SF:/built/lib.h",
            "FN:2,lib",
            "DA:2,1",
            "DA:3,1",
            "DA:5,1",
            "DA:6,1",
            "SF:/built/p.c",
            "FN:3,never",
            "FN:13,main",
            "DA:3,0",
            "DA:5,0",
            "DA:13,1",
            "DA:15,1",
            "DA:17,1",
            "DA:18,1",
        ],
        "{lcov}"
    );
    assert!(
        lcov.contains("# rkcov: excluded by marks in the sources: 6 lines in 2 files\n"),
        "{lcov}"
    );

    let json: Value = serde_json::from_str(&built.report("--format json")).unwrap();
    let expected = serde_json::json!({"/built/lib.h": [4], "/built/p.c": [4, 8, 9, 10, 16]});
    assert_eq!(json["excluded"], expected);
    assert_eq!(json["totals"]["lines"]["all"], 10);

    let xml = built.report("--format cobertura");
    assert!(
        xml.contains("lines-covered=\"8\" lines-valid=\"10\""),
        "{xml}"
    );
    assert!(!xml.contains("number=\"16\""), "{xml}");
    let markdown = built.report("--format markdown");
    assert!(
        markdown.contains("8 of 10 lines (80.0 %), 2 of 3 functions, 6 excluded"),
        "{markdown}"
    );

    let text = built.report("--source");
    let last = text.lines().last().unwrap();
    assert_eq!(
        last,
        "excluded by marks in the sources: 6 lines in 2 files; --no-exclusions counts them"
    );
    assert!(text.contains("16           return never"), "{text}");
}

#[test]
fn all_lines_are_counted_if_that_is_asked_for() {
    let built = marked();
    let lcov = built.report("--format lcov --no-exclusions");
    assert!(
        lcov.contains("DA:16,0\n") && lcov.contains("FN:8,debug\n"),
        "{lcov}"
    );
    let json: Value = serde_json::from_str(&built.report("--format json --no-exclusions")).unwrap();
    assert_eq!(json["excluded"], serde_json::json!({}));
    assert_eq!(json["totals"]["lines"]["all"], 16);
    let text = built.report("--no-exclusions");
    assert!(!text.contains("excluded"), "{text}");
}

#[test]
fn gates_and_differences_are_of_lines_that_count() {
    let built = marked();
    let gate = "report t.rkcov --summary-only --fail-under-lines 80";
    built.rkcov(gate);
    let output = built
        .command(&format!("{gate} --no-exclusions"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    // A line that a mark excludes is no difference either.
    fs::copy(built.path().join("t.rkcov"), built.path().join("one.rkcov")).unwrap();
    let many = "run -o many.rkcov -- ./p 2 3 4 5 6";
    // Its exit status is a number of its own.
    assert!(built.command(many).output().is_ok());
    let differs = |options: &str| built.rkcov(&format!("diff one.rkcov many.rkcov {options}"));
    let (all, counted) = (differs("--no-exclusions"), differs(""));
    assert!(all.contains("debug()"), "{all}");
    assert!(!counted.contains("debug()"), "{counted}");
    assert!(counted.contains("never()"), "{counted}");
}

#[test]
fn a_mark_without_its_other_half_is_said() {
    let built = marked();
    let output = built
        .command("report t.rkcov --summary-only")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let place = built.path().join("lib.h");
    let expected = format!(
        "rkcov: {}:7: EXCL_START has no EXCL_STOP behind it, so it excludes nothing\n",
        place.display()
    );
    assert!(output.status.success());
    assert_eq!(said, expected);
}

/// With the mark that gcovr has for whole functions, wherever a compiler says that they begin.
#[test]
fn a_function_with_a_mark_is_in_no_format() {
    let source = "\
static int debug(int n) // GCOVR_EXCL_FUNCTION
{
    if (n > 3)
        return n - 1;
    return n;
}
int other(int n); // GCOVR_EXCL_FUNCTION
int main(int argc, char **argv)
{
    (void)argv;
    return debug(argc) - 1; // GCOVR_EXCL_FUNCTION
}
";
    let built = Built::new(&[("p.c", source)], "cc gcc -g -O0 p.c -o p", "");
    let output = built
        .command("report t.rkcov --format lcov")
        .output()
        .unwrap();
    let lcov = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = lines_of(&lcov).into_iter().skip(1).collect();
    assert_eq!(
        lines,
        ["FN:9,main", "DA:9,1", "DA:11,1", "DA:12,1"],
        "{lcov}"
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("p.c:11: EXCL_FUNCTION is not where a function begins"),
        "{said}"
    );
    let all = built.report("--format lcov --no-exclusions");
    assert!(
        all.contains("FN:2,debug\n") && all.contains("DA:4,0\n"),
        "{all}"
    );
}
