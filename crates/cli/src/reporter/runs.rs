// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table that databases read: of all traces as one run, or of each trace as a run.

use super::Reporter;
#[cfg(feature = "parquet")]
use super::{filter, search, together};
use rkcov_report::coverage::View;
#[cfg(feature = "parquet")]
use rkcov_report::coverage::{Coverage, Named};
#[cfg(feature = "parquet")]
use rkcov_report::render;
use std::io::{self, Write};

#[cfg(not(feature = "parquet"))]
impl Reporter<'_> {
    /// There is nothing that could write it.
    pub(super) fn table(&self, _: &View<'_>, _: &mut dyn Write) -> io::Result<()> {
        Err(io::Error::other(super::Error::NoParquet))
    }
}

#[cfg(feature = "parquet")]
impl Reporter<'_> {
    /// Writes the table.
    pub(super) fn table(&self, view: &View<'_>, to: &mut dyn Write) -> io::Result<()> {
        let by_context = self.contexts.is_some();
        let mut table = render::Table::new(to)?;
        match (&self.request.options.run_name, self.named) {
            (Some(name), _) => table.add(name, view, by_context)?,
            (None, [one]) => table.add(one.name, view, by_context)?,
            (None, all) => {
                for named in all {
                    self.add_alone(*named, by_context, &mut table)?;
                }
            }
        }
        table.finish()
    }

    /// Adds what a report of this trace alone says: a program that it does not have is not in its run. The
    /// report of all has printed the warnings.
    fn add_alone(
        &self,
        named: Named<'_>,
        by_context: bool,
        table: &mut render::Table<'_>,
    ) -> io::Result<()> {
        let request = self.request;
        let options = &request.options;
        let coverage = Coverage::new(&[named], &search(request));
        let mut coverage = coverage.map_err(io::Error::other)?;
        let filter = filter(request, &coverage);
        if !options.no_exclusions {
            coverage.exclude(&filter);
        }
        // A context or a thread that is not in this trace is in another.
        let Ok(contexts) = options.contexts.selection(&coverage) else {
            return Ok(());
        };
        let chosen = together(&coverage, contexts, &options.thread, options.exclusive);
        let Ok(selection) = chosen else {
            return Ok(());
        };
        let mut view = View::new(&coverage, selection, &filter);
        if let Some(changes) = &self.changes {
            changes.restrict(&mut view);
        }
        table.add(named.name, &view, by_context)
    }
}
