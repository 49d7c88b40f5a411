// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo rkcov test --per-test`: what each test ran in one parallel run, against each test alone.

use crate::support::Project;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use std::collections::{BTreeMap, BTreeSet};

/// A library with tests of every kind, one that runs another program, and tests that share a thread.
const SHOP: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        r#"
[package]
name = "shop"
version = "0.1.0"
edition = "2021"

[[bin]]
name = "helper"
path = "src/helper.rs"

[workspace]
"#,
    ),
    (
        "src/helper.rs",
        r#"
fn main() {
    println!("{}", shop::by_child(2));
}
"#,
    ),
    (
        "src/lib.rs",
        r#"
//! A shop.

/// Adds.
///
/// ```
/// assert_eq!(shop::documented(1), 2);
/// ```
pub fn documented(n: u32) -> u32 {
    n + 1
}

pub fn plain(n: u32) -> u32 {
    n + 2
}

pub fn by_thread(n: u32) -> u32 {
    n + 3
}

pub fn by_grandchild(n: u32) -> u32 {
    n + 3
}

pub fn by_scope(n: u32) -> u32 {
    n + 4
}

pub fn by_child(n: u32) -> u32 {
    n + 5
}

pub fn by_pool(n: u32) -> u32 {
    n + 6
}

pub fn checked(n: u32) -> u32 {
    assert!(n > 0, "none");
    n - 1
}

pub fn shared(n: u32) -> u32 {
    if n == 7 {
        return seven();
    }
    n
}

fn seven() -> u32 {
    [7].iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{channel, Sender};
    use std::sync::{Mutex, OnceLock};

    #[test]
    fn a_long_name_that_linux_cuts_one() {
        assert_eq!(plain(1), 3);
    }

    #[test]
    fn a_long_name_that_linux_cuts_two() {
        assert_eq!(shared(7), 7);
    }

    #[test]
    fn threads() {
        let inner = || std::thread::spawn(|| by_grandchild(1)).join().unwrap() + by_thread(2);
        assert_eq!(std::thread::spawn(inner).join().unwrap(), 9);
    }

    #[test]
    fn scoped() {
        let mut sum = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| sum = by_scope(1));
        });
        assert_eq!(sum, 5);
    }

    #[test]
    #[should_panic = "none"]
    fn panics() {
        checked(0);
    }

    #[test]
    fn does_not_panic() {
        assert_eq!(checked(1), 0);
    }

    #[test]
    #[ignore = "never"]
    fn ignored() {
        assert_eq!(shared(1), 2);
    }

    fn pool() -> &'static Mutex<Sender<(u32, Sender<u32>)>> {
        static POOL: OnceLock<Mutex<Sender<(u32, Sender<u32>)>>> = OnceLock::new();
        POOL.get_or_init(|| {
            let (to, from) = channel::<(u32, Sender<u32>)>();
            let worker = move || {
                for (n, back) in from {
                    back.send(by_pool(n)).unwrap();
                }
            };
            std::thread::Builder::new().name("worker".into()).spawn(worker).unwrap();
            Mutex::new(to)
        })
    }

    fn ask(n: u32) -> u32 {
        let (back, answer) = channel();
        pool().lock().unwrap().send((n, back)).unwrap();
        answer.recv().unwrap()
    }

    #[test]
    fn pooled_one() {
        assert_eq!(ask(1), 7);
    }

    #[test]
    fn pooled_two() {
        assert_eq!(ask(2), 8);
    }
}
"#,
    ),
    (
        "tests/whole.rs",
        r#"
#[test]
fn whole() {
    assert_eq!(shop::shared(1), 1);
}

#[test]
fn child() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_helper")).output().unwrap();
    assert_eq!(output.stdout, b"7\n");
}
"#,
    ),
];

/// The test in its documentation, as lcov has its name: `src/lib.rs - documented (line 6)`.
const EXAMPLE: &str = "src_lib_rs___documented__line_6_";

/// The lines that ran, by test, file and number.
pub(crate) type Ran = BTreeMap<String, BTreeSet<(String, u32)>>;

