// SPDX-License-Identifier: MIT OR Apache-2.0
//! One trace from several.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{
    Context, ContextId, Drops, Info, Loss, Mode, Module, ProcessId, Scope, StreamInfo, Trace,
    Writer,
};

/// Some traces have PCs and others comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a trace of comparisons and one of PCs cannot be one trace")]
pub struct Incompatible;

impl Info {
    /// How the trace came to be that has all of some others. Of what they do not agree on, it says nothing.
    ///
    /// # Errors
    /// Some have PCs and others comparisons.
    pub fn of_all(all: &[Self]) -> Result<Self, Incompatible> {
        let comparisons = |info: &Self| info.mode == Mode::Cmp;
        let Some((first, others)) = all.split_first() else {
            return Ok(Self::new(Mode::Unique));
        };
        if others
            .iter()
            .any(|info| comparisons(info) != comparisons(first))
        {
            return Err(Incompatible);
        }
        let mut merged = Self {
            tool: Self::new(first.mode).tool,
            ..first.clone()
        };
        for other in others {
            if merged.mode != other.mode {
                // The order of some is not known, and neither is how often they ran what.
                merged.mode = Mode::Unique;
            }
            if merged.command != other.command {
                merged.command.clear();
            }
            merged.directory = common(&merged.directory, &other.directory);
            merged.started = merged.started.min(other.started);
        }
        Ok(merged)
    }
}

/// The folder that has both; none if that is the root.
fn common(a: &Path, b: &Path) -> PathBuf {
    let both = a.ancestors().find(|folder| b.starts_with(folder));
    both.filter(|folder| folder.parent().is_some())
        .unwrap_or(Path::new(""))
        .to_owned()
}

/// Writes a trace that has all of some others, with their processes, threads and contexts. It takes one of
/// them at a time, and keeps of it what a [`Writer`] does: the places that were recorded, once.
#[derive(Debug)]
pub struct Merge<W: Write> {
    writer: Writer<W>,
    mode: Mode,
    ended: SystemTime,
}

impl<W: Write> Merge<W> {
    /// Fills a trace that was begun with `info`, which is [`Info::of_all`] of the others.
    #[must_use]
    pub const fn new(writer: Writer<W>, info: &Info) -> Self {
        Self {
            writer,
            mode: info.mode,
            ended: info.started,
        }
    }

    /// Adds a trace.
    ///
    /// # Errors
    /// What the output says.
    pub fn add(&mut self, trace: &Trace<'_>) -> io::Result<()> {
        self.ended = self
            .ended
            .max(trace.ended().unwrap_or(trace.info().started));
        let mut processes: Vec<ProcessId> = Vec::with_capacity(trace.processes().len());
        for process in trace.processes() {
            processes.push(self.writer.process(process)?);
        }
        let new = |id: ProcessId| processes[id.index()];
        let with_streams: BTreeSet<ProcessId> =
            trace.streams().iter().map(|s| s.info().process).collect();
        for module in trace.modules() {
            // Another trace may be of another kernel, at the same addresses.
            let of: Vec<ProcessId> = match module.process {
                Some(id) => vec![id],
                None => with_streams.iter().copied().collect(),
            };
            for id in of {
                self.writer.module(&Module {
                    process: Some(new(id)),
                    ..module.clone()
                })?;
            }
        }
        let mut contexts: Vec<ContextId> = Vec::with_capacity(trace.contexts().len());
        for context in trace.contexts() {
            contexts.push(self.writer.context(&Context {
                parent: context.parent.map(|id| contexts[id.index()]),
                process: context.process.map(new),
                ..context.clone()
            })?);
        }
        for stream in trace.streams() {
            let info = StreamInfo {
                process: new(stream.info().process),
                context: stream.info().context.map(|id| contexts[id.index()]),
                ..stream.info().clone()
            };
            let ordered = self.mode == trace.info().mode && stream.sets().next().is_none();
            if ordered {
                self.writer.stream(&info, stream.words())?;
            } else {
                self.writer.set(&info, stream.words())?;
            }
        }
        for loss in trace.losses() {
            let scope = match loss.scope {
                // It stands with the stream.
                Scope::Stream(_) => continue,
                Scope::Process(id) => Scope::Process(new(id)),
                scope => scope,
            };
            lose(&mut self.writer, Loss { scope, ..loss })?;
        }
        Ok(())
    }

    /// The trace, which is left to be ended, and the time at which the last of the others ended.
    #[must_use]
    pub fn end(self) -> (Writer<W>, SystemTime) {
        (self.writer, self.ended)
    }
}

