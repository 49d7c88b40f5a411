// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov diff` says what only one of two runs covered; `--since` what ran of the lines that changed.

use std::fs;
use std::process::Command;

use serde_json::{json, Value};

use super::lines::Built;

const CHOICE: &str = "\
static int odd(int n) {
    return n + 1;
}
static int even(int n) {
    return n + 2;
}
static int both(int n) {
    return n % 2 ? odd(n) : even(n);
}
int main(int argc, char **argv) {
    (void)argv;
    return both(argc) == 0;
}
";

/// The program, and the traces `a.rkcov` and `b.rkcov` of runs with one argument and with two.
fn two_runs() -> Built {
    let built = Built::new(&[("p.c", CHOICE)], "cc gcc -g -O0 p.c -o p", "");
    built.rkcov("run -o a.rkcov -- ./p");
    built.rkcov("run -o b.rkcov -- ./p x");
    built
}

#[test]
fn what_only_one_of_two_runs_covered() {
    let built = two_runs();
    let text = built.rkcov("diff a.rkcov b.rkcov");
    let text = text.replace(&*built.path().to_string_lossy(), "/built");
    assert_eq!(
        text,
        "/built/p.c\n  - 1-3\n  - odd()\n  + 4-6\n  + even()\n\n\
         only the first ran 3 lines and 1 function (-), only the second 3 lines and 1 function (+)\n"
    );
    let json = built.rkcov("diff a.rkcov b.rkcov --format json");
    let json: Value = serde_json::from_str(&json).unwrap();
    let schema = include_str!("../../../../docs/diff.schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let errors: Vec<_> = schema.iter_errors(&json).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let side = |name: &str, lines: [u32; 3]| json!({ "lines": lines, "functions": [name] });
    let file = &json["files"][0];
    assert_eq!(file["only_a"], side("odd", [1, 2, 3]));
    assert_eq!(file["only_b"], side("even", [4, 5, 6]));
    // The other way round.
    let other = built.rkcov("diff b.rkcov a.rkcov --format json");
    let other: Value = serde_json::from_str(&other).unwrap();
    assert_eq!(other["files"][0]["only_a"], file["only_b"]);
}

#[test]
fn what_only_one_of_two_contexts_covered() {
    let built = Built::new(&[("p.c", CHOICE)], "cc gcc -g -O0 p.c -o p", "");
    built.rkcov("run --context one -o a.rkcov -- ./p");
    built.rkcov("run --context two -o b.rkcov -- ./p x");
    built.rkcov("merge a.rkcov b.rkcov -o both.rkcov");
    let expected = built.rkcov("diff a.rkcov b.rkcov");
    assert!(expected.contains("+ even()"), "{expected}");
    let diff = |words: &str| built.rkcov(&format!("diff both.rkcov {words}"));
    assert_eq!(diff("both.rkcov --context one --against two"), expected);
    assert_eq!(diff("b.rkcov --context one --against two"), expected);
    // The same contexts in both traces.
    assert!(!diff("a.rkcov --context one").contains("even()"));
    let none = "diff a.rkcov b.rkcov --context one";
    let output = built.command(none).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{none}");
}

#[test]
fn a_difference_is_a_status_if_one_is_wanted() {
    let built = two_runs();
    let status = |words: &str| {
        let output = built.command(&format!("diff {words}")).output().unwrap();
        output.status.code()
    };
    assert_eq!(status("a.rkcov b.rkcov"), Some(0));
    assert_eq!(status("a.rkcov b.rkcov --exit-code"), Some(1));
    assert_eq!(status("a.rkcov a.rkcov --exit-code"), Some(0));
    assert_eq!(status("a.rkcov b.rkcov --exit-code --exclude p.c"), Some(0));
    assert_eq!(status("a.rkcov gone.rkcov"), Some(1));
    let same = built.rkcov("diff a.rkcov a.rkcov");
    assert_eq!(same, "Both ran the same lines and functions.\n");
}

/// A repository with the program, which was changed since its only commit, and a trace of it.
fn changed() -> Built {
    let built = Built::new(&[("p.c", CHOICE)], "cc gcc -g -O0 p.c -o p", "");
    let git = |words: &str| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=n", "-c", "user.email=e@example.org"]);
        git.args(words.split(' ')).current_dir(built.path());
        super::succeed(&mut git);
    };
    git("init -q");
    git("add p.c");
    git("commit -q -m one");
    let text = CHOICE
        .replace("    return n + 1;\n", "    n += 7;\n    return n + 1;\n")
        .replace("    return n + 2;\n", "    n -= 7;\n    return n + 2;\n");
    fs::write(built.path().join("p.c"), text).unwrap();
    built.rkcov("cc gcc -g -O0 p.c -o p");
    built.rkcov("run -o t.rkcov -- ./p");
    built
}

#[test]
fn lines_that_changed() {
    let built = changed();
    let json: Value =
        serde_json::from_str(&built.report("--since HEAD --format json --functions")).unwrap();
    let file = &json["files"][0];
    assert_eq!(
        file["lines"],
        json!([{ "line": 2, "count": 1 }, { "line": 6, "count": 0 }])
    );
    let names: Vec<_> = file["functions"].as_array().unwrap().iter().collect();
    let names: Vec<_> = names.iter().map(|function| &function["name"]).collect();
    assert_eq!(names, ["odd", "even"]);
    let lcov = built.report("--since HEAD --format lcov");
    let lines: Vec<&str> = lcov
        .lines()
        .filter(|line| line.starts_with("DA:"))
        .collect();
    assert_eq!(lines, ["DA:2,1", "DA:6,0"]);
}

#[test]
fn coverage_of_a_patch_is_judged() {
    let built = changed();
    let judged = |options: &str| {
        let output = built.command(&format!("report t.rkcov {options}")).output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    assert_eq!(judged("--since HEAD --fail-under-patch 50").0, Some(0));
    let (status, said) = judged("--since HEAD --fail-under-patch 50.01");
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("1 of 2 lines ran, 50 %: --fail-under-patch requires 50.01 %"),
        "{said}"
    );
    let (status, said) = judged("--since nothing");
    assert_eq!(status, Some(1));
    assert!(said.contains("git cannot show what changed"), "{said}");
    assert_eq!(judged("--fail-under-patch 50").0, Some(2));
    // Changed again, and not built.
    let source = built.path().join("p.c");
    fs::write(&source, fs::read(&source).unwrap()).unwrap();
    let (status, said) = judged("--since HEAD --fail-under-patch 1");
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("sources changed after the program was built"),
        "{said}"
    );
    let accepted = judged("--since HEAD --fail-under-patch 1 --allow-missing");
    assert_eq!(accepted.0, Some(0), "{}", accepted.1);
}
