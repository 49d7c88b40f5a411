// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that a test makes by the thousand: a stream for each would be longer than what they ran.

use rkcov_report::trace::{ContextId, ProcessId, StreamInfo};
use std::collections::{BTreeMap, BTreeSet};

/// So many threads of one name have streams of their own in each context; what the others ran is in one
/// stream.
const APART: usize = 16;

/// The threads of one name that ran in one context.
#[derive(Debug, Default)]
struct Crowd {
    threads: usize,
    rest: Option<(StreamInfo, BTreeSet<u64>)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Crowds(BTreeMap<(ProcessId, ContextId, String), Crowd>);

impl Crowds {
    /// Keeps what a stream has, the order of which says nothing, for the stream of its crowd. Nothing is
    /// kept, and the answer is no, if the stream is one for itself: it is among the first, or it lost
    /// something.
    pub(crate) fn keep(&mut self, info: &StreamInfo, words: impl Iterator<Item = u64>) -> bool {
        let Some(context) = info.context.filter(|_| info.drops.is_empty()) else {
            return false;
        };
        let key = (info.process, context, info.name.clone());
        let crowd = self.0.entry(key).or_default();
        crowd.threads += 1;
        if crowd.threads <= APART {
            return false;
        }
        let (shared, all) = crowd.rest.get_or_insert_with(|| {
            let shared = StreamInfo {
                tid: 0,
                main: false,
                ..info.clone()
            };
            (shared, BTreeSet::new())
        });
        shared.finished &= info.finished;
        if shared.creator != info.creator {
            shared.creator = 0;
        }
        all.extend(words.filter(|word| *word != 0));
        true
    }

    /// The streams of those that have none of their own, and their words.
    pub(crate) fn streams(self) -> impl Iterator<Item = (StreamInfo, BTreeSet<u64>)> {
        let rest = self.0.into_values().filter_map(|crowd| crowd.rest);
        rest.map(|(mut info, words)| {
            info.count = words.len() as u64;
            info.capacity = info.count;
            (info, words)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rkcov_report::trace::{
        Context, ContextKind, DropReason, Drops, Info, Mode, Process, Writer,
    };

    #[test]
    fn the_first_are_apart_and_the_others_together() {
        let mut writer = Writer::new(Vec::new(), &Info::new(Mode::Unique)).unwrap();
        let process = writer.process(&Process::default()).unwrap();
        let context = Context::new(ContextKind::Test, "a");
        let context = writer.context(&context).unwrap();
        let mut crowds = Crowds::default();
        let mut info = StreamInfo {
            context: Some(context),
            name: "a".to_owned(),
            finished: true,
            ..StreamInfo::new(process)
        };
        for tid in 1..=20_u32 {
            (info.tid, info.creator) = (tid, 100 + tid / 20);
            let kept = crowds.keep(&info, [7, 0, tid.into()].into_iter());
            assert_eq!(kept, tid > 16, "{tid}");
        }
        // One that lost something says so itself, and one of another name has few like it.
        let lossy = StreamInfo {
            drops: vec![Drops {
                reason: DropReason::Full,
                count: 1,
            }],
            ..info.clone()
        };
        assert!(!crowds.keep(&lossy, [8].into_iter()));
        info.name = "b".to_owned();
        assert!(!crowds.keep(&info, [9].into_iter()));
        info.context = None;
        assert!(!crowds.keep(&info, [9].into_iter()));
        let streams: Vec<_> = crowds.streams().collect();
        let [(shared, words)] = &streams[..] else {
            panic!("{streams:?}");
        };
        assert!(words.iter().eq(&[7, 17, 18, 19, 20]));
        assert_eq!((shared.tid, shared.creator, shared.count), (0, 0, 5));
        assert!(shared.finished && shared.name == "a");
    }
}
