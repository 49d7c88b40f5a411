// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every kind of code that a workspace has: which is instrumented, and which lines ran.

use crate::support::Project;
use std::os::unix::fs::PermissionsExt;

/// A library with a binary, a build script, a proc macro, an integration test, an example, a bench
/// and tests in its documentation.
const SHOP: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        r#"
[workspace]
members = ["macros"]

[package]
name = "shop"
version = "0.1.0"
edition = "2021"

[features]
discount = []

[dependencies]
macros = { path = "macros" }

[[bench]]
name = "prices"
harness = false
"#,
    ),
    (
        "macros/Cargo.toml",
        r#"
[package]
name = "macros"
version = "0.1.0"
edition = "2021"

[lib]
proc-macro = true
"#,
    ),
    (
        "macros/src/lib.rs",
        r#"
use proc_macro::TokenStream;

#[proc_macro]
pub fn seven(_: TokenStream) -> TokenStream {
    "7".parse().unwrap()
}
"#,
    ),
    (
        "build.rs",
        r#"
fn main() {
    println!("cargo::rustc-env=SHOP_NAME=corner");
    println!("cargo::rerun-if-changed=build.rs");
}
"#,
    ),
    (
        "src/lib.rs",
        r#"
use std::fmt::Debug;

pub mod order;

/// The price of so many.
///
/// ```
/// assert_eq!(shop::price(2), 14);
/// assert_eq!(shop::shown(&3), "3");
/// ```
pub fn price(n: u32) -> u32 {
    if n > 100 {
        return n * 6; // idle
    }
    n * macros::seven!() // ran
}

/// Instantiated where it is used.
pub fn shown<T: Debug>(value: &T) -> String {
    format!("{value:?}") // ran
}

pub fn reduced(n: u32) -> u32 {
    let factor = |n| {
        n - 1 // idle
    };
    #[cfg(feature = "discount")]
    return factor(price(n));
    #[cfg(not(feature = "discount"))]
    factor(price(n)) // idle
}
"#,
    ),
    (
        "src/order.rs",
        r#"
pub struct Order(pub u32);

impl Drop for Order {
    fn drop(&mut self) {
        super::price(self.0); // ran
    }
}

macro_rules! unless {
    ($condition:expr, $else:expr) => {
        if $condition { 0 } else { $else }
    };
}

pub fn large(order: &Order) -> bool {
    let sum: u32 = (0..order.0)
        .filter(|n| n % 2 == 0) // ran
        .map(|n| {
            n + 1 // ran
        })
        .sum();
    match sum {
        0 => false, // idle
        1..=9 => unless!(sum > 8, 1) == 0, // ran
        _ => {
            true // idle
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_is_not_large() {
        assert!(!large(&Order(4))); // ran
    }
}
"#,
    ),
    (
        "src/main.rs",
        r#"
fn main() {
    let n = std::env::args().skip(1).count() as u32;
    if n == 0 {
        eprintln!("nothing"); // idle
        std::process::exit(3); // idle
    }
    println!("{}: {}", env!("SHOP_NAME"), shop::price(n)); // ran
}
"#,
    ),
    (
        "tests/prices.rs",
        r#"
#[test]
fn one() {
    assert_eq!(shop::price(1), 7);
    assert_eq!(shop::shown(&"x"), "\"x\"");
}
"#,
    ),
    (
        "benches/prices.rs",
        r#"
fn main() {
    assert_eq!(shop::price(std::env::args().count() as u32), 14);
}
"#,
    ),
];

#[test]
fn tests_of_all_sorts() {
    let shop = Project::new(SHOP);
    let coverage = shop.coverage("test --workspace");
    assert_eq!(coverage.files(), ["src/lib.rs", "src/order.rs"]);
    shop.assert_marks(&coverage, "src/lib.rs");
    shop.assert_marks(&coverage, "src/order.rs");
    for (file, function) in [
        ("src/lib.rs", "shop::price"),
        ("src/lib.rs", "shop::shown"),
        ("src/order.rs", "shop::order::large"),
    ] {
        assert_eq!(coverage.function(file, function), Some(true), "{function}");
    }
    // Never called; if the linker left it out, the report does not have it at all.
    assert_ne!(coverage.function("src/lib.rs", "shop::reduced"), Some(true));
    // The tests' own sources too, if somebody wants them.
    let coverage = shop.coverage("report --include-tests");
    assert_eq!(
        coverage.files(),
        ["src/lib.rs", "src/order.rs", "tests/prices.rs"]
    );
}

/// A program whose tests call neither its `main()` nor what only this calls. The `main()` of the
/// tests, which rustc writes, has the same name, and the first line of the file.
const UNTOUCHED: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[workspace]\n[package]\nname = \"untouched\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    ),
    (
        "src/main.rs",
        r#"fn main() { // idle
    let n = std::env::args().count(); // idle
    println!("{}", rest(n)); // idle
}

fn rest(n: usize) -> usize {
    n - 1 // idle
}

fn half(n: usize) -> usize {
    n / 2 // ran
}

#[test]
fn halves() {
    assert_eq!(half(4), 2); // ran
}
"#,
    ),
];

