// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov trace` tells who called whom; `rkcov cmp` what was compared.

use serde_json::Value;

use super::compilers;
use super::lines::Built;

const CALLS: &str = "\
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
static jmp_buf out;
static volatile int steps;
static int leaf(int n) {
    steps++;
    return n + 1;
}
static int middle(int n) {
    if (n > 2)
        n = leaf(n);
    return leaf(n);
}
static int down(int n) {
    return n ? down(n - 1) + leaf(n) : 0;
}
static int compare(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}
static int through(int (*function)(int)) {
    return function(7);
}
static int deep(int n) {
    if (n == 0)
        longjmp(out, 1);
    return deep(n - 1) + 1;
}
int main(void) {
    int n = 0, two[2] = {2, 1};
    for (int i = 0; i < 5; i++)
        n += middle(i % 2 ? 9 : 0);
    n += down(3);
    qsort(two, 2, sizeof *two, compare);
    n += through(leaf);
    if (!setjmp(out))
        deep(3);
    n += middle(1);
    return n == 0;
}
";

const INLINED: &str = "\
static volatile int steps;
static inline __attribute__((always_inline)) int inner(int n) {
    if (n > 3)
        steps++;
    return n + 1;
}
static __attribute__((noinline)) int outer(int n) {
    for (int i = 0; i < 3; i++)
        n += inner(n);
    return n;
}
int main(int argc, char **argv) {
    return outer(argc) == 0 && argv;
}
";

fn traced(source: &str, compiler: &str, level: &str) -> Built {
    let build = format!("cc {compiler} -g {level} p.c -o p");
    Built::in_mode(&[("p.c", source)], &build, "", "trace")
}

fn valid(schema: &str, json: &str) -> Value {
    let schema = serde_json::from_str(schema).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let json = serde_json::from_str(json).unwrap();
    let errors: Vec<_> = schema.iter_errors(&json).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}\n{json:#}");
    json
}

/// The story without the numbers of threads and processes.
fn told(built: &Built, options: &str) -> String {
    let text = built.rkcov(&format!("trace t.rkcov {options}"));
    let number = regex::Regex::new(r"(?m)(^|process |of )[0-9]{2,}").unwrap();
    number.replace_all(&text, "${1}N").into_owned()
}

#[test]
fn who_called_whom() {
    for compiler in compilers() {
        for level in ["-O0", "-O1"] {
            // Without inlining, all compilers leave the same calls.
            let level = format!("{level} -fno-inline -fno-optimize-sibling-calls");
            let story = told(&traced(CALLS, compiler, &level), "");
            let (_, story) = story.split_once('\n').unwrap();
            let (_, story) = story.split_once('\n').unwrap();
            println!("{compiler} {level}");
            insta::assert_snapshot!("calls", story);
        }
    }
}

#[test]
fn inlined_functions_are_part_of_the_story() {
    for compiler in compilers() {
        let story = told(&traced(INLINED, compiler, "-O1 -fno-unroll-loops"), "");
        let rows: Vec<&str> = story.lines().skip(2).collect();
        assert_eq!(rows[..2], ["main (p.c:12)", "  outer (p.c:7)"], "{story}");
        let inner = rows[2].strip_prefix("    inner (p.c:").unwrap_or_default();
        assert!(inner.contains(") inlined"), "{compiler}: {story}");
    }
}

#[test]
fn stories_have_a_heading_and_a_depth() {
    let built = traced(CALLS, "gcc", "-O0");
    let story = told(&built, "--depth 2");
    let mut rows = story.lines();
    assert_eq!(rows.next(), Some("N (main) · process N (of N) ./p"));
    let facts = rows.next().unwrap();
    assert!(
        facts.contains(" calls in ") && facts.ends_with(" records"),
        "{facts}"
    );
    assert!(
        story.contains("  down (p.c:15)\n    … 6 calls deeper\n"),
        "{story}"
    );
    assert!(!story.contains("leaf"), "{story}");

    let json = built.rkcov("trace t.rkcov --format json");
    let json = valid(include_str!("../../../../docs/trace.schema.json"), &json);
    let thread = &json["threads"][0];
    assert_eq!(thread["whole"], true);
    let rows = thread["rows"].as_array().unwrap();
    assert_eq!(rows[0]["function"], "main");
    assert_eq!(rows[0]["begin"], "called");
    // Each row is one call, or several.
    let mut factors: Vec<u64> = Vec::new();
    let mut calls = 0;
    for row in rows {
        factors.truncate(row["depth"].as_u64().unwrap() as usize);
        let times = row["times"].as_u64().or(row["repeat"].as_u64()).unwrap();
        factors.push(times);
        if row.get("function").is_some() {
            calls += factors.iter().product::<u64>();
        }
    }
    assert_eq!(thread["calls"], calls);
}