/// Reads a tracefile with a part for each test; the paths become those from the project's folder on.
pub(crate) fn read(project: &Project, path: &str) -> Ran {
    let text = std::fs::read_to_string(project.path(path)).unwrap();
    let root = project.path("");
    let (mut ran, mut test, mut file) = (Ran::new(), String::new(), String::new());
    for record in text.lines() {
        let (kind, value) = record.split_once(':').unwrap_or((record, ""));
        match kind {
            "TN" => {
                test = value.to_owned();
                ran.entry(test.clone()).or_default();
            }
            "SF" => {
                file = value
                    .strip_prefix(root.to_str().unwrap())
                    .unwrap_or(value)
                    .to_owned();
            }
            "DA" => {
                let (line, count) = value.split_once(',').unwrap();
                if count != "0" {
                    let lines = ran.get_mut(&test).unwrap();
                    lines.insert((file.clone(), line.parse().unwrap()));
                }
            }
            _ => {}
        }
    }
    ran
}

/// The line of `src/lib.rs` on which the body of this function stands.
pub(crate) fn body(project: &Project, function: &str) -> (String, u32) {
    let text = std::fs::read_to_string(project.path("src/lib.rs")).unwrap();
    let head = format!("fn {function}(");
    let at = text.lines().position(|line| line.contains(&head)).unwrap();
    ("src/lib.rs".to_owned(), at as u32 + 2)
}

pub(crate) const LCOV: &str = "--include-tests --by context --lcov --output-path";

#[test]
fn a_parallel_run_says_of_each_test_what_it_runs_alone() {
    let project = Project::new(SHOP);
    let stderr = |line: &str| {
        let output = project.run(line);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{line}: {stderr}");
        stderr
    };
    let said = stderr(&format!("test --per-test {LCOV} all.info"));
    assert!(
        said.contains("of 11 tests, each with what ran for it"),
        "{said}"
    );
    let together = read(&project, "all.info");
    let names: Vec<&str> = together.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "child",
            EXAMPLE,
            "tests__a_long_name_that_linux_cuts_one",
            "tests__a_long_name_that_linux_cuts_two",
            "tests__does_not_panic",
            "tests__panics",
            "tests__pooled_one",
            "tests__pooled_two",
            "tests__scoped",
            "tests__threads",
            "whole",
        ]
    );
    for (name, lines) in &together {
        let test = name.replace("__", "::");
        let (part, exact) = match &**name {
            EXAMPLE => ("--doc", String::new()),
            _ if name.starts_with("tests__") => ("--lib", format!("-- --exact {test}")),
            _ => ("--test whole", format!("-- --exact {test}")),
        };
        stderr(&format!("test --per-test {part} {LCOV} one.info {exact}"));
        let alone = read(&project, "one.info");
        assert_eq!(alone.keys().collect::<Vec<_>>(), [name]);
        let alone = &alone[name];
        let never: Vec<_> = lines.difference(alone).collect();
        assert!(
            never.is_empty(),
            "{test} has lines that it did not run: {never:?}"
        );
        let missing: BTreeSet<_> = alone.difference(lines).cloned().collect();
        match &**name {
            // A thread that works for both is nobody's, and who comes second does not make it.
            "tests__pooled_one" | "tests__pooled_two" => {
                assert!(missing.contains(&body(&project, "by_pool")), "{missing:?}");
            }
            _ => assert_eq!(missing, BTreeSet::new(), "{test} lacks lines"),
        }
    }
    for (function, test) in [
        ("plain", "tests__a_long_name_that_linux_cuts_one"),
        ("seven", "tests__a_long_name_that_linux_cuts_two"),
        ("by_thread", "tests__threads"),
        ("by_grandchild", "tests__threads"),
        ("by_scope", "tests__scoped"),
        ("by_child", "child"),
        ("documented", EXAMPLE),
    ] {
        let place = body(&project, function);
        let who: Vec<_> = together
            .iter()
            .filter(|(_, lines)| lines.contains(&place))
            .map(|(name, _)| &**name)
            .collect();
        assert_eq!(who, [test], "{function}");
    }
}