#[test]
fn what_nothing_calls_is_counted_as_not_run() {
    let project = Project::new(UNTOUCHED);
    let file = "src/main.rs";
    let functions = ["untouched::main", "untouched::rest"];
    let coverage = project.coverage("test --without-dead-code --target-dir without");
    project.assert_marks(&coverage, file);
    assert_eq!(functions.map(|f| coverage.function(file, f)), [None; 2]);

    let coverage = project.coverage("test");
    project.assert_marks(&coverage, file);
    let said = functions.map(|f| coverage.function(file, f));
    assert_eq!(said, [Some(false); 2]);
    let lines = coverage.lines(file);
    let counts = [1, 2, 3, 7].map(|line| lines.get(&line).copied());
    assert_eq!(counts, [Some(0); 4], "{lines:?}");
}

/// A library with functions that nothing calls, and a binary that no test runs, not even its own.
const UNRUN: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[workspace]\n[package]\nname = \"unrun\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [[bin]]\nname = \"tool\"\npath = \"src/main.rs\"\ntest = false\n",
    ),
    (
        "src/lib.rs",
        "pub fn used(n: u32) -> u32 {\n    n + 1 // ran\n}\n\npub fn unused(n: u32) -> u32 {\n    \
         deeper(n) // idle\n}\n\nfn deeper(n: u32) -> u32 {\n    n * 2 // idle\n}\n",
    ),
    (
        "src/main.rs",
        "fn main() {\n    println!(\"{}\", unrun::used(3)); // idle\n    let _ = only_here(1); // idle\n}\n\n\
         fn only_here(n: u32) -> u32 {\n    n - 1 // idle\n}\n",
    ),
    (
        "tests/uses.rs",
        "#[test]\nfn uses() {\n    assert_eq!(unrun::used(1), 2);\n}\n",
    ),
];

#[test]
fn a_program_that_no_test_runs_is_counted_as_not_run() {
    let project = Project::new(UNRUN);
    let coverage = project.coverage("test");
    project.assert_marks(&coverage, "src/lib.rs");
    let missed = |file: &str| -> Vec<u32> {
        let lines = coverage.lines(file).iter();
        lines
            .filter(|(_, count)| **count == 0)
            .map(|(line, _)| *line)
            .collect()
    };
    assert_eq!(missed("src/lib.rs"), [5, 6, 7, 9, 10, 11]);
    assert_eq!(missed("src/main.rs"), [1, 2, 3, 4, 6, 7, 8]);
    // The same, although nothing is built anew.
    assert_eq!(project.coverage("test").lines("src/main.rs").len(), 7);
    // Only what is chosen counts.
    let coverage = project.coverage("test --lib");
    assert_eq!(coverage.files(), Vec::<&str>::new());
}

