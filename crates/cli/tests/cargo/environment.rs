// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is tested finds its surroundings as it always does: variables, runners, other cargos.

use crate::support::Project;
use std::os::unix::fs::PermissionsExt as _;

/// A package whose test builds and runs another workspace by cargo, and runs a binary of its own.
const NEST: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[workspace]\n[package]\nname = \"nest\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    ),
    (
        "src/lib.rs",
        "pub fn f(x: u32) -> u32 {\n    x + 1 // ran\n}\n",
    ),
    (
        "src/main.rs",
        "fn main() {\n    println!(\"own\"); // ran\n}\n",
    ),
    (
        "inner/Cargo.toml",
        "[workspace]\n[package]\nname = \"inner\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    ),
    (
        "inner/src/main.rs",
        "fn main() {\n    println!(\"inner\");\n}\n",
    ),
    (
        "tests/nested.rs",
        r#"
use std::path::Path;
use std::process::Command;

#[test]
fn builds_and_runs_a_fixture() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("inner");
    for word in ["build", "run", "test"] {
        let output = Command::new("cargo").args([word, "-q"]).current_dir(&folder).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let output = Command::new(folder.join("target/debug/inner")).output().expect("the fixture");
    assert_eq!(output.stdout, b"inner\n");
    let output = Command::new(env!("CARGO_BIN_EXE_nest")).output().unwrap();
    assert_eq!(output.stdout, b"own\n");
    assert_eq!(nest::f(3), 4);
    let names = std::env::vars_os().map(|(name, _)| name.into_string().unwrap());
    std::fs::write("names.txt", names.collect::<Vec<_>>().join("\n")).unwrap();
}
"#,
    ),
];

/// The names of the variables that the test found. Cargo itself makes some that say where it builds.
fn names(project: &Project) -> Vec<String> {
    let names = std::fs::read_to_string(project.path("names.txt")).unwrap();
    let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn a_test_that_runs_cargo_finds_it_as_without_us() {
    let nest = Project::new(NEST);
    let mut plain = nest.command("");
    let plain = std::process::Command::new("cargo")
        .args(["test", "-q"])
        .current_dir(nest.path(""))
        .env_clear()
        .envs(
            plain
                .env("RUST_BACKTRACE", "0")
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .envs(std::env::vars_os().filter(|(name, _)| {
            [
                "PATH",
                "HOME",
                "CARGO_HOME",
                "RUSTUP_HOME",
                "RUSTUP_TOOLCHAIN",
            ]
            .iter()
            .any(|kept| name == *kept)
        }))
        .output()
        .unwrap();
    assert!(plain.status.success(), "{plain:?}");
    let before = names(&nest);
    std::fs::remove_dir_all(nest.path("inner/target")).unwrap();
    let coverage = nest.coverage("test");
    // Of the workspace: the binary that the test runs, too. Of the other one nothing.
    assert_eq!(coverage.files(), ["src/lib.rs", "src/main.rs"]);
    nest.assert_marks(&coverage, "src/lib.rs");
    nest.assert_marks(&coverage, "src/main.rs");
    let more: Vec<String> = names(&nest)
        .into_iter()
        .filter(|name| !before.contains(name))
        .filter(|name| {
            ["CARGO", "RUST", "CC", "CXX"]
                .iter()
                .any(|tool| name.starts_with(tool))
        })
        .collect();
    assert!(more.is_empty(), "{more:?}");
}

#[test]
fn a_wrapper_in_the_environment_stays_the_users_for_other_cargos() {
    let nest = Project::new(NEST);
    nest.write(
        "wrapper.sh",
        "#!/bin/sh\necho \"$@\" >>\"$NOTES\"\nexec \"$@\"\n",
    );
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(nest.path("wrapper.sh"), executable).unwrap();
    for variable in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        let notes = nest.path(variable);
        let mut command = nest.command("test --lcov --output-path lcov.info");
        command.env(variable, nest.path("wrapper.sh"));
        command.env("NOTES", &notes);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{variable}: {output:?}");
        let coverage = nest.read_lcov(&nest.path("lcov.info"));
        assert_eq!(coverage.files(), ["src/lib.rs", "src/main.rs"]);
        // The wrapper saw the fixture, which nobody instruments.
        let noted = std::fs::read_to_string(notes).unwrap();
        let mut inner = noted
            .lines()
            .filter(|line| line.contains("--crate-name inner"));
        assert!(inner.clone().next().is_some(), "{variable}: {noted}");
        assert!(
            inner.all(|line| !line.contains("sancov")),
            "{variable}: {noted}"
        );
        std::fs::remove_dir_all(nest.path("inner/target")).unwrap();
    }
}

/// Runs lines of a shell in the project, which finds both of our commands by variables.
#[track_caller]
fn shell(project: &Project, lines: &str) -> String {
    let mut shell = std::process::Command::new("sh");
    for (name, value) in project.command("").get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.env("OURS", crate::support::CARGO_RKCOV);
    shell.env("RKCOV", env!("CARGO_BIN_EXE_rkcov"));
    shell
        .args(["-e", "-c", lines])
        .current_dir(project.path(""));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{lines}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn any_cargo_builds_with_our_variables() {
    let nest = Project::new(NEST);
    let said = shell(
        &nest,
        "\"$OURS\" rkcov env; eval \"$(\"$OURS\" rkcov env)\"; \"$OURS\" rkcov env",
    );
    let (before, with) = said.split_at(said.len() / 2);
    assert_eq!(before, with, "they are the same where they are set already");
    for name in [
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
    ] {
        assert!(before.contains(&format!("export {name}='")), "{before}");
    }
    shell(
        &nest,
        "eval \"$(\"$OURS\" rkcov env)\"\n\
         cargo build -q\n\
         \"$RKCOV\" run -o t.rkcov -- \"$CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/debug/nest\"\n\
         \"$RKCOV\" report --format lcov t.rkcov >lcov.info\n\
         \"$OURS\" rkcov run --lcov --output-path again.info",
    );
    for report in ["lcov.info", "again.info"] {
        let coverage = nest.read_lcov(&nest.path(report));
        assert_eq!(coverage.files(), ["src/main.rs"]);
        nest.assert_marks(&coverage, "src/main.rs");
    }
    assert!(!nest.path("target/rkcov/rkcov").exists());
}

const DOCUMENTED: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[workspace]\n[package]\nname = \"docs\"\nversion = \"0.1.0\"\nedition = \"EDITION\"\n",
    ),
    (
        "src/lib.rs",
        "/// ```\n/// assert_eq!(docs::only_docs(3), 4);\n/// ```\npub fn only_docs(x: u32) -> u32 {\n    \
         x + 1 // ran\n}\n",
    ),
    (
        "run it.sh",
        "#!/bin/sh\n[ \"$1\" = 'two words' ] || exit 3\nshift\necho \"$1\" >>\"$NOTES\"\nexec \"$@\"\n",
    ),
];

