// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of PCs that clients append to a file by `rkcov_save()`, read as traces. `docs/kcov.md` has their form.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{
    BuildId, Context, ContextKind, DropReason, Drops, Ended, Info, Mode, Module, Process,
    ProcessId, StreamInfo, TraceError, Writer,
};

/// The first line of a list.
const FIRST: &[u8] = b"# rkcov list 1\n";

/// Whether a file is a list.
pub(super) fn is_list(bytes: &[u8]) -> bool {
    bytes.starts_with(FIRST)
}

/// The trace that has what stands in a list before the first thing that is wrong, and what that is.
///
/// # Errors
/// What was read does not fit into a trace.
pub(super) fn trace_of(list: &[u8]) -> io::Result<(Vec<u8>, Option<TraceError>)> {
    let directory = lines(list).find_map(|(_, line)| line.strip_prefix(b"directory "));
    let info = Info {
        tool: "rkcov_save()".into(),
        directory: directory.map(path_of).unwrap_or_default(),
        ..Info::new(Mode::Trace)
    };
    let mut reader = Reader {
        writer: Writer::new(Vec::new(), &info)?,
        process: None,
        processes: HashMap::new(),
        modules: HashSet::new(),
        stream: None,
    };
    let mut wrong = None;
    let mut end = 0;
    for (at, line) in lines(list) {
        if let Err(problem) = reader.line(line) {
            let at = at as u64;
            wrong = Some(match problem {
                Problem::Line(what) => TraceError::Damaged { at, what },
                Problem::Io(error) => return Err(error),
            });
            break;
        }
        end = at + line.len() + 1;
    }
    // A last line without its end was cut.
    if wrong.is_none() && end < list.len() {
        wrong = Some(TraceError::Unfinished { at: end as u64 });
    }
    reader.flush()?;
    Ok((reader.writer.finish()?, wrong))
}

/// The whole lines, each with the place where it begins.
fn lines(list: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    list.split_inclusive(|byte| *byte == b'\n')
        .filter_map(move |line| {
            let begin = at;
            at += line.len();
            Some((begin, line.strip_suffix(b"\n")?))
        })
}

enum Problem {
    Line(&'static str),
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

struct Reader<'a> {
    writer: Writer<Vec<u8>>,
    process: Option<(u32, ProcessId)>,
    processes: HashMap<(u32, &'a [u8]), ProcessId>,
    /// By process and line.
    modules: HashSet<(ProcessId, &'a [u8])>,
    stream: Option<(StreamInfo, Vec<u64>)>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a [u8]) -> Result<(), Problem> {
        let (first, rest) = word(line);
        match first {
            b"#" => {
                self.flush()?;
                self.process = None;
            }
            b"directory" => {}
            b"process" => {
                let (pid, exe) = word(rest);
                let pid = decimal(pid).ok_or(Problem::Line("a process without an id"))?;
                let process = match self.processes.get(&(pid, exe)) {
                    Some(process) => *process,
                    None => {
                        let process = self.writer.process(&Process {
                            pid,
                            command: vec![path_of(exe).into()],
                            ..Process::default()
                        })?;
                        self.processes.insert((pid, exe), process);
                        process
                    }
                };
                self.process = Some((pid, process));
            }
            b"module" => {
                let (_, process) = self.process()?;
                if self.modules.insert((process, rest)) {
                    let module = module(process, rest);
                    let module = module.ok_or(Problem::Line("a module without its addresses"))?;
                    self.writer.module(&module)?;
                }
            }
            b"stream" => {
                self.flush()?;
                let (pid, process) = self.process()?;
                let (tid, rest) = word(rest);
                let (room, name) = word(rest);
                let tid = decimal(tid).ok_or(Problem::Line("a stream without a thread"))?;
                let mut info = StreamInfo::new(process);
                info.tid = tid;
                info.main = pid == tid;
                info.finished = true;
                match room {
                    b"whole" => {}
                    b"full" => info.drops.push(Drops {
                        reason: DropReason::Full,
                        count: 1,
                    }),
                    _ => return Err(Problem::Line("a stream of an unknown sort")),
                }
                if !name.is_empty() {
                    info.context = Some(self.writer.context(&Context {
                        process: Some(process),
                        ended: Ended::Yes,
                        ..Context::new(ContextKind::User, unescaped(name))
                    })?);
                }
                self.stream = Some((info, Vec::new()));
            }
            _ => {
                let pc = hexadecimal(line).ok_or(Problem::Line("a line of no known sort"))?;
                let stream = self.stream.as_mut();
                let (_, pcs) = stream.ok_or(Problem::Line("a PC before a stream"))?;
                pcs.push(pc);
            }
        }
        Ok(())
    }

    fn process(&self) -> Result<(u32, ProcessId), Problem> {
        self.process
            .ok_or(Problem::Line("no process stands before it"))
    }

    /// Writes the stream that was read.
    fn flush(&mut self) -> io::Result<()> {
        let Some((mut info, pcs)) = self.stream.take() else {
            return Ok(());
        };
        info.count = pcs.len() as u64;
        info.capacity = info.count;
        self.writer.stream(&info, pcs)
    }
}

fn module(process: ProcessId, line: &[u8]) -> Option<Module> {
    let (bias, rest) = word(line);
    let (start, rest) = word(rest);
    let (end, rest) = word(rest);
    let (id, path) = word(rest);
    let text = hexadecimal(start)?..hexadecimal(end)?;
    if text.start > text.end {
        return None;
    }
    Some(Module {
        process: Some(process),
        path: path_of(path),
        build_id: BuildId(match id {
            b"-" => Vec::new(),
            _ => {
                let pairs = id.chunks(2).map(hexadecimal);
                let bytes = pairs.map(|byte| u8::try_from(byte?).ok());
                bytes.collect::<Option<_>>()?
            }
        }),
        bias: hexadecimal(bias)?,
        range: text.clone(),
        text: vec![text],
    })
}

/// The first word of a line, and what follows its space.
fn word(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|byte| *byte == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[]),
    }
}