#[test]
fn what_does_not_link_with_them_links_without() {
    let project = Project::new(UNTOUCHED);
    let main = format!(
        "{}\n#[allow(dead_code)]\nfn elsewhere() {{\n    unsafe extern \"C\" {{ fn nowhere_to_be_found(); }}\n    \
         unsafe {{ nowhere_to_be_found() }}\n}}\n",
        UNTOUCHED[1].1
    );
    project.write("src/main.rs", &main);
    let output = project.run("test --lcov --output-path lcov.info");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let note = "rkcov: untouched: functions that nothing calls are not counted, because it does not link with them";
    assert!(said.contains(note), "{said}");
    let coverage = project.read_lcov(&project.path("lcov.info"));
    project.assert_marks(&coverage, "src/main.rs");
    assert!(project.run("report").stderr.starts_with(note.as_bytes()));
    // What is mended is forgotten; what is wrong is said once.
    project.write("src/main.rs", UNTOUCHED[1].1);
    let output = project.run("test");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && !said.contains("not counted"),
        "{said}"
    );
    project.write("src/main.rs", "fn main() { nonsense }\n");
    let output = project.run("test");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.matches("cannot find value").count(), 1, "{said}");
}

#[test]
fn threads_of_tests_have_the_tests_names() {
    let project = Project::new(&[
        (
            "Cargo.toml",
            "[workspace]\n[package]\nname = \"named\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
        ),
        (
            "src/lib.rs",
            "mod tests {\n    #[test]\n    fn the_first_of_two_long_names() {}\n\n    #[test]\n    \
             fn the_second_of_two_long_names() {}\n}\n",
        ),
    ]);
    project.succeed("test --lib --no-report -- --test-threads 2");
    for name in ["first", "second"] {
        let name = format!("tests::the_{name}_of_two_long_names");
        let text = project.succeed(&format!("report --thread {name} --by-thread --functions"));
        assert!(text.contains(&format!("({name})")), "{text}");
        assert_eq!(text.matches("of_two_long_names)").count(), 1, "{text}");
    }
    // The name as the system has it is still one.
    project.succeed("report --thread tests::the_firs");
}

#[test]
fn tests_of_the_documentation_alone() {
    let shop = Project::new(SHOP);
    let coverage = shop.coverage("test --doc");
    assert_eq!(coverage.files(), ["src/lib.rs"]);
    shop.assert_marks(&coverage, "src/lib.rs");
}

/// A library whose first lines are those of its tests in documentation, too, if these are counted
/// from their own beginning. `EDITION` stands for an edition: from 2024 on there is one program for
/// many tests.
const DOCUMENTED: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[workspace]\n[package]\nname = \"told\"\nversion = \"0.1.0\"\nedition = \"EDITION\"\n",
    ),
    (
        "src/lib.rs",
        r#"pub fn never(n: u32) -> u32 {
    if n > 1 {
        return n; // idle
    }
    let doubled = n * 2; // idle
    let more = doubled + 1; // idle
    let most = more * 5; // idle
    let all = most + n; // idle
    all / 3 // idle
}

/// How often it was called in this process.
///
/// ```
/// assert_eq!(told::calls(), 1);
/// ```
pub fn calls() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CALLS: AtomicU32 = AtomicU32::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed) + 1 // ran
}

pub trait Named {
    fn name(&self) -> String;

    fn twice(&self) -> String {
        let name = self.name(); // ran
        format!("{name}{name}") // ran
    }
}

/// A generic function lands in the test's program.
///
/// ```
/// struct Mine(u32);
///
/// impl told::Named for Mine {
///     fn name(&self) -> String {
///         self.0.to_string()
///     }
/// }
///
/// assert_eq!(told::calls(), 1);
/// assert_eq!(told::doubled(&Mine(4)), "44");
/// ```
pub fn doubled<T: Named>(named: &T) -> String {
    named.twice() // ran
}
"#,
    ),
];

