// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that collect from themselves under `rkcov run`: the collector gets its copy.

use crate::losses::{Case, Says};
use crate::support::{succeed, Lab, RKCOV};
use std::path::Path;
use std::process::Command;

#[test]
fn what_a_client_collects_has_run_for_the_collector_too() {
    const SECTION: &str = "return n * 3;";
    const COLLECTION: &str = "return n * 5;";
    let lab = Lab::new();
    let program = lab.path("client");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/programs/client.c");
    let mut cc = Command::new(RKCOV);
    cc.args(["cc", "gcc", "-g", "-O0", "-Wall", "-Werror", "-pthread"]);
    succeed(cc.arg(source).arg("-o").arg(&program));
    let mut case = Case::of(lab, program);
    for (mode, script, ran, missed) in [
        ("unique", "$P ''", SECTION, COLLECTION),
        ("unique", "$P listen", SECTION, COLLECTION),
        ("unique", "$P listen cmp", SECTION, COLLECTION),
        ("unique", "$P local", COLLECTION, SECTION),
        ("unique", "$P local cmp", COLLECTION, SECTION),
        ("trace", "$P listen", SECTION, COLLECTION),
        ("trace", "$P local", COLLECTION, SECTION),
    ] {
        case.run(&["--mode", mode], script);
        let says = |line| case.line("client.c", line);
        assert_eq!(says(ran), Says::Ran, "{mode} {script}");
        assert_eq!(says(missed), Says::Missed, "{mode} {script}");
        case.lost_nothing();
    }
}
