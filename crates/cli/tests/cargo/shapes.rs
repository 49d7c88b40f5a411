// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is shown of generics, closures, async bodies and macros, in every format: the project is in
//! `shapes/`. A function of two types and one that is always inlined land in the crate that uses them.

use crate::support::Project;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const FILES: [&str; 4] = [
    "Cargo.toml",
    "src/main.rs",
    "kit/Cargo.toml",
    "kit/src/lib.rs",
];

const KIT: &str = "kit/src/lib.rs";
const MAIN: &str = "src/main.rs";

/// The project, recorded.
fn shapes() -> Project {
    let shapes = Project::new(&[]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cargo/shapes");
    for name in FILES {
        shapes.write(name, &fs::read_to_string(folder.join(name)).unwrap());
    }
    shapes.succeed("run --no-report");
    shapes
}

/// A report without what differs from run to run and from compiler to compiler: where the project is,
/// numbers of closures, and how much of Rust's own libraries ran.
fn scrubbed(shapes: &Project, report: &str) -> String {
    let root = shapes.path("");
    let report = report.replace(root.to_str().unwrap().trim_end_matches('/'), "/shapes");
    let (report, _) = report.split_once("\nfolded: ").unwrap_or((&report, ""));
    let mut parts = report.split("{closure#");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str("{{closure}");
        text.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    // lcov's names are different ones: those that are not get their line.
    let line = |line: &str| match line.rsplit_once(':') {
        Some((name, _)) if name.ends_with("{{closure}}") => format!("{name}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn in_text_and_for_lcov() {
    let shapes = shapes();
    for (name, line) in [
        ("text", "report --functions --source"),
        ("uncovered", "report --uncovered"),
        ("uncovered", "report --show-missing-lines"),
        ("lcov", "report --lcov"),
    ] {
        insta::assert_snapshot!(name, scrubbed(&shapes, &shapes.succeed(line)));
    }
}

#[test]
fn the_same_for_programs_and_sums_of_each_crate() {
    let shapes = shapes();
    let report: Value = serde_json::from_str(&shapes.succeed("report --json")).unwrap();
    let schema = include_str!("../../../../docs/report.schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let wrong: Vec<String> = schema.iter_errors(&report).map(|e| e.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");

    let lcov = shapes.coverage("report");
    let mut sums: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for file in report["files"].as_array().unwrap() {
        let path = Path::new(file["path"].as_str().unwrap());
        let path = path
            .strip_prefix(shapes.path(""))
            .unwrap()
            .to_str()
            .unwrap();
        let lines: BTreeMap<u32, u64> = file["lines"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| {
                (
                    line["line"].as_u64().unwrap() as u32,
                    line["count"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(&lines, lcov.lines(path), "{path}");
        let functions = file["functions"].as_array().unwrap();
        let names: Vec<&str> = functions
            .iter()
            .filter_map(|f| f["name"].as_str())
            .collect();
        assert!(
            names.iter().all(|name| !name.contains("::ptr::drop")),
            "{names:?}"
        );
        let expected = if path == KIT { "kit" } else { "shapes" };
        assert_eq!(file["crate"], expected);
        let ran = lines.values().filter(|count| **count > 0).count() as u64;
        sums.insert(expected, [ran, lines.len() as u64]);
    }
    for (package, [ran, known]) in sums {
        assert!(ran > 0 && ran < known, "{package}");
        let lines = &report["crates"][package]["lines"];
        assert_eq!([&lines["ran"], &lines["known"]], [ran, known], "{package}");
        let folder = shapes.path(if package == "kit" { "kit" } else { "src" });
        let folder = &report["folders"][folder.to_str().unwrap()];
        assert_eq!(&folder["lines"], lines, "{package}");
    }
}

#[test]
fn sources_are_chosen_in_every_format() {
    let shapes = shapes();
    for (options, kit, main, std) in [
        ("", true, true, false),
        ("--filter kit", true, false, false),
        ("--exclude-from-report kit", false, true, false),
        ("--ignore-filename-regex main[.]rs$", true, false, false),
        ("--include-deps", true, true, true),
        ("--all-sources", true, true, true),
    ] {
        for format in ["--text --full", "--lcov", "--json"] {
            let report = shapes.succeed(&format!("report {format} {options}"));
            let text = format.starts_with("--text");
            let has = |path: &str| {
                let name = path.rsplit('/').next().unwrap();
                report.contains(if text { name } else { path })
            };
            assert_eq!(has(MAIN), main, "{format} {options}");
            // The libraries have such files, too.
            if !(text && std) {
                assert_eq!(has(KIT), kit, "{format} {options}: {report}");
            }
            assert_eq!(has("library/core/src/option.rs"), std, "{format} {options}");
        }
    }
}
