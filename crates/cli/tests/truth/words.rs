// SPDX-License-Identifier: MIT OR Apache-2.0
//! What people read of a program with threads: one thing has one word, at the end of a run and in reports.

use std::process::{Command, Output};

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

/// What is nearly right is answered with what would be.
#[test]
fn mistakes_have_hints() {
    let built = threads();
    let mut all = String::new();
    let mut add = |words: &str| {
        all += &format!("$ rkcov {words}\n{}\n", said(&built, words));
    };
    add("report t.rkcov --filter nosuch");
    add("run -- p");
    add("run -o /nosuch/x.rkcov -- ./p");
    add("run --mode cmp -o cmp.rkcov -- ./p");
    // Objects that only one of the two compilers saw.
    let gcc = |words: &str| {
        let mut gcc = Command::new("gcc");
        gcc.args(words.split(' ')).current_dir(built.path());
        assert!(gcc.status().unwrap().success(), "gcc {words}");
    };
    built.rkcov("cc gcc -g -D_GNU_SOURCE -c p.c -o checks.o");
    gcc("-pthread checks.o -o unlinked");
    add("run -- ./unlinked");
    gcc("-D_GNU_SOURCE -c p.c -o plain.o");
    built.rkcov("cc gcc -pthread plain.o -o uncompiled");
    add("run -- ./uncompiled");
    let trace = std::fs::read(built.path().join("t.rkcov")).unwrap();
    std::fs::write(built.path().join("cut.rkcov"), &trace[..trace.len() - 20]).unwrap();
    add("report cut.rkcov");
    add("report cut.rkcov --salvage");
    let line = built.command("run").arg("./p | ./p").output().unwrap();
    assert_eq!(line.status.code(), Some(127));
    all += &String::from_utf8(line.stderr).unwrap();
    let numbers = regex::Regex::new("byte [0-9]+").unwrap();
    insta::assert_snapshot!("hints", numbers.replace_all(&all, "byte N"));
}

#[test]
fn the_end_of_the_path_and_flags_say_the_format() {
    let built = threads();
    for (name, begin) in [
        ("a.html", "<!DOCTYPE html>"),
        ("a.json", "{"),
        ("a.info", "TN:"),
        ("a.lcov", "TN:"),
        ("a.xml", "<?xml"),
        ("a.md", "#"),
        ("a.svg", "<svg"),
        ("a", "/built"),
        ("a.txt", "/built"),
    ] {
        built.rkcov(&format!("report t.rkcov -o {name}"));
        let text = std::fs::read_to_string(built.path().join(name)).unwrap();
        let text = text.replace(&*built.path().to_string_lossy(), "/built");
        assert!(text.starts_with(begin), "{name}: {text}");
    }
    // The format that is given wins.
    built.rkcov("report t.rkcov -o b.json --format lcov");
    let text = std::fs::read_to_string(built.path().join("b.json")).unwrap();
    assert!(text.starts_with("TN:"), "{text}");
    for format in ["text", "lcov", "json", "markdown", "cobertura", "drcov"] {
        let short = built.report(&format!("--{format}"));
        assert_eq!(short, built.report(&format!("--format {format}")));
    }
    assert_eq!(
        said(&built, "report t.rkcov --html -o page"),
        "rkcov: page/index.html\nstatus 0\n"
    );
    let both = said(&built, "report t.rkcov --json --lcov");
    assert!(both.ends_with("status 2\n"), "{both}");
}
