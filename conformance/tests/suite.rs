// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suite on every host that needs nothing but this program, and the pages made of it.

use std::collections::BTreeMap;
use std::fs;

use rkcov_conformance::differences::Differences;
use rkcov_conformance::hosts::SIMULATED;
use rkcov_conformance::result::{Results, Verdict};
use rkcov_conformance::{matrix, suite};

fn failures(results: &Results) -> Vec<String> {
    let failed = results.iter().filter_map(|(case, verdict)| match verdict {
        Verdict::Fail(why) => Some(format!("{case}: {why}")),
        _ => None,
    });
    failed.collect()
}

#[test]
fn simulated_hosts_pass_and_their_results_are_kept() {
    let kept = matrix::kept().unwrap();
    for kind in SIMULATED {
        let results = suite::play_all(&kind);
        let name = kind.name();
        assert_eq!(failures(&results), Vec::<String>::new(), "{name}");
        let stale = "run `cargo run -p rkcov-conformance -- run --keep`";
        assert_eq!(kept.get(name), Some(&results), "{name}: {stale}");
    }
}

#[test]
fn the_pages_are_those_of_the_kept_results() {
    let page = fs::read_to_string(matrix::page()).unwrap();
    let stale = "run `cargo run -p rkcov-conformance -- matrix --write`";
    let kept = matrix::kept().unwrap();
    assert!(page == matrix::print(&kept), "{stale}");
    // No failure: most of these hosts are guests, which take hours. The page has the same list.
    print!("{}", matrix::gaps(&kept));

    let page = fs::read_to_string(matrix::page().with_file_name("conformance-differences.md"));
    let stale = "run `cargo run -p rkcov-conformance -- differences --write`";
    let table = Differences::known().unwrap();
    assert!(page.unwrap() == table.page(), "{stale}");
}

/// No clause may be without a host that shows it, but for those of real machines.
#[test]
fn every_clause_applies_somewhere() {
    let kept = matrix::kept().unwrap();
    let mut shown: BTreeMap<&str, bool> = BTreeMap::new();
    for case in rkcov_conformance::cases::cases() {
        let passes = kept
            .values()
            .any(|r| r.get(case.id) == Some(&Verdict::Pass));
        *shown.entry(case.clause()).or_default() |= passes;
    }
    let unshown: Vec<&str> = shown
        .iter()
        .filter(|(_, shown)| !**shown)
        .map(|(c, _)| *c)
        .collect();
    for clause in unshown {
        let needs_machine = [
            "program.",
            "subject.",
            "publish.",
            "isolate.stress",
            "race.",
            "hostile.scribbler",
        ];
        assert!(
            needs_machine.iter().any(|p| clause.starts_with(p)),
            "{clause}"
        );
    }
}
