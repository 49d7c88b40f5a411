// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plays cases on hosts.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Conclusion, Trial};

use crate::cases::{cases, Case};
use crate::differences::Table;
use crate::hosts::Kind;
use crate::result::{Results, Verdict};
use crate::stage::{Stage, Stop};

/// How many lines of a failed case's script are shown.
const SHOWN: usize = 60;

/// Plays one case on a new host.
#[must_use]
pub fn play(case: &Case, kind: &Kind, table: &Table) -> Verdict {
    let mut script = String::new();
    let mut short = None;
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut host = kind.make().map_err(Stop::from)?;
        let mut stage = Stage::new(&mut *host);
        let played = case.play(&mut stage);
        script = stage.script();
        short = stage.short();
        played
    }))
    .unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Stop::Failed(format!("panicked: {message}")))
    });
    match table.judge(case.id, played) {
        Verdict::Pass => short.map_or(Verdict::Pass, Verdict::Short),
        Verdict::Fail(why) => {
            let lines: Vec<&str> = script.lines().collect();
            let from = lines.len().saturating_sub(SHOWN);
            Verdict::Fail(format!("{why}\n{}", lines[from..].join("\n")))
        }
        other => other,
    }
}

/// Plays all cases on a host, quietly.
#[must_use]
pub fn play_all(kind: &Kind) -> Results {
    let table = Table::default();
    let played = cases().map(|case| (case.id.to_owned(), play(case, kind, &table)));
    played.collect()
}

/// Plays cases on hosts as a test program does, and what they came to. Those that harm the kcov, as
/// the table says, are played by themselves.
pub fn run(
    arguments: &Arguments,
    kinds: &[Kind],
    table: Table,
    harmful: bool,
) -> (Conclusion, Vec<Results>) {
    let table = Arc::new(table);
    let mut trials = Vec::new();
    let mut all = Vec::new();
    for kind in kinds {
        let results = Arc::new(Mutex::new(Results::new()));
        all.push(Arc::clone(&results));
        for case in cases() {
            // What harms the kcov is played by itself.
            let harms = table.row(case.id).and_then(|row| row.harms.clone());
            if harmful && harms.is_none() {
                continue;
            }
            let spared = harms.filter(|_| !harmful);
            let (kind, table) = (kind.clone(), Arc::clone(&table));
            let results = Arc::clone(&results);
            let name = match kinds {
                [_] => case.id.to_owned(),
                _ => format!("{}::{}", kind.name(), case.id),
            };
            trials.push(Trial::ignorable_test(name, move || {
                let verdict = match &spared {
                    Some(what) => Verdict::Harms(what.clone()),
                    None => play(case, &kind, &table),
                };
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.insert(case.id.into(), verdict.clone());
                match verdict {
                    Verdict::Pass => Ok(Completion::Completed),
                    Verdict::Short(rounds) => {
                        eprintln!("{}: {rounds}", case.id);
                        Ok(Completion::Completed)
                    }
                    Verdict::Differs(why) => Ok(Completion::ignored_with(format!(
                        "differs as the table says: {why}"
                    ))),
                    Verdict::Harms(what) => Ok(Completion::ignored_with(format!(
                        "not played, for it harms this kcov: {what}"
                    ))),
                    Verdict::Skip(why) => Ok(Completion::ignored_with(why)),
                    Verdict::Fail(why) => Err(format!("{}: {why}", case.title).into()),
                }
            }));
        }
    }
    let conclusion = libtest_mimic::run(arguments, trials);
    let taken = all.iter().map(|results| {
        results
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    });
    (conclusion, taken.collect())
}