#[test]
fn questions_are_answered() {
    let project = Project::new(SHOP);
    project.write(".gitignore", "/target\n*.info\n");
    project.succeed("test --no-report");
    let refused = project.run("tests src/lib.rs:13");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("have no contexts"),
        "{said}"
    );
    project.succeed("test --per-test --summary-only");
    project.git(&["init", "-q"]);
    project.git(&["add", "."]);
    project.git(&["commit", "-qm", "a"]);

    let cut = "tests::a_long_name_that_linux_cuts_";
    let (file, line) = body(&project, "plain");
    assert_eq!(
        project.succeed(&format!("tests {file}:{line}")),
        format!("{cut}one\n")
    );
    let json = project.succeed("tests shared --format json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json["contexts"],
        serde_json::json!([format!("{cut}two"), "whole"])
    );
    let pool = project.succeed("tests by_pool");
    assert!(
        pool.starts_with("in no context: thread") && pool.contains("(worker)"),
        "{pool}"
    );
    let missed = project.run("tests src/lib.rs:1");
    let said = String::from_utf8(missed.stderr).unwrap();
    assert!(
        said.contains("src/lib.rs:1: there is no code on this line"),
        "{said}"
    );

    let table = project.succeed("report --by context");
    let row = |name: &str| {
        let line = table.lines().find(|line| line.ends_with(name)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [lines, unique, _, kind, _] = words[..] else {
            panic!("{line}")
        };
        assert_eq!(kind, "test");
        (lines.to_owned(), unique.to_owned())
    };
    assert_eq!(row("cuts_one"), ("3".into(), "3".into()), "{table}");
    assert!(table.contains("in no context: "), "{table}");
    assert_others_agree(&project);
    let of = |options: &str| project.coverage(&format!("report {options}"));
    let one = of("--context tests::scoped");
    assert!(one
        .ran("src/lib.rs")
        .contains(&body(&project, "by_scope").1));
    assert!(!one.ran("src/lib.rs").contains(&line));
    let shared = body(&project, "shared").1;
    assert!(of("--context *cuts_two")
        .ran("src/lib.rs")
        .contains(&shared));
    assert!(!of("--only *cuts_two").ran("src/lib.rs").contains(&shared));
    let seven = body(&project, "seven").1;
    assert!(of("--only *cuts_two").ran("src/lib.rs").contains(&seven));

    let few = project.succeed("minimize --format json");
    let few: serde_json::Value = serde_json::from_str(&few).unwrap();
    let chosen = few["contexts"].as_array().unwrap();
    let names: BTreeSet<&str> = chosen
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(
        ["tests::threads", "child"]
            .iter()
            .all(|name| names.contains(name))
            && !names.contains("tests::panics"),
        "{few}"
    );
    let same = project.succeed("similar");
    assert!(
        same.contains("no two") || same.contains("run the same"),
        "{same}"
    );

    assert_eq!(project.succeed("affected"), "--no-run\n");
    // A run in which nobody asked for tests may have been of any.
    project.succeed("test --no-report");
    let text = std::fs::read_to_string(project.path("src/lib.rs")).unwrap();
    project.write("src/lib.rs", &text.replace("[7].iter()", "[3, 4].iter()"));
    let unknown = project.succeed("affected --format json");
    let unknown: serde_json::Value = serde_json::from_str(&unknown).unwrap();
    let why = unknown["why"][0].as_str().unwrap();
    assert!(
        why.contains(
            "2.rkcov does not say which test ran what: it was recorded without --per-test"
        ),
        "{why}"
    );
    assert_eq!(unknown["arguments"], "");
    std::fs::remove_file(project.path("target/rkcov/trace/2.rkcov")).unwrap();
    assert_eq!(
        project.succeed("affected"),
        format!("-- --exact {cut}two\n")
    );
    assert_eq!(
        project.succeed("affected --for nextest"),
        format!("-E test(={cut}two)\n")
    );
    project.write("data.txt", "1");
    let all = project.succeed("affected --format json");
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert_eq!((&all["all"], &all["arguments"]), (&true.into(), &"".into()));
    let why = all["why"][0].as_str().unwrap();
    assert!(
        why.ends_with("data.txt is no source: any test may read it"),
        "{why}"
    );
}

