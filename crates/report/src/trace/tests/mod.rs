// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writer against the reader, and the reader against everything else.

mod contexts;
mod damage;
mod files;
mod properties;

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{symlink, PermissionsExt};
use std::time::{Duration, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;

use super::format::{padding, SectionHeader, CHUNK_WORDS, FILE_HEADER, OPTIONAL, SECTION_HEADER};
use super::*;

/// A small trace that has one of everything.
fn sample() -> Vec<u8> {
    let mut info = Info::new(Mode::Trace);
    info.tool = "test 1".into();
    info.command = vec!["./prog".into(), "-x".into()];
    info.directory = "/src".into();
    info.started = UNIX_EPOCH + Duration::from_nanos(17);
    let mut writer = Writer::new(Vec::new(), &info).unwrap();
    let process = writer
        .process(&Process {
            pid: 10,
            parent: 1,
            command: info.command.clone(),
            exit: Exit::Signal(9),
        })
        .unwrap();
    writer
        .module(&Module {
            process: Some(process),
            path: "/src/prog".into(),
            build_id: BuildId(vec![0xab, 1]),
            bias: 0x5000,
            range: 0x5000..0x9000,
            text: vec![0x6000..0x7000, 0x8000..0x9000],
        })
        .unwrap();
    writer
        .module(&Module {
            process: None,
            path: "vmlinux".into(),
            build_id: BuildId::default(),
            bias: 0,
            range: 0xffff_ffff_8000_0000..0xffff_ffff_9000_0000,
            text: vec![],
        })
        .unwrap();
    let full = Drops {
        reason: DropReason::Full,
        count: 3,
    };
    for (tid, main, finished) in [(10, true, true), (11, false, false)] {
        let stream = StreamInfo {
            tid,
            main,
            finished,
            name: format!("thread {tid}"),
            count: 3,
            capacity: 4,
            drops: vec![full],
            ..StreamInfo::new(process)
        };
        writer.stream(&stream, [0x6001, 0, 0x6003, 0]).unwrap();
    }
    work(&mut writer, process);
    let none = Drops {
        reason: DropReason::NoSlot,
        count: 1,
    };
    writer.drops(Some(process), &[none, full]).unwrap();
    writer.drops(None, &[]).unwrap();
    for loss in losses(process) {
        writer.loss(&loss).unwrap();
    }
    writer
        .finish_at(UNIX_EPOCH + Duration::from_nanos(18))
        .unwrap()
}

/// Streams in the sample: two of threads, and those of contexts.
const STREAMS: usize = 6;

/// Losses in the sample, behind everything else.
const LOSSES: usize = 3;

/// One loss of each scope that has a section.
fn losses(process: ProcessId) -> [Loss; LOSSES] {
    let module = Scope::Module {
        path: "/src/lib.so".into(),
        build_id: BuildId(vec![5]),
    };
    [
        Loss {
            note: "another user".into(),
            ..Loss::new(DropReason::Refused, 2)
        },
        Loss {
            scope: Scope::Process(process),
            ..Loss::new(DropReason::StillRunning, 1)
        },
        Loss {
            scope: module,
            ..Loss::new(DropReason::UnknownModule, 4)
        },
    ]
}

#[test]
fn all_losses_are_in_one_place() {
    let bytes = sample();
    let trace = Trace::parse(&bytes).unwrap();
    let process = trace.streams()[0].info().process;
    let all: Vec<Loss> = trace.losses().collect();
    assert_eq!(all[..LOSSES], losses(process));
    let others: Vec<_> = all[LOSSES..]
        .iter()
        .map(|loss| (loss.reason, loss.count, loss.scope.clone()))
        .collect();
    let of_process = Scope::Process(process);
    assert_eq!(
        others,
        [
            (DropReason::NoSlot, 1, of_process.clone()),
            (DropReason::Full, 3, of_process),
            (DropReason::Full, 3, Scope::Stream(0)),
            (DropReason::Full, 3, Scope::Stream(1)),
        ]
    );
    let said: Vec<String> = all[..4].iter().map(Loss::to_string).collect();
    assert_eq!(
        said,
        [
            "2 processes not recorded: another user",
            "1 process still running: code that they run from now on is not in the trace",
            "4 modules unknown: PCs in them cannot be resolved (/src/lib.so)",
            "1 thread not recorded: no room for more threads",
        ]
    );
}

/// Where the sections of a sound trace begin, and its end.
fn borders(bytes: &[u8]) -> Vec<usize> {
    let mut at = FILE_HEADER;
    let mut borders = vec![];
    while let Some(header) = bytes[at..].first_chunk::<SECTION_HEADER>() {
        borders.push(at);
        let len = SectionHeader::decode(header).unwrap().len;
        at += SECTION_HEADER + len as usize + padding(len);
    }
    borders.push(at);
    borders
}

/// The whole streams of `part` are the first ones of `all`, and all that it has is in `all`.
fn is_beginning(part: &Trace<'_>, all: &Trace<'_>) {
    assert_eq!(part.info(), all.info());
    assert!(all.processes().starts_with(part.processes()));
    assert!(all.modules().starts_with(part.modules()));
    for (some, whole) in part.streams().iter().zip(all.streams()) {
        assert_eq!(some.info(), whole.info());
        let words: Vec<u64> = whole.words().collect();
        let got: Vec<u64> = some.words().collect();
        assert!(words.starts_with(&got));
        assert!(!some.whole() || got == words);
    }
    assert!(part.streams().len() <= all.streams().len());
    for (some, whole) in part.contexts().iter().zip(all.contexts()) {
        let ended = some.ended;
        assert!(ended == whole.ended || ended == Ended::No);
        let ended = whole.ended;
        assert_eq!(
            &Context {
                ended,
                ..some.clone()
            },
            whole
        );
    }
    assert!(part.contexts().len() <= all.contexts().len());
}

#[test]
fn everything_comes_back() {
    let bytes = sample();
    let trace = Trace::parse(&bytes).unwrap();
    assert_eq!(trace.info().command, ["./prog", "-x"]);
    assert_eq!(trace.ended(), Some(UNIX_EPOCH + Duration::from_nanos(18)));
    assert_eq!(trace.processes()[0].exit, Exit::Signal(9));
    let [program, kernel] = trace.modules() else {
        panic!("{:?}", trace.modules())
    };
    assert_eq!(program.build_id.to_string(), "ab01");
    assert_eq!(program.text, [0x6000..0x7000, 0x8000..0x9000]);
    assert_eq!(kernel.process, None);
    let [first, second, ..] = trace.streams() else {
        panic!("{:?}", trace.streams())
    };
    assert!(first.info().main && first.info().finished && first.whole());
    assert!(!second.info().main && !second.info().finished);
    assert_eq!(second.info().name, "thread 11");
    assert_eq!(first.info().drops[0].count, 3);
    let drops: Vec<_> = trace.drops().collect();
    assert_eq!(drops[0].1[0].reason, DropReason::NoSlot);
    assert_eq!(drops[1], (None, &[][..]));
}

#[test]
fn records_that_were_never_written_are_left_out_and_counted() {
    let bytes = sample();
    let trace = Trace::parse(&bytes).unwrap();
    let stream = &trace.streams()[0];
    assert_eq!(stream.words().collect::<Vec<_>>(), [0x6001, 0, 0x6003]);
    assert_eq!(stream.pcs().collect::<Vec<_>>(), [0x6001, 0x6003]);
    assert_eq!((stream.records(), stream.unwritten()), (3, 1));
}

fn one_stream(mode: Mode, count: u64, capacity: u64, words: &[u64]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &Info::new(mode)).unwrap();
    let process = writer.process(&Process::default()).unwrap();
    let stream = StreamInfo {
        count,
        capacity,
        ..StreamInfo::new(process)
    };
    writer.stream(&stream, words.iter().copied()).unwrap();
    writer.finish().unwrap()
}

