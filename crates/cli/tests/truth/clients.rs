// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that collect from themselves are recorded as well: whoever collects whole processes gets what
//! runs in sections and in a client's own collection, too.

use super::lines::Built;

/// What all formats say of the line of the only source that has this text.
#[track_caller]
fn sign(built: &Built, source: &str, text: &str) -> Option<char> {
    let number = source
        .lines()
        .zip(1..)
        .find(|(line, _)| line.contains(text));
    built.signs().get(&number.unwrap().1).copied()
}

/// The functions of a report with `--functions`, with their signs.
fn functions(report: &str) -> Vec<&str> {
    let lines = report.lines().map(str::trim_start);
    lines
        .filter(|line| ["+ ", "- ", "? "].iter().any(|sign| line.starts_with(sign)))
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect()
}

#[test]
fn what_runs_in_a_section_is_recorded_whoever_listens() {
    let source = include_str!("clients/section.c");
    for mode in ["unique", "trace"] {
        for arguments in ["", "listen"] {
            let build = "cc gcc -g -O0 p.c -o p -pthread";
            let built = Built::in_mode(&[("p.c", source)], build, arguments, mode);
            let report = built.report("--functions");
            assert_eq!(
                functions(&report),
                ["+ in_section", "+ server", "+ main"],
                "{mode} {arguments}: {report}"
            );
            let line = sign(&built, source, "return n * 3;");
            assert_eq!(line, Some('+'), "{mode} {arguments}");
        }
    }
}

#[test]
fn what_a_program_collects_from_itself_is_recorded() {
    let source = include_str!("clients/local.c");
    for mode in ["unique", "trace"] {
        let built = Built::in_mode(&[("p.c", source)], "cc gcc -g -O0 p.c -o p", "", mode);
        let report = built.report("--functions");
        assert_eq!(
            functions(&report),
            ["+ f", "+ g", "+ main"],
            "{mode}: {report}"
        );
        assert_eq!(sign(&built, source, "return n * 3;"), Some('+'), "{mode}");
    }
}
