// SPDX-License-Identifier: MIT OR Apache-2.0
//! The formats of a report: JSON is as its schema says and has lcov's counts; what people read.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;
use xtask::compare;

use super::succeed;

/// A program whose parts are easy to tell apart, with a folder and a header.
const SMALL: &[(&str, &str)] = &[
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

/// The program built with gcc, run, and its report with `arguments`.
fn small(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for (name, text) in SMALL {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let rkcov = env!("CARGO_BIN_EXE_rkcov");
    let at = |arguments: &[&str]| succeed(Command::new(rkcov).args(arguments).current_dir(&root));
    at(&["cc", "gcc", "-g", "-O0", "main.c", "-o", "small"]);
    at(&["run", "-o", "trace.rkcov", "--", "./small"]);
    let report = at(&[&["report", "trace.rkcov"], arguments].concat());
    report.replace(root.to_str().unwrap(), "/small")
}

#[test]
fn json_is_as_its_schema_says() {
    let schema = include_str!("../../../../docs/report.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let report: Value = serde_json::from_str(&small(&["--format", "json"])).unwrap();
    let wrong: Vec<String> = schema.iter_errors(&report).map(|e| e.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{report:#}");
    // It refuses what is not such a report.
    let mut other = report.clone();
    other["totals"]["lines"]["ran"] = "many".into();
    assert!(!schema.is_valid(&other));

    // The same counts as lcov's, and sums that are sums.
    let lcov = compare::parse(&small(&["--format", "lcov"])).unwrap();
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
fn what_people_read() {
    insta::assert_snapshot!(small(&["--functions"]));
    insta::assert_snapshot!(small(&["--uncovered", "--source"]));
}
