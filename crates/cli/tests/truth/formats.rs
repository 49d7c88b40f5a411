// SPDX-License-Identifier: MIT OR Apache-2.0
//! Formats for other programs, as these read them: lcov's genhtml, an XML validator, a JSON schema; and each as it
//! looks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::here;
use super::lines::Built;
use super::options::THREADS;
use super::small::SMALL;

fn small() -> Built {
    let sources: Vec<(&str, &str)> = SMALL.iter().map(|(name, text)| (*name, *text)).collect();
    Built::new(&sources, "cc gcc -g -O0 main.c -o p", "")
}

/// C++ whose names have what has a meaning in XML, in lcov, and in paths.
const NAMES: &str = "\
#include <vector>
template <typename T> struct Pair {
    T a, b;
    bool operator<(const Pair &other) const { return a < other.a && b < other.b; }
};
template <typename T> T larger(T a, T b) {
    if (a < b)
        return b;
    return a;
}
int main() {
    auto both = [](int n) { return n + 1; };
    auto other = [](int n) { return n + 2; };
    std::vector<int> all{both(1), other(2)};
    larger<Pair<int>>({1, 2}, {3, 4});
    return larger(all[0], 3) == larger('a', 'b');
}
";

fn names() -> Built {
    let build = "c++ g++ -g -O0 names&<more>.cc -o p";
    Built::new(&[("names&<more>.cc", NAMES)], build, "")
}

fn threads() -> Built {
    let build = "cc gcc -g -O1 -D_GNU_SOURCE -pthread p.c -o p";
    Built::new(&[("p.c", THREADS)], build, "")
}

#[test]
fn genhtml_has_nothing_to_say_against_lcov() {
    for built in [small(), names(), threads()] {
        for options in [
            "",
            "--functions",
            "--by-thread",
            "--all-sources",
            "--thread main",
        ] {
            let report = format!("report t.rkcov --format lcov=t.info {options}");
            built.rkcov(&report);
            let output = Command::new("genhtml")
                .args(["t.info", "--output-directory", "html", "--show-details"])
                .current_dir(built.path())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(output.status.success(), "{options}: {said}");
            let lower = said.to_lowercase();
            for word in ["warning", "error", "mismatch", "unexpected", "cannot"] {
                assert!(!lower.contains(word), "{options}: {said}");
            }
            assert!(said.contains("Overall coverage rate"), "{options}: {said}");
        }
    }
}

/// The sums that genhtml made of a report are those of the report.
#[test]
fn genhtml_counts_as_we_do() {
    let built = small();
    built.rkcov("report t.rkcov --format lcov=t.info");
    let output = Command::new("genhtml")
        .args(["t.info", "-o", "html"])
        .current_dir(built.path())
        .output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    let json: Value = serde_json::from_str(&built.report("--format json")).unwrap();
    for what in ["lines", "functions"] {
        let sums = &json["totals"][what];
        let sums = format!("({} of {} {what})", sums["ran"], sums["all"]);
        assert!(said.contains(&sums), "{sums}: {said}");
    }
}

