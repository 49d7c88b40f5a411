// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command itself: exit status, traces kept, what it says.

use crate::support::Project;
use std::fs;
use std::os::unix::process::CommandExt as _;

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

#[test]
fn one_run_has_several_reports() {
    let project = small("fn main() {\n    println!(\"said\"); // ran\n}\n");
    let output = project.run("run --format text --format lcov=out.info --format html=pages");
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("said") && text.contains("main.rs"), "{text}");
    let coverage = project.read_lcov(&project.path("out.info"));
    project.assert_marks(&coverage, "src/main.rs");
    assert!(project.path("pages/index.html").exists());

    let output = project.run("run --format json --format lcov=out.info");
    let json = String::from_utf8(output.stdout.clone()).unwrap();
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let typed = "cargo rkcov run --format json --format lcov=out.info";
    let shown = report["runs"][0]["command"].as_array().unwrap();
    let shown: Vec<&str> = shown.iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(shown.join(" "), typed);
    assert!(said(&output).contains("said"), "{}", said(&output));
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
fn too_few_lines_are_a_failure() {
    // One way is not gone.
    let project = small(
        "fn main() {}\n\nfn way(left: bool) -> u32 {\n    if left {\n        1\n    } else {\n        2\n    }\n}\n\n\
         #[test]\nfn fails() {\n    assert_eq!(way(true), 2);\n}\n",
    );
    let output = project.run("test --ignore-run-fail --summary-only --fail-under-lines 100");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("--fail-under-lines requires 100 %"),
        "{}",
        said(&output)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("main.rs"), "{text}");
    project.succeed("report --fail-under-lines 10.5");
    // What failed first is worth more.
    let output = project.run("test --fail-under-lines 100");
    assert_eq!(output.status.code(), Some(101), "{}", said(&output));
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
            "--include nobody: no such package in the project",
        ),
        (
            "test --exclude small --workspace",
            2,
            "no package of the workspace is left",
        ),
        (
            "test -p nobody",
            2,
            "-p nobody: the workspace has no such package",
        ),
        ("test --test nobody", 101, "no test target named `nobody`"),
        ("run --bin nobody", 101, "no bin target named `nobody`"),
        ("test --lcov --text", 2, "cannot be used with"),
        ("test --lcov --format json", 2, "cannot be used with"),
        ("test --format lcvo", 2, "the formats are text, lcov"),
        (
            "test --fromat lcov",
            1,
            "--fromat was passed to cargo; did you mean rkcov's --format?",
        ),
        ("frobnicate", 2, "unrecognized subcommand"),
        ("test --manifest-path none/Cargo.toml", 1, "does not exist"),
        ("test --mode what", 2, "invalid value 'what'"),
        ("test --filter a[", 2, "invalid value 'a['"),
        ("test --fail-under-lines 101", 2, "a number from 0 to 100"),
        (
            "test --no-report --fail-under-lines 90",
            2,
            "'--no-report' cannot be used with '--fail-under-lines",
        ),
        ("build --functions", 1, "unexpected argument '--functions'"),
    ] {
        let output = project.run(line);
        assert!(said(&output).contains(what), "{line}: {}", said(&output));
        // What cargo or clap says of an argument has their status.
        let expected = [Some(status), Some(101), Some(1)];
        let count = if status == 1 { 3 } else { 1 };
        assert!(
            expected[..count].contains(&output.status.code()),
            "{line}: {}",
            said(&output)
        );
    }
}

#[test]
fn folders_without_a_project_and_broken_ones() {
    let project = Project::new(&[]);
    for line in ["test", "run", "report", "clean"] {
        let output = project.run(line);
        assert_eq!(output.status.code(), Some(101), "{line}: {}", said(&output));
        assert!(
            said(&output).contains("could not find `Cargo.toml`"),
            "{line}: {}",
            said(&output)
        );
    }
    project.write("Cargo.toml", "[package\n");
    let output = project.run("test");
    assert_eq!(output.status.code(), Some(101), "{}", said(&output));
    assert!(said(&output).contains("Cargo.toml:1"), "{}", said(&output));
    assert!(!project.path("target").exists());
    // Filters that no test passes are no failure, as in cargo.
    let project = small(FAILS);
    let output = project.run("test none_of_them");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // The sources are what one may have no right to write beside.
    let project = small("fn main() {}\n");
    project.write("target/rkcov", "a file");
    let output = project.run("run");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("target/rkcov"), "{}", said(&output));
}

/// A program that runs until the file `go` is there, and says so by the file `here`, which comes
/// while the call that makes it goes on: so it is a later one than that of the line that ran. With an
/// argument it does not wait.
/// Says that it is here in its second round: in the first, nothing that was recorded tells of the lines before.
const WAITS: &str = r#"
use std::path::Path;

fn main() {
    if std::env::args().count() > 1 { return; }
    std::fs::write("begun", "").unwrap(); // ran
    let mut rounds = 0;
    while !Path::new("go").exists() {
        rounds += 1;
        if rounds > 1 { std::fs::write("here", "").unwrap(); }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    println!("went"); // idle
}
"#;

/// Waits for a file, for a minute at most.
fn wait_for(path: &std::path::Path) {
    for _ in 0..6000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} does not come", path.display());
}

#[test]
fn what_ran_before_a_ctrl_c_is_reported() {
    let project = small(WAITS);
    let mut command = project.command("run --lcov --output-path lcov.info");
    let child = command
        .process_group(0)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&project.path("here"));
    // As a terminal sends it: to all processes in the foreground.
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 2), "{}", said(&output));
    let coverage = project.read_lcov(&project.path("lcov.info"));
    project.assert_marks(&coverage, "src/main.rs");
}

#[test]
fn two_at_once_in_one_project() {
    let project = small(WAITS);
    project.succeed("run --text -- at-once");
    let first = project
        .command("run --text")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&project.path("here"));
    // It cleans what earlier runs left, and not what the first one is about to write.
    project.succeed("run --text -- at-once");
    fs::write(project.path("go"), "").unwrap();
    let first = first.wait_with_output().unwrap();
    assert!(first.status.success(), "{}", said(&first));
    let names = fs::read_dir(project.path("target/rkcov/trace")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["1.rkcov", "2.rkcov"]);
    project.succeed("report");
}

/// Lets the `cargo rkcov` above it write one block more.
const FILLS: &str = r#"
fn parent(pid: &str) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(1).unwrap().to_owned()
}

fn main() {
    let name = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    let mut above = parent("self");
    while name(&above).trim() != "cargo-rkcov" {
        above = parent(&above);
    }
    // Of the two processes, one writes the trace.
    let children = std::fs::read_to_string(format!("/proc/{above}/task/{above}/children")).unwrap();
    let writers = children.split_whitespace().filter(|pid| name(pid).trim() == "cargo-rkcov");
    for pid in writers {
        let limited = std::process::Command::new("prlimit")
            .args(["--pid", pid, "--fsize=512"])
            .status()
            .unwrap();
        assert!(limited.success());
    }
    std::process::exit(if std::env::args().count() > 1 { 7 } else { 0 });
}
"#;

#[test]
fn a_disk_that_fills_while_the_trace_is_written() {
    let project = small(FILLS);
    for (line, status) in [("run", 1), ("run -- x", 7)] {
        let output = project.run(line);
        assert_eq!(output.status.code(), Some(status), "{}", said(&output));
        assert!(
            said(&output).contains("the trace is lost: cannot write"),
            "{}",
            said(&output)
        );
        let folder = project.path("target/rkcov/trace");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
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
