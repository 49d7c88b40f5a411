// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov merge`: what a report says of a merged trace is what it says of the traces together.

use std::fs;

use serde_json::Value;

use super::lines::Built;

const SOURCE: &str = "\
#include <stdio.h>
static int one(int n) {
    return n + 1;
}
static int two(int n) {
    return n + 2;
}
int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1)
        return one(argc) > 99;
    return two(argc) > 99;
}
";

fn build() -> Built {
    Built::new(&[("p.c", SOURCE)], "cc gcc -g -O0 p.c -o p", "")
}

fn json(built: &Built, traces: &str, options: &str) -> Value {
    let text = built.rkcov(&format!("report {traces} --format json {options}"));
    let mut json: Value = serde_json::from_str(&text).unwrap();
    // These have the names of the files.
    json.as_object_mut().unwrap().remove("runs").unwrap();
    for thread in json["threads"].as_array_mut().unwrap() {
        thread.as_object_mut().unwrap().remove("run").unwrap();
    }
    json
}

#[test]
fn the_report_of_a_merged_trace_is_that_of_its_parts() {
    let built = build();
    for (first, second) in [
        ("trace", "trace"),
        ("unique", "unique"),
        ("trace", "unique"),
    ] {
        built.rkcov(&format!("run --mode {first} -o a.rkcov -- ./p"));
        built.rkcov(&format!("run --mode {second} -o b.rkcov -- ./p x"));
        built.rkcov("merge a.rkcov b.rkcov -o ab.rkcov");
        let merged = json(&built, "ab.rkcov", "");
        assert_eq!(
            merged,
            json(&built, "a.rkcov b.rkcov", ""),
            "{first} {second}"
        );
        assert_eq!(merged["totals"]["functions"]["ran"], 3);
        // Once more: it is a trace as any other.
        built.rkcov("merge ab.rkcov a.rkcov -o all.rkcov");
        let all = json(&built, "all.rkcov", "");
        assert_eq!(all, json(&built, "ab.rkcov a.rkcov", ""));
    }
}

#[test]
fn different_builds_are_put_together_by_line() {
    let built = build();
    built.rkcov("run --mode unique -o a.rkcov -- ./p");
    let old = built.path().join("old");
    fs::create_dir(&old).unwrap();
    fs::rename(built.path().join("p"), old.join("p")).unwrap();
    built.rkcov("cc gcc -g -O0 -DOTHER=1 -fno-inline -falign-functions=64 p.c -o p");
    built.rkcov("run --mode unique -o b.rkcov -- ./p x");
    built.rkcov("merge a.rkcov b.rkcov -o ab.rkcov");
    let report = json(&built, "ab.rkcov", "--binaries old");
    let totals = &report["totals"];
    assert_eq!(
        (&totals["functions"]["ran"], &totals["functions"]["all"]),
        (&3.into(), &3.into())
    );
    assert_eq!(totals["lines"]["percent"], 100.0, "{totals}");
    assert_eq!(report["files"].as_array().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let built = build();
    built.rkcov("cc --cmp gcc -g -O0 p.c -o compares");
    built.rkcov("run --mode cmp -o cmp.rkcov -- ./compares");
    fs::write(built.path().join("text"), "no trace").unwrap();
    for (traces, why) in [
        (
            "t.rkcov cmp.rkcov",
            "a trace of comparisons and one of PCs cannot be one trace",
        ),
        ("t.rkcov text", "text: this is not an rkcov trace"),
        ("t.rkcov nowhere.rkcov", "nowhere.rkcov"),
    ] {
        let output = built
            .command(&format!("merge {traces} -o out.rkcov"))
            .output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(why), "{said}");
        assert!(!built.path().join("out.rkcov").exists());
    }
}