#[test]
fn only_counted_words_are_records_unless_the_count_was_overwritten() {
    let pcs = |count, capacity| {
        let bytes = one_stream(Mode::Unique, count, capacity, &[1, 2, 3]);
        let trace = Trace::parse(&bytes).unwrap();
        let stream = &trace.streams()[0];
        (
            stream.count_lost(),
            stream.records(),
            stream.pcs().collect::<Vec<_>>(),
        )
    };
    assert_eq!(pcs(0, 8), (false, 0, vec![]));
    assert_eq!(pcs(2, 8), (false, 2, vec![1, 2]));
    assert_eq!(pcs(5, 8), (false, 5, vec![1, 2, 3]));
    assert_eq!(pcs(u64::MAX, 8), (true, 3, vec![1, 2, 3]));
}

#[test]
fn comparisons_are_whole_records_with_a_pc() {
    let words = [5, 1, 2, 0x6001, 0, 0, 0, 0, 1, 3, 4, 0x6002, 1, 9, 9, 0, 7];
    let bytes = one_stream(Mode::Cmp, 5, 8, &words);
    let trace = Trace::parse(&bytes).unwrap();
    let stream = &trace.streams()[0];
    let pcs: Vec<u64> = stream.comparisons().map(|cmp| cmp.pc).collect();
    assert_eq!(pcs, [0x6001, 0x6002]);
    assert_eq!(stream.pcs().collect::<Vec<_>>(), pcs);
    assert_eq!((stream.records(), stream.unwritten()), (5, 3));
    assert!(stream.comparisons().next().unwrap().kind.is_const());
}

