// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user may require of a report: enough covered lines, and that all files are there.

use super::percent::Percent;
use super::{warn, Error, Reporter, Thresholds};
use rkcov_report::coverage::{ImageSummary, StreamSummary, View};
use rkcov_report::image::Problem;
use rkcov_report::trace::Mode;

impl Reporter<'_> {
    /// What the user made a condition: enough lines, and that what ran is there.
    pub(super) fn judged(&self) -> Result<(), Error> {
        let options = &self.request.options;
        let least = options.fail_under_lines.or(options.fail_under_patch);
        let option = match options.fail_under_lines {
            Some(_) => "--fail-under-lines",
            None => "--fail-under-patch",
        };
        let Some(view) = &self.view else {
            return match least {
                Some(least) => Err(Error::NotJudged {
                    option,
                    least,
                    why: "the format pcs has no lines; use another format".to_owned(),
                }),
                None => Ok(()),
            };
        };
        if options.since.is_some() {
            let (ran, all) = (view.lines_ran(), view.lines_all());
            match Percent::of(ran, all) {
                Some(share) => warn(&format_args!("{ran} of {all} changed lines ran, {share}")),
                None => warn(&"no changed line has code"),
            }
        }
        let changed = warn_of_changes(view);
        let absent = view.coverage.images.iter();
        let absent = absent.filter_map(ImageSummary::absence);
        let (rebuilt, missing): (Vec<_>, Vec<_>) =
            absent.partition(|problem| matches!(problem, Problem::Changed { .. }));
        let (missing, rebuilt) = (missing.len(), rebuilt.len());
        if missing + rebuilt > 0 && !options.allow_missing {
            return Err(Error::Absent { missing, rebuilt });
        }
        let configured = self.request.thresholds == Thresholds::OfConfiguration;
        match least {
            // One that is for all traces is for those that have such lines.
            Some(_) if configured && view.coverage.mode == Mode::Cmp => Ok(()),
            // What was changed since is what the question is about.
            Some(least) if changed && options.since.is_some() && !options.allow_missing => {
                Err(Error::NotJudged {
                    option,
                    least,
                    why: "sources changed after the program was built; rebuild and record again, or accept \
                          this by --allow-missing"
                        .to_owned(),
                })
            }
            Some(least) => judge(view, option, least),
            None => Ok(()),
        }
    }
}

/// Says which sources were changed after they were compiled. Whether there are any.
fn warn_of_changes(view: &View<'_>) -> bool {
    const NAMED: usize = 3;
    let changed = view.files.iter().filter(|file| {
        let source = view.coverage.file(file.path);
        source.is_some_and(|source| source.is_older_than(file.path))
    });
    let names: Vec<String> = changed
        .map(|file| file.path.display().to_string())
        .collect();
    let (named, more) = names.split_at(names.len().min(NAMED));
    if named.is_empty() {
        return false;
    }
    let more = match more.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    warn(&format_args!(
        "{}{more} changed after the program was built: line numbers may be wrong; rebuild and \
         record again",
        named.join(", ")
    ));
    true
}

/// Whether as many lines ran as should have.
fn judge(view: &View<'_>, option: &'static str, least: Percent) -> Result<(), Error> {
    let not_judged = |why: String| Err(Error::NotJudged { option, least, why });
    if !view.is_complete() {
        return not_judged("uncovered lines cannot be determined for all files".to_owned());
    }
    let coverage = view.coverage;
    let losses = coverage.losses(&view.selection);
    let lost = !losses.is_empty()
        || coverage
            .runs
            .iter()
            .any(|run| run.is_lossy() || !run.finished)
        || coverage.streams.iter().any(StreamSummary::is_lossy);
    if lost {
        let why = losses
            .first()
            .map(|loss| format!(" ({loss})"))
            .unwrap_or_default();
        return not_judged(format!(
            "not all that ran was recorded{why}, so uncovered lines cannot be determined"
        ));
    }
    if coverage.mode == Mode::Cmp {
        return not_judged("a trace of comparisons has no uncovered lines".to_owned());
    }
    let (ran, known) = (view.lines_ran(), view.lines_all());
    match Percent::of(ran, known) {
        None => not_judged("there are no lines".to_owned()),
        Some(share) if share < least => Err(Error::TooFew {
            option,
            ran,
            known,
            share,
            least,
        }),
        Some(_) => Ok(()),
    }
}