#[test]
fn every_command_of_the_page() {
    let project = Project::new(SHOP);
    project.write(".gitignore", "/target\nCargo.lock\n");
    project.git(&["init", "-q"]);
    project.git(&["add", "."]);
    project.git(&["commit", "-qm", "a"]);
    let page = include_str!("../../../../docs/per-test.md");
    let lines = page.lines().filter_map(|line| line.strip_prefix("$ "));
    let lines: Vec<&str> = lines
        .map(|line| line.split("  #").next().unwrap_or(line).trim_end())
        .collect();
    assert!(
        lines.len() > 10 && lines.iter().all(|line| line.starts_with("cargo ")),
        "{lines:?}"
    );
    let text = std::fs::read_to_string(project.path("src/lib.rs")).unwrap();
    let changed = text.replace("[7].iter()", "[3, 4].iter()");
    let nextest = project.shell("cargo nextest --version").output().unwrap();
    for line in lines {
        let runs = line.contains("$(cargo rkcov affected");
        if line.contains("nextest") && !nextest.status.success() {
            continue;
        }
        project.write("src/lib.rs", if runs { &changed } else { &text });
        let output = project
            .shell(&line.replace("REV", "HEAD"))
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{line}: {said}");
        if runs {
            // The one test that runs the change, and it runs.
            assert!(said.contains("1 passed"), "{line}: {said}");
            assert!(said.contains("cuts_two"), "{line}: {said}");
        }
    }
}

/// The formats that others read say the same of each test.
fn assert_others_agree(project: &Project) {
    let table = project.succeed("report --by context --json");
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let expected: BTreeMap<String, u64> = table["contexts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["name"].as_str().unwrap().to_owned(),
                row["lines"].as_u64().unwrap(),
            )
        })
        .collect();

    project.succeed("report --by context --parquet --output-path shop.parquet");
    let file = std::fs::File::open(project.path("shop.parquet")).unwrap();
    // It is no source, so any test may read it.
    std::fs::remove_file(project.path("shop.parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let mut lines: BTreeMap<String, u64> = expected.keys().map(|name| (name.clone(), 0)).collect();
    let mut of_tests = 0;
    for row in reader.get_row_iter(None).unwrap() {
        let row = row.unwrap();
        let fields: BTreeMap<&str, &Field> = row
            .get_column_iter()
            .map(|(name, field)| (&**name, field))
            .collect();
        let text = |name: &str| match fields[name] {
            Field::Str(text) => text.as_str(),
            other => panic!("{name}: {other}"),
        };
        let (Field::Int(first), Field::Int(last)) = (fields["first_line"], fields["last_line"])
        else {
            panic!("{row}");
        };
        if text("scope") != "context" || text("state") != "covered" {
            continue;
        }
        assert_eq!(text("kind"), "test");
        let count = u64::try_from(last - first + 1).unwrap();
        // Tables in text and JSON do not count them.
        match fields["in_test"] {
            Field::Bool(true) => of_tests += count,
            _ => *lines.get_mut(text("context")).unwrap() += count,
        }
    }
    assert_eq!(lines, expected);
    assert!(of_tests > 0);

    let teamscale = project.succeed("report --by context --teamscale");
    let teamscale: serde_json::Value = serde_json::from_str(&teamscale).unwrap();
    let tests = teamscale["tests"].as_array().unwrap();
    let names: Vec<&str> = tests
        .iter()
        .map(|test| test["uniformPath"].as_str().unwrap())
        .collect();
    assert_eq!(names, expected.keys().collect::<Vec<_>>());
    let scoped = tests
        .iter()
        .find(|test| test["uniformPath"] == "tests::scoped")
        .unwrap();
    assert_eq!(scoped["paths"][0]["path"], "src");
}
