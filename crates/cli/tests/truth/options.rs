// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options of a report do what they say, and its numbers are of what they say.

use std::fs;
use std::process::Output;

use serde_json::Value;

use super::lines::Built;

pub(crate) const THREADS: &str = "\
#include <pthread.h>
#include <unistd.h>
static int shared(int n) {
    if (n > 7)
        return 1;
    n += read(0, &n, 0);
    return n + 1;
}
static int worker(int n) {
    n += shared(n);
    n += read(0, &n, 0);
    return n;
}
static pthread_mutex_t named = PTHREAD_MUTEX_INITIALIZER;
static void *work(void *of) {
    pthread_mutex_lock(&named);
    pthread_mutex_unlock(&named);
    return (void *)(long)worker(*(int *)of);
}
int main(void) {
    int one = 1;
    pthread_t thread;
    pthread_mutex_lock(&named);
    pthread_create(&thread, 0, work, &one);
    pthread_setname_np(thread, \"a-name-of-worke\");
    pthread_mutex_unlock(&named);
    pthread_join(thread, 0);
    return shared(3) > 99;
}
";

fn threads() -> Built {
    Built::new(
        &[("p.c", THREADS)],
        "cc gcc -g -O1 -D_GNU_SOURCE -pthread p.c -o p",
        "",
    )
}

fn fails(built: &Built, options: &str) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = built
        .command(&format!("report {options}"))
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_lines_of_a_file_are_a_fact_of_the_build() {
    let built = threads();
    let sums = |options: &str| {
        let json: Value =
            serde_json::from_str(&built.report(&format!("--format json {options}"))).unwrap();
        let totals = &json["totals"];
        (
            totals["lines"]["all"].clone(),
            totals["functions"]["all"].clone(),
            json["pcs"].clone(),
        )
    };
    let [all, main, workers] = ["", "--thread main", "--thread workers"].map(sums);
    assert_eq!((&all.0, &all.1), (&main.0, &main.1));
    assert_eq!((&all.0, &all.1), (&workers.0, &workers.1));
    // What was recorded is of who was asked for.
    let [all, main, workers] = [all.2, main.2, workers.2].map(|pcs| pcs.as_u64().unwrap());
    assert!(
        main < all && workers < all && main + workers >= all,
        "{main} {workers} {all}"
    );
}

#[test]
fn a_long_name_of_a_thread_is_that_of_the_thread() {
    let built = threads();
    let whole = built.report("--thread a-name-of-worker-number-one --format lcov");
    assert_eq!(
        whole,
        built.report("--thread a-name-of-worke --format lcov")
    );
    assert!(built.report("--by-thread").contains("(a-name-of-worke…)"));
    assert_eq!(fails(&built, "t.rkcov --thread a-name").0, Some(1));
}

#[test]
fn exclusive_is_of_some_threads() {
    let built = threads();
    let (status, said) = fails(&built, "t.rkcov --exclusive");
    assert_eq!(status, Some(1));
    assert!(said.contains("needs --thread or --by-thread"), "{said}");
    built.report("--exclusive --thread main");
    built.report("--exclusive --by-thread");
}

#[test]
fn uncovered_source_has_no_line_that_ran() {
    let source = "int main(int argc, char **argv) {\n  (void)argv;\n  if (argc > 7)\n    argc = 3;\n  return argc > 9;\n}\n";
    let built = Built::new(&[("p.c", source)], "cc gcc -g -O0 p.c -o p", "");
    let source = built.report("--source --uncovered");
    assert!(
        source.contains(" - ") && !source.contains(" + "),
        "{source}"
    );
}

#[test]
fn several_reports_at_once() {
    let built = threads();
    let text = built.report("--format text --format lcov=a.lcov --format json=a.json");
    assert_eq!(text, built.report(""));
    let read = |name: &str| fs::read_to_string(built.path().join(name)).unwrap();
    let folder = built.path();
    let plain = |text: String| text.replace(folder.to_str().unwrap(), "/built");
    assert_eq!(plain(read("a.lcov")), built.report("--format lcov"));
    assert_eq!(plain(read("a.json")), built.report("--format json"));
    built.report("--format lcov -o b.lcov");
    assert_eq!(read("b.lcov"), read("a.lcov"));
    for (options, why) in [
        ("--format text --format lcov", "all but one need a path"),
        ("--format lcov=a -o b", "all formats have a path already"),
        ("--format html5", "the formats are text, lcov, json"),
        ("--format lcov=", "no path after the ="),
        ("--remap x", "FROM=TO"),
    ] {
        let (status, said) = fails(&built, &format!("t.rkcov {options}"));
        assert!(status != Some(0) && said.contains(why), "{options}: {said}");
    }
}

#[test]
fn sources_have_the_names_that_the_user_gives_them() {
    let built = threads();
    let here = built.path();
    let lcov = built.report(&format!(
        "--format lcov --remap {}=/elsewhere/src",
        here.display()
    ));
    assert!(lcov.contains("SF:/elsewhere/src/p.c\n"), "{lcov}");
    assert_eq!(
        lcov.replace("/elsewhere/src", "/built"),
        built.report("--format lcov")
    );
}

#[test]
fn pcs_are_places_of_files_that_are_the_same_in_each_run() {
    let built = threads();
    let first = built.report("--format pcs");
    assert!(
        first.lines().all(|line| line.starts_with("/built/p+0x")),
        "{first}"
    );
    built.rkcov("run --mode trace -o t.rkcov -- ./p");
    assert_eq!(built.report("--format pcs"), first);

    // A list of them is as good as the trace.
    let list: Vec<&str> = first
        .lines()
        .map(|line| line.rsplit_once('+').unwrap().1)
        .collect();
    fs::write(built.path().join("list"), list.join("\n")).unwrap();
    let lcov = built.rkcov("report --pcs list --image p --format lcov");
    let of_trace = built.rkcov("report t.rkcov --format lcov");
    let ran = |lcov: &str| {
        let lines = lcov.lines().filter(|line| line.starts_with("DA:"));
        lines
            .map(|line| {
                (
                    line.split(',').next().unwrap().to_owned(),
                    !line.ends_with(",0"),
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(ran(&lcov), ran(&of_trace));
    let moved = list
        .iter()
        .map(|pc| u64::from_str_radix(&pc[2..], 16).unwrap() + 0x7000_0000);
    let moved: Vec<String> = moved.map(|pc| format!("{pc:X}")).collect();
    fs::write(built.path().join("moved"), moved.join(", ")).unwrap();
    let again = built.rkcov("report --pcs moved --image p --load-offset 0x70000000 --format lcov");
    assert_eq!(again, lcov);
    fs::write(built.path().join("wrong"), "0x12 twelve").unwrap();
    for (options, why) in [
        (
            "--pcs moved --image p",
            "is in the code of p; say with --load-offset",
        ),
        (
            "--pcs wrong --image p",
            "\"twelve\" is not a hexadecimal number",
        ),
        ("--pcs list", "--image"),
        (
            "--pcs list --image list",
            "cannot use list: not a linked file",
        ),
        ("--pcs gone --image p", "cannot read gone"),
    ] {
        let (status, said) = fails(&built, options);
        assert!(status != Some(0) && said.contains(why), "{options}: {said}");
    }
}

#[test]
fn comparisons_say_of_no_line_that_it_did_not_run() {
    let source = "\
int main(int argc, char **argv) {
    (void)argv;
    int n = argc + 4;
    if (n == 77)
        return 3;
    for (int i = 0; i < n; i++)
        n += i;
    return n == 3;
}
";
    let built = |build: &str| Built::in_mode(&[("p.c", source)], build, "", "cmp");
    let compared = built("cc --cmp gcc -g -O0 p.c -o p");
    insta::assert_snapshot!("comparisons", compared.report("--source"));
    let json: Value = serde_json::from_str(&compared.report("--format json")).unwrap();
    let all = json["files"][0]["comparisons"].as_array().unwrap();
    assert!(
        all.iter()
            .any(|pair| pair["first"] == 77 && pair["second"] == 5 && pair["line"] == 4),
        "{all:?}"
    );
    assert_eq!(json["totals"]["complete"], false);
    let (status, said) = fails(&compared, "t.rkcov --fail-under-lines 1");
    assert!(
        status == Some(1) && said.contains("cannot be determined"),
        "{said}"
    );
    let without = built("cc gcc -g -O0 p.c -o p").report("");
    assert!(
        without.contains("built with `rkcov cc --cmp`?"),
        "{without}"
    );
}