#[test]
fn a_runner_runs_the_documentations_tests_and_they_are_recorded() {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    for edition in ["2021", "2024"] {
        for key in [&*triple, "'cfg(target_os = \"linux\")'"] {
            let docs = Project::new(&[]);
            for (name, text) in DOCUMENTED {
                docs.write(name, &text.replace("EDITION", edition));
            }
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(docs.path("run it.sh"), executable).unwrap();
            docs.write(
                ".cargo/config.toml",
                &format!("[target.{key}]\nrunner = [\"./run it.sh\", \"two words\"]\n"),
            );
            let mut command = docs.command("test --lcov --output-path lcov.info");
            let output = command.env("NOTES", docs.path("notes")).output().unwrap();
            assert!(output.status.success(), "{edition} {key}: {output:?}");
            let coverage = docs.read_lcov(&docs.path("lcov.info"));
            docs.assert_marks(&coverage, "src/lib.rs");
            // The unit tests and those of the documentation.
            let notes = std::fs::read_to_string(docs.path("notes")).unwrap();
            assert_eq!(notes.lines().count(), 2, "{edition} {key}: {notes}");
        }
    }
}

#[test]
fn folders_with_any_character() {
    let root = Project::new(&[]);
    let folder = "it's a [1] {b}! ?*,\\ \"q\"";
    for (name, text) in NEST.iter().filter(|(name, _)| !name.starts_with("tests/")) {
        root.write(&format!("{folder}/{name}"), text);
    }
    let mut command = root.command("run --lcov --output-path lcov.info");
    let output = command.current_dir(root.path(folder)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lcov = root.path(folder).join("lcov.info");
    let coverage = root.read_lcov(&lcov);
    let main = format!("{folder}/src/main.rs");
    assert_eq!(coverage.files(), [&*main]);
    root.assert_marks(&coverage, &main);
}
