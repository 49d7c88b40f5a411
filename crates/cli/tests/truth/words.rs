// SPDX-License-Identifier: MIT OR Apache-2.0
//! What people read of a program with threads: one thing has one word, at the end of a run and in reports.

use std::process::Output;

use super::lines::Built;
use super::options::THREADS;

/// A program whose worker runs a function that the main thread runs, too.
fn threads() -> Built {
    let build = "cc gcc -g -O0 -D_GNU_SOURCE -pthread p.c -o p";
    Built::new(&[("p.c", THREADS)], build, "")
}

/// What a command says on standard error, and its status.
fn said(built: &Built, words: &str) -> String {
    let Output { status, stderr, .. } = built.command(words).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    let said = said.replace(&*built.path().to_string_lossy(), "/built");
    format!("{said}status {}\n", status.code().unwrap())
}

/// The lines of a report behind its tables.
fn end(report: &str) -> &str {
    let (_, end) = report.rsplit_once("\n\n").unwrap();
    end
}

/// All numbers of a text, in order.
fn numbers(text: &str) -> Vec<u64> {
    let words = text.split(|c: char| !c.is_ascii_digit());
    words.filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn records_pcs_threads_and_processes_are_counted_alike_everywhere() {
    let built = threads();
    let ran = said(&built, "run --mode trace -o t.rkcov -- ./p");
    let reports = ["", "--thread main", "--thread workers"].map(|of| built.report(of));
    let [all, main, workers] = &reports;
    insta::assert_snapshot!(
        "counts",
        format!(
            "$ rkcov run\n{ran}\n$ rkcov report\n{}\n$ rkcov report --thread main\n{}\n\
             $ rkcov report --thread workers\n{}",
            end(all),
            end(main),
            end(workers)
        )
    );
    // Records, threads and processes of the run; PCs, records, functions, lines, threads and processes of
    // the report.
    let [records, threads, processes] = numbers(&ran)[..3] else {
        panic!("{ran}");
    };
    let [pcs, of_records, _, _, of_threads, of_processes] = numbers(end(all))[..6] else {
        panic!("{all}");
    };
    assert_eq!(
        (records, threads, processes),
        (of_records, of_threads, of_processes)
    );
    assert!(
        pcs < records,
        "both threads run some code: {pcs}, {records}"
    );
    let of_each = [main, workers].map(|report| numbers(end(report))[1]);
    assert_eq!(of_each.iter().sum::<u64>(), records);
}

/// The module, and a place in its file. The place is the compiler's, and not that of this run.
#[test]
fn pcs_are_places_in_modules() {
    let built = threads();
    let report = built.report("--format pcs");
    let places = report.lines().map(|line| {
        let (module, place) = line.split_once("+0x").unwrap();
        assert!(u64::from_str_radix(place, 16).is_ok(), "{line}");
        format!("{module}+0x[place]")
    });
    insta::assert_snapshot!("pcs", places.collect::<Vec<_>>().join("\n"));
    let before = report.clone();
    built.rkcov("run --mode trace -o t.rkcov -- ./p");
    assert_eq!(built.report("--format pcs"), before);
}

#[test]
fn threads_with_long_names() {
    let built = threads();
    let report = built.report("--by-thread");
    // Numbers are the system's.
    let lines = report
        .lines()
        .map(|line| match line.strip_prefix("thread ") {
            Some(_) => line
                .split(' ')
                .map(|word| {
                    if word.parse::<u32>().is_ok() {
                        "[number]"
                    } else {
                        word
                    }
                })
                .collect::<Vec<_>>()
                .join(" "),
            None => line.to_owned(),
        });
    insta::assert_snapshot!("by_thread", lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn refusals_and_gates() {
    let built = threads();
    let mut all = String::new();
    let mut add = |words: &str| {
        all += &format!("$ rkcov {words}\n{}\n", said(&built, words));
    };
    add("report t.rkcov --exclusive");
    add("report t.rkcov --fail-under-line 99.9");
    add("run --mode trace --buffer-words 4 -o lossy.rkcov -- ./p");
    add("report lossy.rkcov --summary-only --fail-under-lines 1");
    insta::assert_snapshot!("refusals", all);
}
