// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix: every clause, and what it comes to on every host.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cases::{cases, clauses, Case};
use crate::result::{self, Results, Verdict};

/// Where results are kept, one file for each host.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("results")
}

/// Where the matrix is kept.
#[must_use]
pub fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance-matrix.md")
}

/// All results that are kept.
///
/// # Errors
/// If they cannot be read.
pub fn kept() -> Result<BTreeMap<String, Results>, String> {
    let folder = folder();
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut hosts = BTreeMap::new();
    for entry in fs::read_dir(&folder).map_err(say)? {
        let path = entry.map_err(say)?.path();
        if path.extension().is_some_and(|e| e == "jsonl") {
            hosts.extend(result::parse(&fs::read_to_string(&path).map_err(say)?));
        }
    }
    Ok(hosts)
}

/// Keeps a host's results.
///
/// # Errors
/// If they cannot be written.
pub fn keep(host: &str, results: &Results) -> Result<(), String> {
    let path = folder().join(format!("{host}.jsonl"));
    fs::write(&path, result::print(host, results)).map_err(|e| format!("{}: {e}", path.display()))
}

/// One cell: what the cases of a clause came to.
fn cell(clause: &str, results: &Results) -> String {
    let of_clause = cases().filter(|case| case.clause() == clause);
    let (mut pass, mut differs, mut harms, mut fail, mut skip) = (0, 0, 0, 0, 0);
    for case in of_clause {
        match results.get(case.id) {
            Some(Verdict::Pass | Verdict::Short(_)) => pass += 1,
            Some(Verdict::Differs(_)) => differs += 1,
            Some(Verdict::Harms(_)) => harms += 1,
            Some(Verdict::Fail(_)) => fail += 1,
            Some(Verdict::Skip(_)) | None => skip += 1,
        }
    }
    if pass + differs + harms + fail == 0 {
        return "cannot apply".into();
    }
    let total = pass + differs + harms + fail + skip;
    let mut parts = Vec::new();
    for (n, word) in [
        (fail, "**FAILS**"),
        (harms, "harmful"),
        (differs, "differs"),
        (pass, "pass"),
    ] {
        if n == total {
            parts.push(word.to_owned());
        } else if n > 0 {
            parts.push(format!("{word} {n}/{total}"));
        }
    }
    parts.join(", ")
}

/// The matrix as a page.
#[must_use]
pub fn print(hosts: &BTreeMap<String, Results>) -> String {
    let mut text = String::from(PREFACE);
    let names: Vec<&String> = hosts.keys().collect();
    let _ = write!(text, "| clause |");
    for name in &names {
        let _ = write!(text, " {name} |");
    }
    let _ = write!(
        text,
        " what must hold |\n| --- |{}",
        " --- |".repeat(names.len() + 1)
    );
    text.push('\n');
    for clause in clauses() {
        let _ = write!(text, "| `{}` |", clause.id);
        for results in hosts.values() {
            let _ = write!(text, " {} |", cell(clause.id, results));
        }
        let _ = writeln!(text, " {} |", clause.text);
    }
    text.push_str("\n## In numbers\n\n| host | pass | differs | harmful | fails | cannot apply |\n| --- | --- | --- | --- | --- | --- |\n");
    for (name, results) in hosts {
        let count = |is: fn(&Verdict) -> bool| results.values().filter(|v| is(v)).count();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} |",
            count(|v| matches!(v, Verdict::Pass | Verdict::Short(_))),
            count(|v| matches!(v, Verdict::Differs(_))),
            count(|v| matches!(v, Verdict::Harms(_))),
            count(|v| matches!(v, Verdict::Fail(_))),
            count(|v| matches!(v, Verdict::Skip(_))),
        );
    }
    text.push_str("\n## What cannot apply, and why\n\n");
    for (name, results) in hosts {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for case in cases().map(|case: &Case| case.id) {
            if let Some(Verdict::Skip(why)) = results.get(case) {
                reasons.entry(why).or_default().push(case);
            }
        }
        let _ = writeln!(text, "### {name}\n");
        for (why, cases) in reasons {
            let _ = writeln!(text, "- {why}: `{}`", cases.join("`, `"));
        }
        text.push('\n');
    }
    text.push_str(&short(hosts));
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Which cases passed with fewer rounds than they should have, for want of time.
fn short(hosts: &BTreeMap<String, Results>) -> String {
    let mut text = String::new();
    for (name, results) in hosts {
        for (case, verdict) in results {
            if let Verdict::Short(rounds) = verdict {
                let _ = writeln!(text, "- {name}: `{case}`, {rounds}");
            }
        }
    }
    if text.is_empty() {
        return text;
    }
    format!("## What was cut short\n\nOn machines where a round takes long, such as emulated ones.\n\n{text}")
}

const PREFACE: &str = "\
# The conformance matrix

Written by `cargo run -p rkcov-conformance -- matrix --write` from the results in
`conformance/results/`, which `... -- run --host NAME --keep` updates. A cell with a fraction shows how many of the
clause's cases had that result; the others do not apply, or had the other result in the cell. Cases that damage a kcov
were not run there. Differences are those of `conformance/differences.toml` ([the table](conformance-differences.md)).

";