#[test]
fn long_streams_are_chunked_and_lose_only_zeros_at_the_end() {
    let long = CHUNK_WORDS as u64 * 2 + 5;
    let words: Vec<u64> = (0..long).map(|n| n % 3).chain([0; 100]).collect();
    let bytes = one_stream(Mode::Trace, long, long, &words);
    assert!(borders(&bytes).len() > 6);
    let trace = Trace::parse(&bytes).unwrap();
    let mut back: Vec<u64> = trace.streams()[0].words().collect();
    assert_ne!(back.last(), Some(&0));
    back.resize(words.len(), 0);
    assert_eq!(back, words);
}

/// Contexts: one in another, one that has not ended, and streams in them.
fn work(writer: &mut Writer<Vec<u8>>, process: ProcessId) {
    let outer = writer.context(&Context {
        process: Some(process),
        began: Some(UNIX_EPOCH + Duration::from_nanos(5)),
        ..Context::new(ContextKind::Request, "GET /\u{e9}")
    });
    let outer = outer.unwrap();
    let inner = writer.context(&Context {
        parent: Some(outer),
        ended: Ended::Yes,
        ..Context::new(ContextKind::Other(99), [0xff, 0])
    });
    let (inner, open) = (
        inner.unwrap(),
        writer
            .context(&Context::new(ContextKind::Test, ""))
            .unwrap(),
    );
    for (context, tid, words) in [
        (Some(outer), 12, &[0x6001, 0x8005, 0x10, 0x6001, 0][..]),
        (Some(inner), 12, &[0x8005, 0x6003]),
        (Some(open), 0, &[]),
        (None, 13, &[0x6003]),
    ] {
        let stream = StreamInfo {
            tid,
            context,
            creator: 10,
            count: words.len() as u64,
            ..StreamInfo::new(process)
        };
        writer.set(&stream, words.iter().copied()).unwrap();
    }
    let ended = UNIX_EPOCH + Duration::from_nanos(9);
    writer.end_context(outer, Some(ended)).unwrap();
}

/// A sound trace, with `change` made to the section after `at`, its checksums made right again.
fn forged(at: usize, change: impl FnOnce(&mut SectionHeader, &mut Vec<u8>)) -> Vec<u8> {
    let bytes = sample();
    let borders = borders(&bytes);
    let section = &bytes[borders[at]..borders[at + 1]];
    let mut header = SectionHeader::decode(section.first_chunk().unwrap()).unwrap();
    let mut payload = section[SECTION_HEADER..][..header.len as usize].to_vec();
    change(&mut header, &mut payload);
    header.len = payload.len() as u64;
    header.sum = crc32fast::hash(&payload);
    payload.resize(payload.len() + padding(header.len), 0);
    let mut forged = bytes[..borders[at]].to_vec();
    forged.extend_from_slice(&header.encode());
    forged.extend_from_slice(&payload);
    forged.extend_from_slice(&bytes[borders[at + 1]..]);
    forged
}