#[test]
fn threads_have_stories_of_their_own() {
    let source = super::options::THREADS;
    let build = "cc gcc -g -O0 -D_GNU_SOURCE -pthread p.c -o p";
    let built = Built::new(&[("p.c", source)], build, "");
    let of = |thread: &str| -> Vec<String> {
        let story = built.rkcov(&format!("trace t.rkcov --thread {thread}"));
        story.lines().skip(2).map(str::to_owned).collect()
    };
    assert_eq!(of("main"), ["main (p.c:20)", "  shared (p.c:3)"]);
    let worker = ["work (p.c:15)", "  worker (p.c:9)", "    shared (p.c:3)"];
    assert_eq!(of("workers"), worker);
    assert_eq!(
        built.rkcov("trace t.rkcov").lines().count(),
        2 + 2 + 1 + 2 + 3
    );
    let none = built.command("trace t.rkcov --thread 7").output().unwrap();
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(said.contains("no thread 7 in the trace"), "{said}");
}

const COMPARED: &str = "\
#include <string.h>
int main(int argc, char **argv) {
    int n = argc + 4;
    short code = 'x';
    if (n == 77)
        return 3;
    for (int i = 0; i < n; i++)
        code += i;
    switch (n) {
    case 5:
        code = 8;
        break;
    case 1000:
        code = 9;
    }
    if (code == argc + 1 && argv)
        return 1;
    return n == -1;
}
";

#[test]
fn what_a_fuzzer_would_try() {
    for compiler in compilers() {
        let build = format!("cc --cmp {compiler} -g -O0 p.c -o p");
        let built = Built::in_mode(&[("p.c", COMPARED)], &build, "", "cmp");
        let folder = built.path().to_string_lossy().into_owned();
        let shown = |options: &str| {
            let text = built.rkcov(&format!("cmp t.rkcov {options}"));
            text.replace(&folder, "/built")
        };
        insta::assert_snapshot!(format!("compared-{compiler}"), shown(""));
        // Only what was never met.
        let tries = shown("--tries");
        assert!(
            tries.contains(" try ") && !tries.contains(" met "),
            "{tries}"
        );

        let json = valid(
            include_str!("../../../../docs/cmp.schema.json"),
            &shown("--format json"),
        );
        let lines = json["files"][0]["lines"].as_array().unwrap();
        let line = lines.iter().find(|line| line["line"] == 5).unwrap();
        let comparison = &line["comparisons"][0];
        assert_eq!(line["text"], "if (n == 77)");
        assert_eq!(comparison["constant"], 77);
        assert_eq!(comparison["tries"], serde_json::json!([77]));
        assert_eq!(comparison["pairs"][0]["second"], 5);
    }
}

#[test]
fn traces_of_other_modes_are_refused() {
    let built = |mode| {
        let build = "cc --cmp gcc -g -O0 p.c -o p";
        Built::in_mode(&[("p.c", COMPARED)], build, "", mode)
    };
    let (unique, compared, traced) = (built("unique"), built("cmp"), built("trace"));
    for (built, command, why) in [
        (
            &unique,
            "trace",
            "in unique mode, which does not keep the order: record it with --mode trace",
        ),
        (
            &compared,
            "trace",
            "in cmp mode, which does not keep the order",
        ),
        (
            &unique,
            "cmp",
            "in unique mode, which has no comparisons: build with `rkcov cc --cmp`",
        ),
        (&traced, "cmp", "in trace mode, which has no comparisons"),
    ] {
        let output = built
            .command(&format!("{command} t.rkcov"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why) && output.stdout.is_empty(), "{said}");
    }
}
