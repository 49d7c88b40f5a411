// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is to fail fails, and says why; what a program reads has nothing else in it.

use crate::support::Project;
use std::fs;
use std::process::Output;

const MANIFEST: &str =
    "[workspace]\n[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";

/// A program that prints, and has a test that does.
const PRINTS: &str = "fn main() {\n    println!(\"to be read\");\n}\n\n\
     #[test]\nfn prints() {\n    main();\n}\n";

fn small() -> Project {
    Project::new(&[("Cargo.toml", MANIFEST), ("src/main.rs", PRINTS)])
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_report_for_programs_stands_alone_on_standard_output() {
    let project = small();
    for line in ["run --json", "test --json -- --nocapture"] {
        let output = project.run(line);
        assert!(output.status.success(), "{}", said(&output));
        let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&output.stdout);
        assert!(parsed.is_ok(), "{line}: {}", printed(&output));
        assert!(said(&output).contains("to be read"), "{}", said(&output));
    }
    let lcov = project.succeed("run --lcov");
    assert!(lcov.starts_with("TN:") || lcov.starts_with("SF:"), "{lcov}");
    let pcs = project.succeed("run --pcs");
    let is_place = |line: &str| line.starts_with("/") && line.contains("/small+0x");
    assert!(pcs.lines().all(is_place), "{pcs}");
    // Elsewhere, or for people: the program's output is where it always is.
    let printed = project.succeed("run --json --output-path out.json");
    assert_eq!(printed, "to be read\n");
    assert_eq!(project.succeed("run --json --no-report"), "to be read\n");
    assert!(project.succeed("run").starts_with("to be read\n"));
}

#[test]
fn what_no_command_knows_is_refused() {
    let project = small();
    project.succeed("run --no-report");
    let mut all = String::new();
    for line in [
        "report --fail-under-line 99.9",
        "report --lcv",
        "report -o x",
        "report word",
        "report --release",
        "report -- x",
        "clean --target-dirs x",
        "clean all",
    ] {
        let output = project.run(line);
        assert!(!output.status.success(), "{line}: {}", printed(&output));
        let said = said(&output);
        let shown: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("error") || line.contains("tip:"))
            .collect();
        all += &format!("$ cargo rkcov {line}\n{}\n", shown.join("\n"));
    }
    insta::assert_snapshot!("refused", all);
    assert!(project.path("target/rkcov/trace/1.rkcov").exists());
    // What tells where the project is, is known.
    project.succeed("report --workspace -p small --offline --locked --manifest-path Cargo.toml");
    // Cargo's to say, before it builds.
    for line in [
        "test --fail-under-line 99.9",
        "build --summary-only",
        "run --per-test",
    ] {
        assert!(!project.run(line).status.success(), "{line}");
    }
}

#[test]
fn a_bad_pattern_is_said_before_anything_runs() {
    let project = small();
    let output = project.run("test --ignore-filename-regex a( --lcov");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("invalid value 'a(' for '--ignore-filename-regex <REGEX>'"),
        "{}",
        said(&output)
    );
    assert!(!project.path("target").exists());
}

#[test]
fn what_is_only_built_is_no_failure() {
    let project = small();
    for line in ["test --no-run", "bench --no-run"] {
        let output = project.run(line);
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            said(&output).contains("rkcov: instrumented, in "),
            "{}",
            said(&output)
        );
        assert!(!said(&output).contains("nothing"), "{}", said(&output));
        assert!(!project.path("target/rkcov/trace").exists());
    }
    let output = project.run("test --no-run --fail-under-lines 50");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("does not work with --no-run"),
        "{}",
        said(&output)
    );
}

#[test]
fn cleaning_takes_what_is_named() {
    let project = small();
    project.succeed("run --no-report");
    project.succeed("run --no-report --target-dir elsewhere");
    fs::write(project.path("elsewhere/theirs"), "").unwrap();
    project.succeed("clean --target-dir elsewhere");
    assert!(project.path("target/rkcov/trace/1.rkcov").exists());
    for ours in ["trace", "tools"] {
        assert!(!project.path("elsewhere").join(ours).exists(), "{ours}");
    }
    assert!(project.path("elsewhere/theirs").exists());
    project.succeed("clean");
    assert!(!project.path("target/rkcov").exists());
}

