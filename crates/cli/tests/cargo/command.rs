// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command itself: exit status, traces kept, what it says.

use crate::support::Project;
use std::fs;

const MANIFEST: &str =
    "[workspace]\n[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";

fn small(main: &str) -> Project {
    Project::new(&[("Cargo.toml", MANIFEST), ("src/main.rs", main)])
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_status_of_the_program_is_kept() {
    let project = small(
        "fn main() {\n    if std::env::args().count() == 1 {\n        std::process::exit(7) // ran\n    }\n}\n",
    );
    let output = project.run("run --lcov --output-path out.info");
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    let coverage = project.read_lcov(&project.path("out.info"));
    project.assert_marks(&coverage, "src/main.rs");
}

const FAILS: &str = r#"
fn main() {}

#[test]
fn a_fails() {
    assert_eq!(1, 2); // ran
}

#[test]
fn b_passes() {
    println!("well"); // ran
}
"#;

#[test]
fn tests_that_fail_are_reported_too() {
    let project = small(FAILS);
    let output = project.run("test --functions");
    assert_eq!(output.status.code(), Some(101), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("a_fails") && text.contains("main.rs"),
        "{text}"
    );
    let coverage = project.coverage("test --ignore-run-fail");
    project.assert_marks(&coverage, "src/main.rs");
    // The report's own options are for the report.
    let text = project.succeed("report --filter none.rs --functions");
    assert!(!text.contains("main.rs"), "{text}");
    let text = project.succeed("report --filter=main.rs --functions --full");
    assert!(text.contains("+ small::a_fails"), "{text}");
    let text = project.succeed("report");
    assert!(!text.contains("a_fails"), "{text}");
}

#[test]
fn a_build_that_fails_is_cargos_to_explain() {
    let project = small("fn main() { nonsense }\n");
    let output = project.run("test");
    assert_eq!(output.status.code(), Some(101));
    assert!(
        said(&output).contains("cannot find value `nonsense`"),
        "{}",
        said(&output)
    );
    assert!(!said(&output).contains("rkcov:"), "{}", said(&output));
    let output = project.run("report");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("nothing is recorded yet"),
        "{}",
        said(&output)
    );
}

#[test]
fn runs_add_up_if_they_are_not_cleaned() {
    let project = small(
        "fn main() {\n    match std::env::args().count() {\n        1 => println!(\"one\"), // ran\n        \
         2 => println!(\"two\"), // ran\n        _ => println!(\"more\"), // idle\n    }\n}\n",
    );
    project.succeed("run --no-report");
    project.succeed("run --no-report -- x");
    let coverage = project.coverage("report");
    project.assert_marks(&coverage, "src/main.rs");
    let traces = || {
        fs::read_dir(project.path("target/rkcov/trace"))
            .unwrap()
            .count()
    };
    assert_eq!(traces(), 2);
    let coverage = project.coverage("run --no-clean -- x y");
    assert_eq!(traces(), 3);
    assert!(coverage.ran("src/main.rs").contains(&5));
    let coverage = project.coverage("run");
    assert_eq!(traces(), 1);
    assert!(!coverage.ran("src/main.rs").contains(&5));
    project.succeed("clean");
    assert!(!project.path("target/rkcov").exists());
}

#[test]
fn what_is_built_can_be_run_by_rkcov() {
    let project = small("fn main() {\n    println!(\"built\"); // ran\n}\n");
    let output = project.run("build --release --target-dir elsewhere");
    assert!(output.status.success(), "{}", said(&output));
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = project.path("elsewhere").join(host);
    assert!(
        said(&output).contains(&folder.display().to_string()),
        "{}",
        said(&output)
    );
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_rkcov"))
        .args(["run", "--report", "lcov=out.info", "-o", "out.rkcov"])
        .arg(folder.join("release/small"))
        .current_dir(project.path(""))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", said(&run));
    let coverage = project.read_lcov(&project.path("out.info"));
    project.assert_marks(&coverage, "src/main.rs");
}

#[test]
fn what_makes_no_sense_is_said() {
    let project = small("fn main() {}\n");
    for (line, status, what) in [
        (
            "test --include nobody",
            2,
            "--include nobody: the project has no such package",
        ),
        (
            "test --exclude small --workspace",
            2,
            "no package of the workspace is left",
        ),
        ("test --lcov --text", 2, "cannot be used with"),
        ("frobnicate", 2, "unrecognized subcommand"),
        ("test --manifest-path none/Cargo.toml", 1, "does not exist"),
        ("test --mode what", 2, "invalid value 'what'"),
        ("test --filter a[", 2, "invalid value 'a['"),
        ("build --functions", 1, "unexpected argument '--functions'"),
    ] {
        let output = project.run(line);
        assert!(said(&output).contains(what), "{line}: {}", said(&output));
        assert!(!output.status.success(), "{line}");
        if status == 2 {
            assert_eq!(output.status.code(), Some(2), "{line}: {}", said(&output));
        }
    }
}

#[test]
fn help() {
    let project = small("fn main() {}\n");
    insta::assert_snapshot!("help", project.succeed("--help"));
    let test = project.succeed("test -h");
    for option in [
        "--include",
        "--lcov",
        "--output-path",
        "--functions",
        "CARGO'S OPTIONS",
    ] {
        assert!(test.contains(option), "{option}: {test}");
    }
}
