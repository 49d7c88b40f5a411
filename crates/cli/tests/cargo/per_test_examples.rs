// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--per-test` with tests in documentation, each in a program of its own or all in one, and with a harness of
//! the project's own.

use crate::support::Project;
use std::process::Command;

const LIBRARY: &str = r#"
//! A library.
//!
//! ```
//! assert_eq!(told::by_crate(1), 2);
//! ```

pub mod deep;

/// Two examples.
///
/// ```
/// assert_eq!(told::by_first(1), 2);
/// ```
///
/// ```should_panic
/// told::by_second(u32::MAX);
/// ```
pub fn by_first(n: u32) -> u32 {
    n + 1
}

pub fn by_second(n: u32) -> u32 {
    n.checked_add(1).unwrap()
}

pub fn by_crate(n: u32) -> u32 {
    n + 1
}

/// ```standalone_crate
/// assert_eq!(told::by_program(1), 2);
/// ```
pub fn by_program(n: u32) -> u32 {
    n + 1
}

#[cfg(test)]
mod tests {
    #[test]
    fn plain() {
        assert_eq!(crate::by_crate(1), 2);
    }
}
"#;

const DEEP: &str = r#"
pub struct Pair<T>(pub T);

impl<T: Clone> Pair<T> {
    /// ```
    /// # fn work() -> u32 {
    /// told::deep::Pair(1).twice().0
    /// # }
    /// assert_eq!(std::thread::spawn(work).join().unwrap(), 1);
    /// ```
    pub fn twice(&self) -> (T, T) {
        (self.0.clone(), self.0.clone())
    }
}

/// ```
/// fn main() {
///     assert_eq!(told::deep::by_own_main(1), 2);
/// }
/// ```
pub fn by_own_main(n: u32) -> u32 {
    n + 1
}
"#;

#[test]
fn a_test_in_documentation_is_known_by_its_name() {
    for edition in ["2021", "2024"] {
        let project = Project::new(&[("src/lib.rs", LIBRARY), ("src/deep.rs", DEEP)]);
        project.write(
            "Cargo.toml",
            &format!(
                "[package]\nname = \"told\"\nversion = \"0.1.0\"\nedition = \"{edition}\"\n\
                 [workspace]\n"
            ),
        );
        project.write(".gitignore", "/target\n");
        project.succeed("test --per-test --summary-only");
        project.git(&["init", "-q"]);
        project.git(&["add", "."]);
        project.git(&["commit", "-qm", "a"]);

        let own_main = match edition {
            "2024" => "src/deep.rs - deep::by_own_main (line 16)\n",
            _ => "in no context: ",
        };
        for (function, expected) in [
            ("by_crate", "src/lib.rs - (line 4)\ntests::plain\n"),
            ("by_first", "src/lib.rs - by_first (line 12)\n"),
            ("by_second", "src/lib.rs - by_first (line 16)\n"),
            ("by_program", "src/lib.rs - by_program (line 31)\n"),
            ("twice", "src/deep.rs - deep::Pair<T>::twice (line 5)\n"),
            ("by_own_main", own_main),
        ] {
            let said = project.succeed(&format!("tests {function}"));
            match function {
                "by_own_main" => assert!(said.starts_with(expected), "{edition}: {said}"),
                _ => assert_eq!(said, expected, "{edition} {function}"),
            }
        }

        let change = |function: &str| {
            let text = LIBRARY.replace(
                &format!("fn {function}(n: u32) -> u32 {{\n    n "),
                &format!("fn {function}(n: u32) -> u32 {{\n    1 + n - 1 "),
            );
            assert_ne!(text, LIBRARY);
            project.write("src/lib.rs", &text);
        };
        change("by_first");
        assert_eq!(project.succeed("affected"), "-- src/lib.rs\n");
        change("by_crate");
        assert_eq!(project.succeed("affected"), "-- tests::plain src/lib.rs\n");
        let nextest = project.run("affected --for nextest");
        assert_eq!(
            String::from_utf8(nextest.stdout).unwrap(),
            "-E test(=tests::plain)\n"
        );
        let said = String::from_utf8(nextest.stderr).unwrap();
        assert!(
            said.contains("1 of the tests are in documentation"),
            "{said}"
        );
        // cargo takes the arguments, and runs these and no more.
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--", "tests::plain", "src/lib.rs"]);
        let run = cargo.current_dir(project.path("")).output().unwrap();
        let run = String::from_utf8(run.stdout).unwrap();
        assert!(
            run.contains("src/lib.rs - by_first (line 12)") && !run.contains("deep"),
            "{edition}: {run}"
        );
    }
}

const HARNESS: &str = r#"
type Test = (&'static str, fn() -> u32);

fn main() {
    let tests: [Test; 2] = [("sums: one", || told::one(1)), ("sums: two", || told::two(0))];
    std::thread::scope(|scope| {
        for (name, test) in tests {
            scope.spawn(move || {
                let context = rkcov::Context::test(name);
                assert_eq!(context.run(test), 2);
            });
        }
    });
}
"#;

#[test]
fn a_harness_of_its_own_names_its_tests() {
    let project = Project::new(&[
        (
            "src/lib.rs",
            "pub fn one(n: u32) -> u32 {\n    n + 1\n}\n\npub fn two(n: u32) -> u32 {\n    n + 2\n}\n",
        ),
        ("tests/own.rs", HARNESS),
    ]);
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../client");
    project.write(
        "Cargo.toml",
        &format!(
            "[package]\nname = \"told\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
             [dev-dependencies]\nrkcov = {{ path = {client:?} }}\n\
             [[test]]\nname = \"own\"\nharness = false\n[workspace]\n"
        ),
    );
    project.succeed("test --per-test --summary-only");
    assert_eq!(project.succeed("tests one"), "sums: one\n");
    assert_eq!(project.succeed("tests two"), "sums: two\n");
    // It runs without rkcov, too.
    let plain = project.shell("cargo test").output().unwrap();
    assert!(plain.status.success(), "{plain:?}");
}