#[test]
fn functions_that_are_not_to_be_counted_are_not() {
    const SOURCE: &str = "fn main() {\n    println!(\"{}\", seven());\n}\n\n\
         fn seven() -> u32 {\n    7\n}\n\n\
         #[cfg_attr(coverage_nightly, coverage(off))]\nfn never(n: u32) -> u32 {\n    n + 1\n}\n\n\
         pub fn uses() -> u32 {\n    never(2)\n}\n\n\
         #[cfg(test)]\n#[cfg_attr(coverage_nightly, coverage(off))]\nmod tests {\n    \
         #[test]\n    fn it() {\n        assert_eq!(super::seven(), 7);\n    }\n}\n";
    let lints = "[lints.rust]\nunexpected_cfgs = { level = \"allow\" }\n";
    let project = Project::new(&[
        ("Cargo.toml", &format!("{MANIFEST}{lints}")),
        ("src/main.rs", SOURCE),
    ]);
    for line in ["run", "test"] {
        let coverage = project.coverage(line);
        let lines: Vec<u32> = coverage.lines("src/main.rs").keys().copied().collect();
        assert!(
            lines.contains(&5) && lines.contains(&15),
            "{line}: {lines:?}"
        );
        let excluded = |number: &u32| (9..=12).contains(number) || *number > 17;
        assert!(!lines.iter().any(excluded), "{line}: {lines:?}");
        assert_eq!(coverage.function("src/main.rs", "never"), None, "{line}");
    }
    let coverage = project.coverage("report --no-exclusions");
    assert_eq!(coverage.function("src/main.rs", "never"), Some(false));
    assert!(coverage.lines("src/main.rs").contains_key(&11));
}

/// Where the file that declares a module has no code itself.
#[test]
fn modules_in_files_of_their_own_that_are_not_to_be_counted_are_not() {
    let lints = "[lints.rust]\nunexpected_cfgs = { level = \"allow\" }\n";
    let project = Project::new(&[
        ("Cargo.toml", &format!("{MANIFEST}{lints}")),
        (
            "src/lib.rs",
            "pub mod counted;\n#[cfg_attr(coverage_nightly, coverage(off))]\npub mod helps;\n",
        ),
        (
            "src/helps/mod.rs",
            "pub mod deep;\npub fn one() -> u32 {\n    deep::two() - 1\n}\n",
        ),
        ("src/helps/deep.rs", "pub fn two() -> u32 {\n    2\n}\n"),
        ("src/counted.rs", "pub fn three() -> u32 {\n    3\n}\n"),
        (
            "tests/all.rs",
            "#[test]\nfn all() {\n    assert_eq!(small::helps::one() + 2, small::counted::three());\n}\n",
        ),
    ]);
    assert_eq!(project.coverage("test").files(), ["src/counted.rs"]);
    let all = project.coverage("report --no-exclusions");
    assert_eq!(
        all.files(),
        ["src/counted.rs", "src/helps/deep.rs", "src/helps/mod.rs"]
    );
}

#[test]
fn a_gate_is_for_traces_that_lost_nothing() {
    let project = small();
    let line = "run --mode trace --summary-only --fail-under-lines 1";
    let output = project.run(line);
    assert!(output.status.success(), "{}", said(&output));
    let output = project.run(&format!("{line} --buffer-words 4"));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("--fail-under-lines 1 %: not all that ran was recorded"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_report_without_the_program_that_ran_is_a_failure() {
    let project = small();
    project.succeed("run --no-report");
    project.succeed("report");
    // Edited, and not built again.
    project.write("src/main.rs", &format!("// A new first line.\n{PRINTS}"));
    let output = project.run("report");
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("src/main.rs changed after the program was built"),
        "{}",
        said(&output)
    );
    // Built again, and not run.
    project.succeed("build");
    let output = project.run("report --lcov");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("debug/small is not the file that ran"),
        "{}",
        said(&output)
    );
    assert!(
        said(&output).contains("the report is incomplete: 1 file that ran was rebuilt since"),
        "{}",
        said(&output)
    );
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    fs::remove_dir_all(project.path("target/rkcov").join(host)).unwrap();
    let output = project.run("report --summary-only --fail-under-lines 0");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("cannot be read"),
        "{}",
        said(&output)
    );
}

/// What the command leaves out by itself is no choice of the user's.
#[test]
fn the_file_of_the_project_counts_for_cargo_too() {
    let project = small();
    let uncalled = "\nfn nobody_calls(n: u32) -> u32 {\n    n + 1\n}\n";
    project.write("src/main.rs", &format!("{PRINTS}{uncalled}"));
    project.succeed("run --no-report");
    project.succeed("report");
    project.write("rkcov.toml", "[report]\nfail-under-lines = 100\n");
    let output = project.run("report");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("--fail-under-lines requires 100 %"),
        "{}",
        said(&output)
    );
    // A part that the user chose is not what it is about.
    project.succeed("report --ignore-filename-regex nothing_is_called_so");
    project.write("rkcov.toml", "[report]\nexclude = [\"src/main.rs\"]\n");
    let report = project.succeed("report");
    assert!(!report.contains("main.rs"), "{report}");
}
