// SPDX-License-Identifier: MIT OR Apache-2.0
//! What speaks against the numbers of a view.

use super::{Parties, StreamSummary, View};
use crate::trace::{Drops, Loss};

/// One thing that speaks against the numbers of a view: what was dropped, lost or overwritten.
#[derive(Clone, Debug)]
pub enum Alarm {
    /// Records were dropped, for these reasons.
    Dropped(Vec<Drops>),
    /// Something else is missing.
    Lost(Loss),
    /// So many PCs belong to no known module.
    NoModule(u64),
    /// So many PCs have neither line nor function.
    NoName(u64),
    /// The program overwrote the buffers of so many threads.
    Overwritten(u64),
    /// So many records of finished threads are blank.
    Blank(u64),
    /// The end of this run's trace is missing.
    Unfinished(String),
}

impl View<'_> {
    /// What speaks against the numbers.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        let coverage = self.coverage;
        let selected = self.selection.streams.iter();
        let selected: Vec<&StreamSummary> = selected
            .filter_map(|index| coverage.streams.get(index))
            .collect();
        let losses = coverage.losses(&self.selection);
        let (drops, others): (Vec<Loss>, Vec<Loss>) =
            losses.into_iter().partition(|loss| loss.reason.is_drop());
        let drops = Drops::sums(&drops.iter().map(Drops::from).collect::<Vec<_>>());
        let count = |what: fn(&StreamSummary) -> u64| selected.iter().map(|s| what(s)).sum::<u64>();
        let nowhere = count(|stream| stream.lost.nowhere + stream.lost.ambiguous);
        let unknown: u64 = coverage.images.iter().map(|image| image.unknown).sum();
        let overwritten = selected.iter().copied().filter(|stream| stream.count_lost);
        let overwritten = overwritten.collect::<Parties>().threads() as u64;
        let blank = count(|stream| match stream.info.finished {
            true => stream.unwritten,
            false => 0,
        });

        let mut alarms = Vec::new();
        if !drops.is_empty() {
            alarms.push(Alarm::Dropped(drops));
        }
        alarms.extend(others.into_iter().map(Alarm::Lost));
        let counted = [
            (nowhere, Alarm::NoModule(nowhere)),
            (unknown, Alarm::NoName(unknown)),
            (overwritten, Alarm::Overwritten(overwritten)),
            (blank, Alarm::Blank(blank)),
        ];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        alarms.extend(counted.map(|(_, alarm)| alarm));
        let unfinished = coverage.runs.iter().filter(|run| !run.finished);
        alarms.extend(unfinished.map(|run| Alarm::Unfinished(run.name.clone())));
        alarms
    }
}
