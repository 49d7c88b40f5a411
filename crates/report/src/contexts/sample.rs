// SPDX-License-Identifier: MIT OR Apache-2.0
//! Coverages for tests: contexts and streams come from a trace, what they ran is made up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use crate::coverage::{Coverage, Function, Hits, Named, SourceFile};
use crate::image::Search;
use crate::trace::{Context, ContextKind, Ended, Info, Mode, Process, StreamInfo, Trace, Writer};

/// When the runs began, in seconds.
pub(crate) const BEGAN: u64 = 1_700_000_000;

/// A context: its kind, its name, and for how many milliseconds it went on, if it has ended.
pub(crate) type Work<'a> = (ContextKind, &'a str, Option<u64>);

/// A coverage without files that has these contexts, and a stream in each of `streams`: the number of a
/// context, or none.
pub(crate) fn coverage(contexts: &[Work<'_>], streams: &[Option<usize>]) -> Coverage {
    let began = UNIX_EPOCH + Duration::from_secs(BEGAN);
    let info = Info {
        directory: "/p".into(),
        started: began,
        ..Info::new(Mode::Unique)
    };
    let mut writer = Writer::new(Vec::new(), &info).unwrap();
    let process = writer.process(&Process::default()).unwrap();
    let ids: Vec<_> = contexts
        .iter()
        .map(|(kind, name, time)| {
            let context = Context {
                began: Some(began),
                ended: match time {
                    Some(time) => Ended::At(began + Duration::from_millis(*time)),
                    None => Ended::No,
                },
                ..Context::new(*kind, *name)
            };
            writer.context(&context).unwrap()
        })
        .collect();
    for (tid, context) in (1..).zip(streams) {
        let info = StreamInfo {
            tid,
            context: context.map(|number| ids[number]),
            finished: true,
            count: 1,
            ..StreamInfo::new(process)
        };
        writer.stream(&info, [0x1000]).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let trace = Trace::parse(&bytes).unwrap();
    let named = Named {
        name: "a.rkcov",
        trace: &trace,
    };
    Coverage::new(&[named], &Search::default()).unwrap()
}

/// Who ran something, and who may have.
pub(crate) fn hits(streams: &[usize], maybe: &[usize]) -> Hits {
    Hits {
        streams: streams.iter().copied().collect(),
        count: streams.len() as u64,
        maybe: maybe.iter().copied().collect(),
    }
}

/// Puts a file into a coverage.
pub(crate) fn file(
    coverage: &mut Coverage,
    path: &str,
    lines: impl IntoIterator<Item = (u32, Hits)>,
    functions: &[(&str, u32, u32)],
) {
    let lines: BTreeMap<u32, Hits> = lines.into_iter().collect();
    let functions = functions.iter().map(|(name, first, last)| Function {
        name: (*name).into(),
        lines: (*first, *last),
        hits: Hits::default(),
    });
    let source = SourceFile {
        lines,
        functions: functions.collect(),
        complete: true,
        ..SourceFile::default()
    };
    coverage.files.insert(PathBuf::from(path), source);
}