/// By the DTD of Cobertura 2, and by rules that also know what values may be.
#[test]
fn cobertura_is_as_its_rules_say() {
    let dtd = xtask::setup::cobertura_dtd();
    let has_dtd = here::can(&["cat", dtd.to_str().unwrap()]);
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth/cobertura.rng");
    for built in [small(), names(), threads()] {
        let valid = |by: &str, rules: &Path, path: &str| {
            let mut xmllint = Command::new("xmllint");
            xmllint.args(["--noout", "--nonet", by]);
            xmllint.arg(rules).arg(built.path().join(path));
            let output = xmllint.output().unwrap();
            (
                output.status.success(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )
        };
        for options in ["", "--summary-only", "--thread main", "--all-sources"] {
            built.rkcov(&format!(
                "report t.rkcov --format cobertura=t.xml {options}"
            ));
            let (is_valid, said) = valid("--relaxng", &rules, "t.xml");
            assert!(is_valid, "{options}: {said}");
            let (is_valid, said) = valid("--dtdvalid", &dtd, "t.xml");
            assert!(is_valid || !has_dtd, "{options}: {said}");
        }
        // The rules refuse what is not such a report.
        let report = fs::read_to_string(built.path().join("t.xml")).unwrap();
        for (from, to) in [
            (" hits=\"", " times=\""),
            ("<classes>", "<classes><lines/>"),
            ("branch-rate=\"0\"", "branch-rate=\"7\""),
        ] {
            let wrong = report.replacen(from, to, 1);
            assert_ne!(wrong, report, "{from}");
            fs::write(built.path().join("wrong.xml"), wrong).unwrap();
            assert!(!valid("--relaxng", &rules, "wrong.xml").0, "{from}");
            // A DTD says nothing of values.
            if from != "branch-rate=\"0\"" {
                assert!(!valid("--dtdvalid", &dtd, "wrong.xml").0, "{from}");
            }
        }
    }
}

/// drcov, read by a parser that is not ours.
#[test]
fn drcov_has_the_places_that_ran() {
    let built = threads();
    built.rkcov("report t.rkcov --format drcov=t.drcov");
    let read = drcov::from_file(built.path().join("t.drcov")).unwrap();
    assert_eq!(read.header.version, 2);
    assert_eq!(read.header.flavor, "rkcov");
    read.validate().unwrap();
    let found: BTreeSet<String> = read
        .basic_blocks
        .iter()
        .map(|block| {
            let module = read.find_module(block.module_id).unwrap();
            assert!(block.size > 0 && u64::from(block.start) < module.size());
            format!("{}+{:#x}", module.path, block.start)
        })
        .collect();
    assert_eq!(found.len(), read.basic_blocks.len());
    let pcs = built.rkcov("report t.rkcov --format pcs");
    let pcs: BTreeSet<String> = pcs.lines().map(str::to_owned).collect();
    assert_eq!(found, pcs);
}

/// The summary of a workflow is a table whose rows have the same number of cells, and annotations are commands
/// that GitHub knows.
#[test]
fn github_is_told_in_its_own_words() {
    let known = regex::Regex::new(
        r"^::(notice|warning|error) (file=[^,:]+,line=[1-9][0-9]*,endLine=[1-9][0-9]*,)?title=[^,:]+::.+$",
    );
    let known = known.unwrap();
    let escape = regex::Regex::new(r"\\.").unwrap();
    for built in [small(), names()] {
        let summary = built.path().join("summary.md");
        let mut command = built.command("report t.rkcov --format github");
        command.env("GITHUB_STEP_SUMMARY", &summary);
        let annotations = super::succeed(&mut command);
        assert!(!annotations.is_empty());
        for line in annotations.lines() {
            assert!(known.is_match(line), "{line}");
        }
        let markdown = fs::read_to_string(summary).unwrap();
        let cells: BTreeSet<usize> = markdown
            .lines()
            .filter(|line| line.starts_with('|'))
            .map(|row| escape.replace_all(row, "").matches('|').count())
            .collect();
        assert_eq!(cells.len(), 1, "{markdown}");
    }
}

/// What is other in each run or on each machine.
const VARIES: &[(&str, &str)] = &[
    (r#"timestamp="[0-9]+""#, r#"timestamp="T""#),
    (r#"version="rkcov [0-9.]+""#, r#"version="rkcov V""#),
    (r#""(pid|tid|parent|process)": [0-9]+"#, r#""$1": "N""#),
    (r#""(build_id|id)": "[0-9a-f]+""#, r#""$1": "ID""#),
    (
        r#""(started|tool|built)": ("[^"]*"|[0-9.]+)"#,
        r#""$1": "T""#,
    ),
];

#[test]
fn each_format_as_it_looks() {
    let built = small();
    for format in ["lcov", "cobertura", "json", "github", "markdown", "badge"] {
        let mut report = built.report(&format!("--format {format}"));
        if format == "json" {
            // Which folders are above the program's is other on each machine.
            let mut json: Value = serde_json::from_str(&report).unwrap();
            let folders = json["folders"].as_object_mut().unwrap();
            folders.retain(|folder, _| folder.starts_with("/built"));
            report = format!("{json:#}");
        }
        for (pattern, instead) in VARIES {
            let pattern = regex::Regex::new(pattern).unwrap();
            report = pattern.replace_all(&report, *instead).into_owned();
        }
        insta::assert_snapshot!(format!("format-{format}"), report);
    }
}
