// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix: every clause, and what it comes to on every host.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
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

/// Keeps a host's results. Of cases that were not run, such as those that a filter left out, what
/// was kept before stays.
///
/// # Errors
/// If they cannot be read or written.
pub fn keep(host: &str, results: &Results) -> Result<(), String> {
    keep_in(&folder(), host, results)
}

fn keep_in(folder: &Path, host: &str, results: &Results) -> Result<(), String> {
    let path = folder.join(format!("{host}.jsonl"));
    let say = |error: std::io::Error| format!("{}: {error}", path.display());
    let before = match fs::read_to_string(&path) {
        Ok(text) => result::parse(&text).remove(host).unwrap_or_default(),
        Err(error) if error.kind() == ErrorKind::NotFound => Results::new(),
        Err(error) => return Err(say(error)),
    };
    let mut all: Results = cases()
        .filter_map(|case| before.get_key_value(case.id))
        .map(|(case, verdict)| (case.clone(), verdict.clone()))
        .collect();
    all.extend(results.clone());
    fs::write(&path, result::print(host, &all)).map_err(say)
}

/// The cases of which a host has no result.
fn not_run<'r>(results: &'r Results) -> impl Iterator<Item = &'static str> + 'r {
    let ids = cases().map(|case| case.id);
    ids.filter(|id| !results.contains_key(*id))
}

/// The section of the page that lists what was not run, empty if everything was.
#[must_use]
pub fn gaps(hosts: &BTreeMap<String, Results>) -> String {
    let mut text = String::new();
    for (name, results) in hosts {
        let cases: Vec<&str> = not_run(results).collect();
        if !cases.is_empty() {
            let _ = writeln!(text, "- {name}: `{}`", cases.join("`, `"));
        }
    }
    if text.is_empty() {
        return text;
    }
    format!("## What was not run\n\nCases that are newer than the results of a host.\n\n{text}\n")
}

/// One cell: what the cases of a clause came to.
fn cell(clause: &str, results: &Results) -> String {
    let of_clause = cases().filter(|case| case.clause() == clause);
    let (mut pass, mut differs, mut harms, mut fail) = (0, 0, 0, 0);
    let (mut skip, mut not_run) = (0, 0);
    for case in of_clause {
        match results.get(case.id) {
            Some(Verdict::Pass | Verdict::Short(_)) => pass += 1,
            Some(Verdict::Differs(_)) => differs += 1,
            Some(Verdict::Harms(_)) => harms += 1,
            Some(Verdict::Fail(_)) => fail += 1,
            Some(Verdict::Skip(_)) => skip += 1,
            None => not_run += 1,
        }
    }
    if pass + differs + harms + fail + not_run == 0 {
        return "cannot apply".into();
    }
    let total = pass + differs + harms + fail + skip + not_run;
    let mut parts = Vec::new();
    for (n, word) in [
        (fail, "**FAILS**"),
        (harms, "harmful"),
        (differs, "differs"),
        (pass, "pass"),
        (not_run, "not run"),
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
    text.push_str("\n## In numbers\n\n| host | pass | differs | harmful | fails | cannot apply | not run |\n| --- | --- | --- | --- | --- | --- | --- |\n");
    for (name, results) in hosts {
        let count = |is: fn(&Verdict) -> bool| results.values().filter(|v| is(v)).count();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} |",
            count(|v| matches!(v, Verdict::Pass | Verdict::Short(_))),
            count(|v| matches!(v, Verdict::Differs(_))),
            count(|v| matches!(v, Verdict::Harms(_))),
            count(|v| matches!(v, Verdict::Fail(_))),
            count(|v| matches!(v, Verdict::Skip(_))),
            not_run(results).count(),
        );
    }
    text.push('\n');
    text.push_str(&gaps(hosts));
    text.push_str("## What cannot apply, and why\n\n");
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
clause's cases had that result; the others do not apply, or had the other result in the cell. `not run`: the host's
results are older than the case. Cases that damage a kcov (`harmful`) were not run there. Differences are those of
`conformance/differences.toml` ([the table](conformance-differences.md)).

";

#[cfg(test)]
mod tests {
    use super::*;

    fn of_clause(clause: &str) -> Vec<&'static str> {
        let ids = cases().filter(|case| case.clause() == clause);
        ids.map(|case| case.id).collect()
    }

    #[test]
    fn what_was_not_run_is_told_from_what_cannot_apply() {
        let clause = "errno.unknown";
        let ids = of_clause(clause);
        assert_eq!(ids.len(), 2);
        let skip = Verdict::Skip("for some reason".into());
        let host = |verdicts: &[Verdict]| {
            let named = ids.iter().map(|id| (*id).to_owned());
            named.zip(verdicts.iter().cloned()).collect::<Results>()
        };
        for (verdicts, says) in [
            (vec![], "not run"),
            (vec![skip.clone()], "not run 1/2"),
            (vec![Verdict::Pass], "pass 1/2, not run 1/2"),
            (vec![skip.clone(), skip], "cannot apply"),
            (vec![Verdict::Pass, Verdict::Pass], "pass"),
        ] {
            assert_eq!(cell(clause, &host(&verdicts)), says);
        }

        let mut all: Results = cases().map(|c| (c.id.into(), Verdict::Pass)).collect();
        let gaps_of = |all: &Results| gaps(&BTreeMap::from([("guest".into(), all.clone())]));
        assert_eq!(gaps_of(&all), "");
        all.remove(ids[1]);
        let line = format!("- guest: `{}`\n", ids[1]);
        assert!(gaps_of(&all).contains(&line), "{}", gaps_of(&all));
    }

    #[test]
    fn results_of_some_cases_leave_the_others_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let ids = of_clause("errno.unknown");
        let keep = |results: &Results| keep_in(folder.path(), "host", results).unwrap();
        let kept = || {
            let text = fs::read_to_string(folder.path().join("host.jsonl")).unwrap();
            result::parse(&text).remove("host").unwrap()
        };
        let fails = Verdict::Fail("it does".into());
        let both = Results::from([
            (ids[0].to_owned(), fails.clone()),
            (ids[1].to_owned(), fails.clone()),
            ("no.case.has-this-name".to_owned(), fails.clone()),
        ]);
        keep(&both);
        assert_eq!(kept(), both);
        keep(&Results::from([(ids[1].to_owned(), Verdict::Pass)]));
        let merged = Results::from([
            (ids[0].to_owned(), fails),
            (ids[1].to_owned(), Verdict::Pass),
        ]);
        assert_eq!(kept(), merged, "and what is no case any more is gone");
    }
}
