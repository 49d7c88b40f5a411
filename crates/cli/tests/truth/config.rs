// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov.toml`: what it says holds for every report, options win, and what is not known is refused.

use std::fs;

use super::lines::Built;

const SOURCE: &str = "\
#include \"a.h\"
int main(int argc, char **argv) {
    (void)argv;
    if (argc > 7)
        argc = 3;
    return helper(argc) > 99;
}
";
const HEADER: &str = "\
static int helper(int n) {
    return n + 1;
}
";

/// Line 5 of the source did not run: 7 of 8 lines ran.
fn build() -> Built {
    let sources = [("p.c", SOURCE), ("a.h", HEADER)];
    Built::new(&sources, "cc gcc -g -O0 p.c -o p", "")
}

/// The exit status of a report with these options, and what it says on both outputs.
fn report(built: &Built, options: &str) -> (Option<i32>, String) {
    let mut command = built.command(&format!("report t.rkcov --summary-only {options}"));
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn options_win_over_the_configuration() {
    let built = build();
    let config = |text: &str| fs::write(built.path().join("rkcov.toml"), text).unwrap();
    let shows = |options: &str| {
        let (status, text) = report(&built, options);
        (status, text.contains("p.c"), text.contains("a.h"))
    };
    assert_eq!(shows(""), (Some(0), true, true));
    config("[report]\nexclude = ['a.h']\n");
    assert_eq!(shows(""), (Some(0), true, false));
    assert_eq!(shows("--exclude p.c"), (Some(0), false, true));
    assert_eq!(shows("--no-config"), (Some(0), true, true));
    fs::write(
        built.path().join("other.toml"),
        "[report]\nfilter = ['a.h']\n",
    )
    .unwrap();
    assert_eq!(shows("--config other.toml"), (Some(0), false, true));

    // It also holds below its folder.
    let inner = built.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let mut below = built.command("report ../t.rkcov --summary-only");
    let below = below.current_dir(&inner).output().unwrap();
    let text = String::from_utf8(below.stdout).unwrap();
    assert!(text.contains("p.c") && !text.contains("a.h"), "{text}");
}

#[test]
fn thresholds_are_for_what_the_configuration_shows() {
    let built = build();
    let config = |text: &str| fs::write(built.path().join("rkcov.toml"), text).unwrap();
    config("[report]\nfail-under-lines = 95\n");
    let (status, said) = report(&built, "");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("requires 95 %"), "{said}");
    for options in [
        "--fail-under-lines 50",
        "--filter p.c",
        "--thread main",
        "--format pcs",
        "--no-config",
    ] {
        let options = options.replace("--format pcs", "--format pcs=pcs");
        let (status, said) = report(&built, &options);
        assert_eq!(status, Some(0), "{options}: {said}");
    }
    config("[report]\nfail-under-lines = 95\nfilter = ['a.h']\n");
    assert_eq!(report(&built, "").0, Some(0), "all lines of the header ran");

    // A run that is reported at once is not judged.
    config("[report]\nfail-under-lines = 95\n");
    built.rkcov("run --report text -o again.rkcov -- ./p");
}

#[test]
fn what_it_does_not_know_is_refused() {
    let built = build();
    for (text, why) in [
        (
            "[report]\nfilters = []\n",
            "rkcov.toml:2: unknown field `filters`",
        ),
        ("[report]\nfilter = 'a.h'\n", "rkcov.toml:2: invalid type"),
        ("[coverage]\n", "rkcov.toml:1: unknown field `coverage`"),
    ] {
        fs::write(built.path().join("rkcov.toml"), text).unwrap();
        let (status, said) = report(&built, "");
        assert!(status == Some(1) && said.contains(why), "{said}");
    }
    fs::remove_file(built.path().join("rkcov.toml")).unwrap();
    let (status, said) = report(&built, "--config nowhere.toml");
    assert!(
        status == Some(1) && said.contains("cannot read nowhere.toml"),
        "{said}"
    );
}
