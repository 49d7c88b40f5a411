// SPDX-License-Identifier: MIT OR Apache-2.0
//! The formats of a report: JSON is as its schema says and has lcov's counts; what people read.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use xtask::compare;

use super::succeed;

/// A program whose parts are easy to tell apart, with a folder and a header.
pub(crate) const SMALL: &[(&str, &str)] = &[
    (
        "main.c",
        "#include \"lib/odd.h\"\n\nstatic int never(int n)\n{\n\treturn n + 1;\n}\n\n\
         int main(int argc, char **argv)\n{\n\t(void)argv;\n\tif (argc > 5)\n\
         \t\treturn never(argc);\n\treturn odd(argc) ? 0 : 1;\n}\n",
    ),
    (
        "lib/odd.h",
        "static inline int odd(int n)\n{\n\tif (n % 2)\n\t\treturn 1;\n\treturn 0;\n}\n",
    ),
];

const RKCOV: &str = env!("CARGO_BIN_EXE_rkcov");

/// The program, built with gcc, and its trace.
struct Small {
    root: PathBuf,
    _folder: TempDir,
}

impl Small {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for (name, text) in SMALL {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let at = |arguments: &[&str]| {
            succeed(Command::new(RKCOV).args(arguments).current_dir(&root));
        };
        at(&["cc", "gcc", "-g", "-O0", "main.c", "-o", "small"]);
        at(&["run", "-o", "trace.rkcov", "--", "./small"]);
        let _folder = folder;
        Self { root, _folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(RKCOV);
        command.args(["report", "trace.rkcov"]).args(arguments);
        command.current_dir(&self.root);
        command
    }

    /// Its report with `arguments`.
    fn report(&self, arguments: &[&str]) -> String {
        let report = succeed(&mut self.command(arguments));
        report.replace(self.root.to_str().unwrap(), "/small")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let report = self.report(&[&["--format", "json"], arguments].concat());
        serde_json::from_str(&report).unwrap()
    }
}

fn schema() -> jsonschema::Validator {
    let schema = include_str!("../../../../docs/report.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

fn assert_as_the_schema_says(report: &Value) {
    let wrong: Vec<String> = schema()
        .iter_errors(report)
        .map(|e| e.to_string())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{report:#}");
}

#[test]
fn json_is_as_its_schema_says() {
    let small = Small::new();
    let report = small.json(&[]);
    assert_as_the_schema_says(&report);
    // It refuses what is not such a report.
    let mut other = report.clone();
    other["totals"]["lines"]["ran"] = "many".into();
    assert!(!schema().is_valid(&other));

    // The same counts as lcov's, and sums that are sums.
    let lcov = compare::parse(&small.report(&["--format", "lcov"])).unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let mut ran = 0;
    for file in report["files"].as_array().unwrap() {
        let lines = file["lines"].as_array().unwrap().iter();
        let lines: BTreeMap<u32, u64> = lines
            .map(|line| (number(&line["line"]) as u32, number(&line["count"])))
            .collect();
        assert_eq!(lcov[file["path"].as_str().unwrap()], lines);
        ran += lines.values().filter(|count| **count > 0).count() as u64;
    }
    assert_eq!(number(&report["totals"]["lines"]["ran"]), ran);
    assert_eq!(report["folders"]["/small"], report["totals"]);
    assert_ne!(report["folders"]["/small/lib"], report["totals"]);
}

#[test]
fn sums_alone_are_the_sums_of_the_whole_report() {
    let small = Small::new();
    let mut report = small.json(&[]);
    let sums = small.json(&["--summary-only"]);
    assert_as_the_schema_says(&sums);
    for file in report["files"].as_array_mut().unwrap() {
        let file = file.as_object_mut().unwrap();
        for each in ["lines", "unknown", "functions", "unknown_functions"] {
            assert!(file.remove(each).is_some(), "{file:?}");
        }
    }
    assert_eq!(sums, report);

    let of_files = ["TN", "SF", "FNF", "FNH", "LF", "LH", "end_of_record"];
    let lcov = small.report(&["--format", "lcov"]);
    let is_sum = |line: &&str| of_files.contains(&line.split(':').next().unwrap_or_default());
    let expected: Vec<&str> = lcov.lines().filter(is_sum).collect();
    let sums = small.report(&["--format", "lcov", "--summary-only"]);
    assert_eq!(sums.lines().collect::<Vec<_>>(), expected);
    assert!(expected.len() < lcov.lines().count());
}

#[test]
fn too_few_lines_are_a_failure_and_say_so() {
    let small = Small::new();
    let totals = small.json(&[])["totals"]["lines"].clone();
    let percent = totals["percent"].as_f64().unwrap();
    let judged = |least: &str, arguments: &[&str]| -> (Option<i32>, String, String) {
        let arguments = [&["--fail-under-lines", least], arguments].concat();
        let Output {
            status,
            stdout,
            stderr,
        } = small.command(&arguments).output().unwrap();
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        (status.code(), stdout, stderr)
    };
    let report = succeed(&mut small.command(&[]));
    for least in ["0", &format!("{percent:.2}")] {
        assert_eq!(judged(least, &[]), (Some(0), report.clone(), String::new()));
    }
    let more = format!("{:.2}", percent + 0.01);
    let message = format!(
        "rkcov: {} of {} lines ran, {percent:.2} %: --fail-under-lines requires {more} %\n",
        totals["ran"], totals["all"]
    );
    // Who asks has the report all the same.
    assert_eq!(judged(&more, &[]), (Some(1), report, message.clone()));
    let path = small.root.join("out.json");
    let to_file = ["--format", "json", "-o", path.to_str().unwrap()];
    assert_eq!(judged(&more, &to_file), (Some(1), String::new(), message));
    assert!(path.exists());

    for (arguments, status, why) in [
        (&["--format", "pcs"][..], 1, "the format pcs has no lines"),
        (&["--filter", "none.c"], 1, "there are no lines"),
        (&["--exclusive"], 2, "cannot be used with '--exclusive'"),
    ] {
        let (code, _, said) = judged("1", arguments);
        assert_eq!(code, Some(status), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn what_people_read() {
    let small = Small::new();
    insta::assert_snapshot!(small.report(&["--functions"]));
    insta::assert_snapshot!(small.report(&["--uncovered", "--source"]));
    insta::assert_snapshot!(small.report(&["--summary-only"]));
}