fn decimal(word: &[u8]) -> Option<u32> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn hexadecimal(word: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(word).ok()?;
    u64::from_str_radix(text, 16).ok()
}

/// A path or a name as it was before its ends of lines were written as `\n`.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        whole.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(other) => *other,
                None => b'\\',
            },
            _ => *byte,
        });
    }
    whole
}

fn path_of(text: &[u8]) -> PathBuf {
    OsStr::from_bytes(&unescaped(text)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;
    use proptest::prelude::*;

    const LIST: &str = "# rkcov list 1\nprocess 7 /bin/a\ndirectory /src\n\
        module 1000 2000 3000 0aff /bin/a\nstream 7 whole GET /1\n2001\n2ffe\n\
        # rkcov list 1\nprocess 7 /bin/a\ndirectory /src\n\
        module 1000 2000 3000 0aff /bin/a\nmodule 0 9000 9100 - /lib/b\\nc\\\\\n\
        stream 8 full \n0901\n";

    fn with(change: impl Fn(&str) -> String) -> Option<TraceError> {
        trace_of(change(LIST).as_bytes()).unwrap().1
    }

    #[test]
    fn what_clients_wrote_is_a_trace() {
        let (bytes, wrong) = trace_of(LIST.as_bytes()).unwrap();
        assert_eq!(wrong, None);
        let trace = Trace::parse(&bytes).unwrap();
        assert_eq!(trace.info().directory, PathBuf::from("/src"));
        assert_eq!(trace.processes().len(), 1);
        let modules = trace.modules();
        assert_eq!(modules.len(), 2);
        assert_eq!(modules[0].build_id, BuildId(vec![0x0a, 0xff]));
        assert_eq!(
            (modules[0].bias, &modules[0].range),
            (0x1000, &(0x2000..0x3000))
        );
        assert_eq!(modules[1].path, PathBuf::from("/lib/b\nc\\"));
        assert!(modules[1].build_id.is_empty());
        let [first, second] = trace.streams() else {
            panic!("two streams");
        };
        assert_eq!(first.words().collect::<Vec<_>>(), [0x2001, 0x2ffe]);
        assert!(first.info().main && first.info().drops.is_empty());
        let name = trace.context(first.info().context.unwrap()).unwrap();
        assert_eq!(name.name, b"GET /1");
        assert_eq!(second.words().collect::<Vec<_>>(), [0x901]);
        assert_eq!(second.info().drops[0].reason, DropReason::Full);
        assert_eq!(second.info().context, None);
    }

    #[test]
    fn what_is_wrong_is_said_and_the_rest_is_kept() {
        let cut = with(|list| list.strip_suffix('\n').unwrap().to_owned());
        let at = LIST.len() as u64 - 5;
        assert_eq!(cut, Some(TraceError::Unfinished { at }));
        let damaged = with(|list| list.replace("2ffe", "2ffx"));
        let at = LIST.find("2ffe").unwrap() as u64;
        let what = "a line of no known sort";
        assert_eq!(damaged, Some(TraceError::Damaged { at, what }));
        let (kept, _) = trace_of(LIST.replace("2ffe", "2ffx").as_bytes()).unwrap();
        let kept = Trace::parse(&kept).unwrap();
        assert_eq!(kept.streams()[0].words().collect::<Vec<_>>(), [0x2001]);
        for (from, to) in [
            ("process 7", "process x"),
            ("stream 7 whole", "stream x whole"),
            ("stream 7 whole", "stream 7 half"),
            ("module 1000", "module x"),
            ("module 1000 2000 3000", "module 1000 3000 2000"),
            ("0aff", "0af-"),
            ("process 7 /bin/a\n", ""),
            ("stream 7 whole GET /1\n", ""),
        ] {
            let wrong = with(|list| list.replacen(from, to, 1));
            assert!(
                matches!(wrong, Some(TraceError::Damaged { .. })),
                "{from} {to}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_list_makes_a_trace_that_cannot_be_read(
            lines in prop::collection::vec(
                prop_oneof![
                    prop::sample::select(LIST.lines().collect::<Vec<_>>()).prop_map(str::to_owned),
                    "(stream|module|process) [0-9a-f]{0,17}( [a-z0-9]{0,5}){0,4}",
                    ".{0,20}",
                ],
                0..20,
            ),
        ) {
            let list = format!("# rkcov list 1\n{}", lines.join("\n"));
            let (bytes, _) = trace_of(list.as_bytes()).unwrap();
            prop_assert!(Trace::parse(&bytes).is_ok());
        }
    }
}