/// Drops of records and sections have a section of their own.
fn lose<W: Write>(writer: &mut Writer<W>, loss: Loss) -> io::Result<()> {
    if !loss.reason.is_drop() {
        return writer.loss(&loss);
    }
    let process = match loss.scope {
        Scope::Process(id) => Some(id),
        Scope::Trace | Scope::Module { .. } | Scope::Stream(_) => None,
    };
    writer.drops(process, &[Drops::from(&loss)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{ContextKind, DropReason, Ended, Exit, Process};
    use std::time::Duration;

    /// A trace of one process with two threads, one of them in a context.
    fn trace(mode: Mode, pid: u32, command: &str, words: [&[u64]; 2]) -> Vec<u8> {
        let info = Info {
            command: vec![command.into()],
            directory: format!("/w/{command}").into(),
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(pid.into()),
            ..Info::new(mode)
        };
        let mut writer = Writer::new(Vec::new(), &info).unwrap();
        let process = writer
            .process(&Process {
                pid,
                exit: Exit::Code(3),
                ..Process::default()
            })
            .unwrap();
        let bias = u64::from(pid) << 20;
        for (process, path, at) in [(Some(process), "/p", 0x1000), (None, "/vmlinux", 0x9000)] {
            let range = bias + at..bias + at + 0x1000;
            writer
                .module(&Module {
                    process,
                    path: path.into(),
                    build_id: crate::trace::BuildId(vec![1]),
                    bias,
                    text: vec![range.clone()],
                    range,
                })
                .unwrap();
        }
        let outer = writer.context(&Context::new(ContextKind::Job, "outer"));
        let inner = writer.context(&Context {
            parent: Some(outer.unwrap()),
            process: Some(process),
            ended: Ended::Yes,
            ..Context::new(ContextKind::Test, "inner")
        });
        for (words, context) in words.into_iter().zip([None, Some(inner.unwrap())]) {
            let drops = vec![Drops {
                reason: DropReason::Full,
                count: 2,
            }];
            let stream = StreamInfo {
                tid: pid,
                count: words.len() as u64,
                context,
                drops,
                ..StreamInfo::new(process)
            };
            let words = words.iter().map(|word| word + bias);
            if mode == Mode::Unique {
                writer.set(&stream, words).unwrap();
            } else {
                writer.stream(&stream, words).unwrap();
            }
        }
        writer
            .loss(&Loss {
                scope: Scope::Process(process),
                ..Loss::new(DropReason::Refused, 1)
            })
            .unwrap();
        writer.finish_at(SystemTime::UNIX_EPOCH).unwrap()
    }

    fn merged(all: &[Vec<u8>]) -> Vec<u8> {
        let traces: Vec<Trace<'_>> = all.iter().map(|b| Trace::parse(b).unwrap()).collect();
        let infos: Vec<Info> = traces.iter().map(|trace| trace.info().clone()).collect();
        let info = Info::of_all(&infos).unwrap();
        let mut merge = Merge::new(Writer::new(Vec::new(), &info).unwrap(), &info);
        for trace in &traces {
            merge.add(trace).unwrap();
        }
        let (writer, ended) = merge.end();
        writer.finish_at(ended).unwrap()
    }

    #[test]
    fn everything_is_there_and_its_own() {
        let one = trace(Mode::Trace, 7, "a", [&[0x1010, 0x1020, 0x1010], &[0x9010]]);
        let two = trace(Mode::Trace, 8, "b", [&[0x1010], &[0x9020, 0x1030]]);
        let bytes = merged(&[one, two]);
        let trace = Trace::parse(&bytes).unwrap();
        assert_eq!(trace.info().mode, Mode::Trace);
        assert!(trace.info().command.is_empty());
        assert_eq!(trace.info().directory, Path::new("/w"));
        let pids: Vec<u32> = trace.processes().iter().map(|p| p.pid).collect();
        assert_eq!(pids, [7, 8]);
        assert!(trace.processes().iter().all(|p| p.exit == Exit::Code(3)));
        // The kernel of each is that of its own processes.
        let modules: Vec<_> = trace
            .modules()
            .iter()
            .map(|m| {
                (
                    m.process.unwrap().index(),
                    m.path.to_str().unwrap(),
                    m.bias >> 20,
                )
            })
            .collect();
        let expected = [
            (0, "/p", 7),
            (0, "/vmlinux", 7),
            (1, "/p", 8),
            (1, "/vmlinux", 8),
        ];
        assert_eq!(modules, expected);
        let streams: Vec<(usize, Vec<u64>, Option<Vec<u8>>)> = trace
            .streams()
            .iter()
            .map(|stream| {
                let of = stream.info().process.index();
                let bias = (of as u64 + 7) << 20;
                let context = stream.info().context.map(|id| {
                    let context = trace.context(id).unwrap();
                    assert_eq!(context.process.unwrap().index(), of);
                    assert_eq!(context.ended, Ended::Yes);
                    let parent = trace.context(context.parent.unwrap()).unwrap();
                    [&parent.name[..], &context.name].concat()
                });
                (of, stream.pcs().map(|pc| pc - bias).collect(), context)
            })
            .collect();
        let inner = Some(b"outerinner".to_vec());
        let expected = [
            (0, vec![0x1010, 0x1020, 0x1010], None),
            (0, vec![0x9010], inner.clone()),
            (1, vec![0x1010], None),
            (1, vec![0x9020, 0x1030], inner),
        ];
        assert_eq!(streams, expected);
        let losses: Vec<_> = trace.losses().map(|l| (l.reason, l.count)).collect();
        let full = (DropReason::Full, 2);
        let refused = (DropReason::Refused, 1);
        assert_eq!(losses, [refused, refused, full, full, full, full]);
    }

    #[test]
    fn an_order_that_some_do_not_have_is_left_out() {
        let one = trace(Mode::Trace, 7, "a", [&[0x1020, 0x1010, 0x1020], &[]]);
        let two = trace(Mode::Unique, 7, "a", [&[0x1010], &[0x1040]]);
        let bytes = merged(&[one, two]);
        let trace = Trace::parse(&bytes).unwrap();
        assert_eq!(trace.info().mode, Mode::Unique);
        assert_eq!(trace.info().command, ["a"]);
        // The table of both is one.
        assert_eq!(trace.site_tables().len(), 1);
        assert_eq!(*trace.site_tables()[0], [0x1010, 0x1020, 0x1040]);
        let records: Vec<u64> = trace.streams().iter().map(|s| s.records()).collect();
        assert_eq!(records, [2, 0, 1, 1]);
    }

    #[test]
    fn comparisons_are_no_pcs() {
        let infos = [Mode::Cmp, Mode::Trace].map(Info::new);
        assert_eq!(Info::of_all(&infos), Err(Incompatible));
        let infos = [Mode::Cmp, Mode::Cmp].map(Info::new);
        assert_eq!(Info::of_all(&infos).unwrap().mode, Mode::Cmp);
    }
}
