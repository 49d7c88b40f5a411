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
fn programs_without_shared_libraries() {
    let two = Project::new(TWO);
    for flags in [
        r#""-Ctarget-feature=+crt-static""#,
        r#""-Ctarget-feature=+crt-static", "-Crelocation-model=static""#,
        r#""-Ctarget-feature=+crt-static", "-Clinker-features=-lld""#,
        r#""-Crelocation-model=static""#,
    ] {
        two.write(
            ".cargo/config.toml",
            &format!("[build]\nrustflags = [{flags}]\n"),
        );
        for command in ["run", "test"] {
            let coverage = two.coverage(command);
            assert!(
                coverage.ran(ENGINE).contains(&SLOW_MODE),
                "{flags}: {coverage:?}"
            );
        }
    }
}

#[test]
fn a_dependency_of_a_feature_is_included() {
    let project = Project::new(&[
        (
            "Cargo.toml",
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
             [dependencies]\nextra = { path = \"extra\", optional = true }\n\
             [workspace]\nexclude = [\"extra\"]\n",
        ),
        (
            "src/main.rs",
            "fn main() {\n    #[cfg(feature = \"extra\")]\n    extra::extra(); // ran\n}\n",
        ),
        (
            "extra/Cargo.toml",
            "[package]\nname = \"extra\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
        ),
        (
            "extra/src/lib.rs",
            "#[inline(never)]\npub fn extra() {\n    println!(\"extra\"); // ran\n}\n",
        ),
    ]);
    for features in ["--features extra", "-Fextra", "--all-features"] {
        let coverage = project.coverage(&format!("run {features} --include extra"));
        project.assert_marks(&coverage, "extra/src/lib.rs");
    }
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

/// Writes down what it is called with, and does it.
const NOTES: &str = "#!/bin/sh\necho \"$@\" >> \"$NOTES\"\nexec \"$@\"\n";

#[test]
fn a_wrapper_of_the_users_sees_what_is_added() {
    use std::os::unix::fs::PermissionsExt;
    let two = Project::new(TWO);
    two.write("notes.sh", NOTES);
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(two.path("notes.sh"), executable).unwrap();
    let notes = |name: &str| two.path(&format!("{name}.notes"));
    let run = |line: &str, name: &str, variables: &[(&str, &str)]| {
        let mut command = two.command(&format!(
            "{line} --lcov --output-path lcov.info --target-dir {name}"
        ));
        command.env("NOTES", notes(name));
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
        let coverage = two.read_lcov(&two.path("lcov.info"));
        two.assert_marks(&coverage, APP);
        two.assert_marks(&coverage, ENGINE);
        let noted = std::fs::read_to_string(notes(name)).unwrap();
        let instrumented = noted
            .lines()
            .filter(|line| line.contains("sancov-module") && line.contains("--crate-name"));
        assert_eq!(instrumented.count(), 2, "{name}: {noted}");
    };
    let script = two.path("notes.sh");
    let script = script.to_str().unwrap();
    run("run", "variable", &[("RUSTC_WRAPPER", script)]);
    run("run", "workspace", &[("RUSTC_WORKSPACE_WRAPPER", script)]);
    two.write(
        ".cargo/config.toml",
        "[build]\nrustc-wrapper = \"./notes.sh\"\n",
    );
    run("run", "file", &[]);
    two.write(".cargo/config.toml", "[env]\nX = \"y\"\n");
    run(
        &format!("run --config build.rustc-workspace-wrapper='{script}'"),
        "given",
        &[],
    );
}

#[test]
fn sources_with_other_paths_in_what_is_compiled() {
    let two = Project::new(TWO);
    two.write(
        "app/tests/starts.rs",
        "#[test]\nfn starts() {\n    assert_eq!(engine::start(1), 0);\n}\n",
    );
    let report = |flags: &str| {
        let mut command = two.command("test --summary-only");
        let output = command.env("RUSTFLAGS", flags).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let table = text
            .split_once("crates/")
            .map_or(&*text, |(_, table)| table);
        let at = table.find("\n/").unwrap_or(0);
        let end = table.find("\nfolded: ").unwrap_or(table.len());
        (
            table[at..end].to_owned(),
            two.succeed("report --source --filter lib.rs"),
        )
    };
    let (sums, source) = report("");
    assert!(
        sums.contains("by crate") && sums.contains("main.rs"),
        "{sums}"
    );
    let root = two.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    for flags in [
        format!("--remap-path-prefix={root}=/remapped"),
        format!("--remap-path-prefix={root}="),
        format!("--remap-path-prefix {root}=."),
    ] {
        let (now, text) = report(&flags);
        assert_eq!(now, sums, "{flags}");
        assert!(text.contains("return stop(n);"), "{flags}: {text}");
        assert!(source.contains("return stop(n);"), "{source}");
    }
}

#[test]
fn linkers_that_go_from_left_to_right() {
    let two = Project::new(TWO);
    let mut command = two.command("run --lcov --output-path lcov.info");
    let output = command
        .env("RUSTFLAGS", "-Clink-arg=-fuse-ld=bfd")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    two.assert_marks(&two.read_lcov(&two.path("lcov.info")), ENGINE);
}

#[test]
fn folders_of_any_name_members_and_excluded_packages() {
    let root = Project::new(&[]);
    let folder = "my work [1] {a}";
    for (name, text) in TWO {
        root.write(&format!("{folder}/{name}"), text);
    }
    let alone =
        "[workspace]\n[package]\nname = \"alone\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
    root.write(&format!("{folder}/alone/Cargo.toml"), alone);
    let manifest = TWO[0]
        .1
        .replace("[workspace]", "[workspace]\nexclude = [\"alone\"]");
    root.write(&format!("{folder}/Cargo.toml"), &manifest);
    let main = "fn main() {\n    println!(\"alone\"); // ran\n}\n";
    root.write(&format!("{folder}/alone/src/main.rs"), main);
    let run = |inside: &str, line: &str| {
        let mut command = root.command(line);
        command
            .args(["--lcov", "--output-path"])
            .arg(root.path("lcov.info"));
        command.current_dir(root.path(folder).join(inside));
        command.env("RUSTFLAGS", "-Copt-level=1");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{inside}: {line}: {output:?}");
        root.read_lcov(&root.path("lcov.info"))
    };
    let [app, engine, alone] =
        [APP, ENGINE, "alone/src/main.rs"].map(|path| format!("{folder}/{path}"));
    // From the workspace, from a package of it, of one package, without a network.
    let coverage = run("", "run --offline");
    assert_eq!(coverage.files(), [&*app, &*engine]);
    root.assert_marks(&coverage, &app);
    root.assert_marks(&coverage, &engine);
    let coverage = run("engine", "test --offline");
    assert_eq!(coverage.files(), [&*engine]);
    let coverage = run("app", "test --offline -p app");
    assert_eq!(coverage.files(), [&*app]);
    // Not of the workspace around it.
    let coverage = run("alone", "run");
    assert_eq!(coverage.files(), [&*alone]);
    root.assert_marks(&coverage, &alone);
}