#[test]
fn tests_of_the_documentation_are_programs_of_their_own() {
    for edition in ["2021", "2024"] {
        let told = Project::new(&[]);
        for (name, text) in DOCUMENTED {
            told.write(name, &text.replace("EDITION", edition));
        }
        let coverage = told.coverage("test --doc");
        assert_eq!(coverage.files(), ["src/lib.rs"], "{edition}");
        told.assert_marks(&coverage, "src/lib.rs");
        // Not even where everything is shown: their lines are of no file that is there.
        let text = told.succeed("report --include-tests --all-sources --functions");
        for name in ["rust_out", "doctest_bundle", "doctest_runner"] {
            assert!(!text.contains(&format!("+ {name}")), "{edition}: {text}");
        }
        assert!(text.contains("told::doubled"), "{edition}: {text}");
    }
}

#[test]
fn a_binary_and_its_arguments() {
    let shop = Project::new(SHOP);
    let coverage = shop.coverage("run -- --lcov x");
    assert_eq!(coverage.files(), ["src/lib.rs", "src/main.rs"]);
    shop.assert_marks(&coverage, "src/main.rs");
    assert_eq!(coverage.function("src/lib.rs", "shop::price"), Some(true));
    assert_ne!(coverage.function("src/lib.rs", "shop::shown"), Some(true));
}

#[test]
fn a_bench() {
    let shop = Project::new(SHOP);
    let coverage = shop.coverage("bench --bench prices --include-tests");
    assert_eq!(coverage.files(), ["benches/prices.rs", "src/lib.rs"]);
    assert_eq!(coverage.function("src/lib.rs", "shop::price"), Some(true));
}

#[test]
fn nextest_runs_each_test_in_a_process() {
    let shop = Project::new(SHOP);
    let there = std::process::Command::new("cargo-nextest")
        .arg("--version")
        .output();
    if there.is_err() {
        eprintln!("cargo-nextest is not installed");
        return;
    }
    for line in ["nextest --no-fail-fast", "nextest run"] {
        let coverage = shop.coverage(line);
        shop.assert_marks(&coverage, "src/order.rs");
        assert_eq!(
            coverage.function("src/lib.rs", "shop::shown"),
            Some(true),
            "{line}"
        );
    }
}

#[test]
fn async_bodies_run_where_they_are_polled() {
    let project = Project::new(&[
        (
            "Cargo.toml",
            "[workspace]\n[package]\nname = \"waits\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
        ),
        (
            "src/main.rs",
            r#"
use std::future::Future;
use std::pin::{pin, Pin};
use std::task::{Context, Poll, Waker};

struct Later(bool);

impl Future for Later {
    type Output = u32;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
        if self.0 {
            return Poll::Ready(1); // ran
        }
        self.0 = true; // ran
        Poll::Pending // ran
    }
}

async fn never() -> u32 {
    2 // idle
}

async fn twice() -> u32 {
    let first = Later(false).await; // ran
    if first > 1 {
        return never().await; // idle
    }
    let second = async {
        Later(false).await + 1 // ran
    };
    first + second.await // ran
}

fn main() {
    let unpolled = never();
    let mut future = pin!(twice());
    let mut context = Context::from_waker(Waker::noop());
    let mut polls = 0;
    loop {
        polls += 1; // ran
        if let Poll::Ready(sum) = future.as_mut().poll(&mut context) {
            println!("{sum} after {polls} polls"); // ran
            break;
        }
    }
    drop(unpolled);
}
"#,
        ),
    ]);
    assert_eq!(project.succeed("run --no-report"), "3 after 3 polls\n");
    let coverage = project.coverage("report");
    project.assert_marks(&coverage, "src/main.rs");
}

