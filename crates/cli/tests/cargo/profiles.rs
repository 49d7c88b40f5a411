// SPDX-License-Identifier: MIT OR Apache-2.0
//! Features, profiles, targets and packages: what cargo's users say beside the command.

use crate::support::Project;

/// A workspace of two packages: `app` uses `engine`.
const TWO: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        r#"
[workspace]
resolver = "2"
members = ["app", "engine"]

[profile.tiny]
inherits = "release"
opt-level = "z"
lto = "fat"
panic = "abort"
strip = true

[profile.thin]
inherits = "release"
lto = "thin"
codegen-units = 4
split-debuginfo = "unpacked"
"#,
    ),
    (
        "app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [dependencies]\nengine = { path = \"../engine\" }\n[features]\nfast = [\"engine/fast\"]\n",
    ),
    (
        "app/src/main.rs",
        r#"
fn main() {
    let n = std::env::args().count() as u32;
    if engine::start(n) > 0 {
        std::process::exit(1); // idle
    }
    println!("started"); // ran
}

#[cfg(test)]
mod tests {
    #[test]
    fn starts() {
        assert_eq!(engine::start(1), 0);
    }
}
"#,
    ),
    (
        "engine/Cargo.toml",
        "[package]\nname = \"engine\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\nfast = []\n",
    ),
    (
        "engine/src/lib.rs",
        r#"
#[inline(never)]
pub fn start(n: u32) -> u32 {
    if n > 5 {
        return stop(n); // idle
    }
    mode() // ran
}

#[inline(never)]
fn stop(n: u32) -> u32 {
    n + std::process::id() // idle
}

#[cfg(feature = "fast")]
#[inline(never)]
fn mode() -> u32 {
    std::hint::black_box(0)
}

#[cfg(not(feature = "fast"))]
#[inline(never)]
fn mode() -> u32 {
    std::hint::black_box(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn stops() {
        assert!(super::stop(1) > 1);
    }
}
"#,
    ),
];

const APP: &str = "app/src/main.rs";
const ENGINE: &str = "engine/src/lib.rs";
const SLOW_MODE: u32 = 24;
const FAST_MODE: u32 = 18;

#[test]
fn features_choose_code() {
    let two = Project::new(TWO);
    let coverage = two.coverage("run");
    two.assert_marks(&coverage, APP);
    two.assert_marks(&coverage, ENGINE);
    assert!(coverage.ran(ENGINE).contains(&SLOW_MODE), "{coverage:?}");
    let coverage = two.coverage("run -p app --features fast --include engine");
    two.assert_marks(&coverage, ENGINE);
    assert!(coverage.ran(ENGINE).contains(&FAST_MODE), "{coverage:?}");
    assert!(!coverage.ran(ENGINE).contains(&SLOW_MODE), "{coverage:?}");
}

#[test]
fn profiles_with_lto_panic_abort_strip_and_split_lines() {
    let two = Project::new(TWO);
    for profile in ["--release", "--profile tiny", "--profile=thin"] {
        let coverage = two.coverage(&format!("run {profile}"));
        assert_eq!(coverage.files(), [APP, ENGINE], "{profile}");
        two.assert_marks(&coverage, APP);
        two.assert_marks(&coverage, ENGINE);
        assert_eq!(
            coverage.function(ENGINE, "engine::start"),
            Some(true),
            "{profile}"
        );
        assert_ne!(
            coverage.function(ENGINE, "engine::stop"),
            Some(true),
            "{profile}"
        );
    }
}

#[test]
fn packages_by_name() {
    let two = Project::new(TWO);
    let both = two.coverage("test --workspace");
    assert_eq!(both.files(), [APP, ENGINE]);
    assert_eq!(both.function(ENGINE, "engine::stop"), Some(true));
    assert_eq!(two.coverage("test -p app").files(), [APP]);
    assert_eq!(
        two.coverage("test -p app --include engine").files(),
        [APP, ENGINE]
    );
    assert_eq!(
        two.coverage("test --workspace --exclude app").files(),
        [ENGINE]
    );
    let engine = two.coverage("test --workspace --exclude-from-report app");
    assert_eq!(engine.files(), [ENGINE]);
    assert_eq!(engine.function(ENGINE, "engine::start"), Some(true));
}

#[test]
fn the_host_may_be_named_and_no_other_target() {
    let two = Project::new(TWO);
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let coverage = two.coverage(&format!("run --target {host}"));
    two.assert_marks(&coverage, ENGINE);
    let output = two.run("run --target wasm32-unknown-unknown");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("no runtime for wasm32-unknown-unknown"),
        "{said}"
    );
}

#[test]
fn settings_of_the_users_stay() {
    let two = Project::new(TWO);
    two.write(
        ".cargo/config.toml",
        "[build]\nrustflags = [\"--cfg\", \"theirs\", \"--check-cfg\", \"cfg(theirs)\"]\n",
    );
    two.write(
        APP,
        "fn main() {\n    if cfg!(theirs) {\n        println!(\"theirs\"); // ran\n    }\n    engine::start(1);\n}\n",
    );
    let coverage = two.coverage("run");
    two.assert_marks(&coverage, APP);
    let manifest = std::fs::read_to_string(two.path("Cargo.toml")).unwrap();
    assert_eq!(manifest, TWO[0].1, "no file of the project is changed");
    let mut files: Vec<_> = std::fs::read_dir(two.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let expected = [
        ".cargo",
        "Cargo.lock",
        "Cargo.toml",
        "app",
        "engine",
        "lcov.info",
        "target",
    ];
    assert_eq!(files, expected);
}