#[test]
fn c_code_of_a_build_script() {
    // A member of the workspace, and a package of somebody else's where cargo unpacks them.
    for (key, place) in [
        ("members", "tally-sys"),
        ("exclude", "vendor/registry/src/index.crates.io-0/tally-sys"),
    ] {
        c_code_of(key, place);
    }
}

/// As people have it for ccache, or a script of theirs. The build script calls the compiler that it is told of, and that one the
/// launcher.
#[test]
fn a_launcher_before_the_c_compiler() {
    let project = with_c_code("members", "tally-sys");
    project.write(
        "launcher.sh",
        "#!/bin/sh\necho \"$@\" >>\"$NOTES\"\nexec \"$@\"\n",
    );
    let (launcher, notes) = (project.path("launcher.sh"), project.path("notes"));
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&launcher, executable).unwrap();
    let mut command = project.command("run --with-c --lcov --output-path lcov.info");
    command.env("CC", format!("{} gcc", launcher.display()));
    let output = command.env("NOTES", &notes).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let coverage = project.read_lcov(&project.path("lcov.info"));
    project.assert_marks(&coverage, "tally-sys/tally.c");
    let noted = std::fs::read_to_string(notes).unwrap();
    let compiled = |line: &str| line.starts_with("gcc ") && line.contains("tally.");
    assert!(noted.lines().any(compiled), "{noted}");
}

fn c_code_of(key: &str, place: &str) {
    let project = with_c_code(key, place);
    let option = if key == "members" {
        "--with-c"
    } else {
        "--include-ffi"
    };
    let coverage = project.coverage(&format!("run {option}"));
    let tally = format!("{place}/tally.c");
    assert_eq!(coverage.files(), ["src/main.rs", &tally]);
    project.assert_marks(&coverage, "src/main.rs");
    project.assert_marks(&coverage, &tally);
    // And only on request.
    let coverage = project.coverage("run");
    assert_eq!(coverage.files(), ["src/main.rs"]);
}

fn with_c_code(key: &str, place: &str) -> Project {
    let project = Project::new(&[]);
    for (name, text) in [
        (
            "Cargo.toml",
            "[workspace]\nKEY = [\"PLACE\"]\n[package]\nname = \"tally\"\n\
             version = \"0.1.0\"\nedition = \"2021\"\n\
             [dependencies]\ntally-sys = { path = \"PLACE\" }\n",
        ),
        (
            "src/main.rs",
            "fn main() {\n    println!(\"{}\", unsafe { tally_sys::tally(3) }); // ran\n}\n",
        ),
        (
            "PLACE/Cargo.toml",
            "[package]\nname = \"tally-sys\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
             links = \"tally\"\n",
        ),
        (
            "PLACE/src/lib.rs",
            "unsafe extern \"C\" {\n    pub fn tally(n: i32) -> i32;\n}\n",
        ),
        ("PLACE/build.rs", BUILD_C),
        (
            "PLACE/tally.c",
            "int tally(int n)\n{\n    if (n > 5)\n        return 0; // idle\n    return n + 1; // ran\n}\n",
        ),
    ] {
        let filled = |text: &str| text.replace("KEY", key).replace("PLACE", place);
        project.write(&filled(name), &filled(text));
    }
    project
}

/// Compiles as the crate `cc` does: `$CC` if it is set.
const BUILD_C: &str = r#"
use std::process::Command;

fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    println!("cargo::rerun-if-env-changed=CC");
    println!("cargo::rerun-if-changed=tally.c");
    let run = |command: &mut Command| assert!(command.status().unwrap().success());
    let source = std::path::absolute("tally.c").unwrap();
    run(Command::new(cc).args(["-fPIC", "-c"]).arg(source).arg("-o").arg(format!("{out}/tally.o")));
    run(Command::new("ar").arg("crs").arg(format!("{out}/libtally.a")).arg(format!("{out}/tally.o")));
    println!("cargo::rustc-link-search=native={out}");
    println!("cargo::rustc-link-lib=static=tally");
}
"#;
