// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writer against the reader, and the reader against everything else.

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

/// Streams in the sample: two of threads, and those of contexts.
const STREAMS: usize = 6;

#[test]
fn contexts_come_back() {
    let bytes = sample();
    let trace = Trace::parse(&bytes).unwrap();
    let [outer, inner, open] = trace.contexts() else {
        panic!("{:?}", trace.contexts())
    };
    assert_eq!(outer.kind.to_string(), "request");
    assert_eq!(outer.name, "GET /\u{e9}".as_bytes());
    let at = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
    assert_eq!((outer.began, outer.ended), (Some(at(5)), Ended::At(at(9))));
    assert_eq!(outer.process.map(ProcessId::index), Some(0));
    assert_eq!(inner.name, [0xff, 0]);
    assert_eq!(inner.kind.to_string(), "kind 99");
    assert_eq!(inner.parent.map(ContextId::index), Some(0));
    assert_eq!((inner.began, inner.ended), (None, Ended::Yes));
    assert_eq!((open.kind, open.ended), (ContextKind::Test, Ended::No));

    let got: Vec<_> = trace.streams()[2..]
        .iter()
        .map(|stream| {
            let context = stream.info().context.map(ContextId::index);
            let mut pcs: Vec<u64> = stream.pcs().collect();
            pcs.sort_unstable();
            assert_eq!(stream.info().creator, 10);
            (context, stream.records(), stream.unwritten(), pcs)
        })
        .collect();
    let expected = [
        // One was there twice, one was never written.
        (Some(0), 4, 1, vec![0x10, 0x6001, 0x8005]),
        (Some(1), 2, 0, vec![0x6003, 0x8005]),
        (Some(2), 0, 0, vec![]),
        (None, 1, 0, vec![0x6003]),
    ];
    assert_eq!(got, expected);
    // Places in the program, and one that is in no file.
    let sets: Vec<_> = trace.streams()[2]
        .sets()
        .map(|set| (set.module(), set.numbers().len()))
        .collect();
    assert_eq!(sets, [(None, 1), (Some(0), 2)]);
    assert_eq!(*trace.site_tables()[1], [0x1001, 0x3005, 0x1003]);
}

#[test]
fn a_file_of_version_1_is_read() {
    let bytes = include_bytes!("../../tests/data/version-1.trace");
    let trace = Trace::parse(bytes).unwrap();
    assert_eq!(trace.info().tool, "test 1");
    assert_eq!(trace.modules().len(), 2);
    assert_eq!(trace.contexts(), []);
    let streams = trace.streams();
    assert_eq!(streams.len(), 2);
    assert_eq!(streams[0].pcs().collect::<Vec<_>>(), [0x6001, 0x6003]);
    assert_eq!(streams[1].info().name, "thread 11");
    assert_eq!(streams[1].info().context, None);
    assert_eq!(trace.losses().count(), LOSSES + 4);
}

#[test]
fn what_is_of_another_trace_or_has_ended_is_refused() {
    let mut one = Writer::new(Vec::new(), &Info::new(Mode::Unique)).unwrap();
    let context = one.context(&Context::new(ContextKind::Job, "a")).unwrap();
    one.end_context(context, None).unwrap();
    let refused = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    refused(one.end_context(context, None).unwrap_err());
    let mut other = Writer::new(Vec::new(), &Info::new(Mode::Unique)).unwrap();
    let process = other.process(&Process::default()).unwrap();
    let stream = StreamInfo {
        context: Some(context),
        ..StreamInfo::new(process)
    };
    refused(other.set(&stream, [1]).unwrap_err());
    refused(other.end_context(context, None).unwrap_err());
    let child = Context {
        parent: Some(context),
        ..Context::new(ContextKind::Job, "b")
    };
    refused(other.context(&child).unwrap_err());
}

/// What the page says: tests of a program with many sites, each of which runs some of its own, and
/// what all run.
#[test]
fn contexts_take_little_room() {
    // As many as a test has time for; of 10,000 the room is in proportion.
    const CONTEXTS: u64 = 200;
    const SITES: u64 = 50_000;
    let mut random = 1_u64;
    let mut next = move |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    };
    let mut writer = Writer::new(Vec::new(), &Info::new(Mode::Unique)).unwrap();
    let process = writer.process(&Process::default()).unwrap();
    let start = 0x5555_0000_0000;
    let module = Module {
        process: Some(process),
        path: "/p".into(),
        build_id: BuildId::default(),
        bias: start,
        range: start..start + SITES * 16,
        text: vec![],
    };
    writer.module(&module).unwrap();
    let mut all = 0;
    for number in 0..CONTEXTS {
        let context = Context::new(ContextKind::Test, format!("some::module::test_{number}"));
        let context = writer.context(&context).unwrap();
        // A tenth of the program in pieces, as functions are, some edges of which do not run.
        let mut sites = Vec::new();
        for _ in 0..250 {
            let first = next(SITES - 20);
            sites.extend((first..first + 20).filter(|_| next(8) != 0));
        }
        sites.extend(0..500);
        sites.sort_unstable();
        sites.dedup();
        all += sites.len();
        let stream = StreamInfo {
            context: Some(context),
            count: sites.len() as u64,
            ..StreamInfo::new(process)
        };
        let pcs = sites.iter().map(|site| start + 1 + site * 16);
        writer.set(&stream, pcs).unwrap();
        writer.end_context(context, None).unwrap();
    }
    let bytes = writer.finish().unwrap();
    assert!(all as u64 / CONTEXTS > 4_000, "{all} sites in all");
    let tables = SITES * 8;
    let each = (bytes.len() as u64 - tables) / CONTEXTS;
    assert!(each < 5_000, "{each} bytes each");
}

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

#[test]
fn every_cut_is_seen_and_what_stands_before_it_is_sound() {
    let bytes = sample();
    let all = Trace::parse(&bytes).unwrap();
    for len in 0..bytes.len() {
        let cut = &bytes[..len];
        let expected = match len {
            0 => TraceError::Empty,
            1..FILE_HEADER => TraceError::Unfinished { at: 0 },
            _ => {
                let whole = borders(&bytes).into_iter().rfind(|at| *at <= len);
                TraceError::Unfinished {
                    at: whole.unwrap_or(FILE_HEADER) as u64,
                }
            }
        };
        assert_eq!(Trace::parse(cut).unwrap_err(), expected, "{len} bytes");
        if let Ok((part, wrong)) = Trace::salvage(cut) {
            assert_eq!(wrong, Some(expected));
            assert_eq!(part.ended(), None);
            is_beginning(&part, &all);
        }
    }
}

#[test]
fn salvage_reads_a_whole_stream_before_a_cut() {
    let bytes = sample();
    let end = *borders(&bytes).iter().rev().nth(1).unwrap();
    let (part, _) = Trace::salvage(&bytes[..end]).unwrap();
    assert_eq!(part.streams().len(), STREAMS);
    assert!(part.streams().iter().all(Stream::whole));
}

#[test]
fn every_changed_byte_is_seen_and_what_stands_before_it_is_sound() {
    let bytes = sample();
    let all = Trace::parse(&bytes).unwrap();
    for at in 0..bytes.len() {
        for change in (0..8).map(|bit| 1_u8 << bit).chain([0xff]) {
            let mut bad = bytes.clone();
            bad[at] ^= change;
            let wrong = Trace::parse(&bad).unwrap_err();
            let expected = match (at, &wrong) {
                (0..8, TraceError::NotATrace) => true,
                (_, TraceError::Damaged { at: section, .. }) => *section <= at as u64,
                _ => false,
            };
            assert!(expected, "byte {at} ^ {change:#x}: {wrong:?}");
            if let Ok((part, _)) = Trace::salvage(&bad) {
                is_beginning(&part, &all);
            }
        }
    }
}

#[test]
fn a_missing_doubled_or_moved_section_is_seen() {
    let bytes = sample();
    let borders = borders(&bytes);
    for pair in borders.windows(2) {
        let section = pair[0]..pair[1];
        let mut less = bytes.clone();
        less.drain(section.clone());
        let mut more = bytes.clone();
        more.splice(section.end..section.end, bytes[section].iter().copied());
        for bad in [less, more] {
            assert!(Trace::parse(&bad).is_err(), "section at {}", pair[0]);
        }
    }
}

#[test]
fn other_files_and_versions_are_named_as_such() {
    let error = |bytes: &[u8]| Trace::parse(bytes).unwrap_err();
    assert_eq!(error(b"\x7fELF\x02\x01\x01"), TraceError::NotATrace);
    assert_eq!(error(&[0; 4096]), TraceError::NotATrace);
    let mut newer = sample();
    newer[8] = 3;
    let sum = crc32fast::hash(&newer[..12]);
    newer[12..16].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(error(&newer), TraceError::Version { found: 3 });
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

#[test]
fn unknown_sections_are_skipped_only_if_they_are_optional() {
    // The drops of no process: leaving them out leaves a sound trace.
    let at = borders(&sample()).len() - 3 - LOSSES;
    let optional = forged(at, |header, _| header.kind = OPTIONAL | 77);
    assert_eq!(Trace::parse(&optional).unwrap().drops().count(), 1);
    let needed = forged(at, |header, _| header.kind = 77);
    let wrong = Trace::parse(&needed).unwrap_err();
    assert!(matches!(wrong, TraceError::UnknownSection { kind: 77, .. }));
}

#[test]
fn nonsense_with_right_checksums_is_an_error_too() {
    let sections = borders(&sample()).len() - 1;
    for at in 0..sections {
        let longer = forged(at, |_, payload| payload.push(0));
        let wrong = Trace::parse(&longer).unwrap_err();
        assert!(matches!(wrong, TraceError::Malformed { .. }), "{wrong:?}");
    }
    // A process that does not exist, in the first module.
    let wrong = Trace::parse(&forged(2, |_, payload| payload[0] = 9)).unwrap_err();
    let what = "a process that was not named before";
    assert!(matches!(wrong, TraceError::Malformed { what: w, .. } if w == what));
}

#[test]
fn ids_of_another_trace_are_refused() {
    let mut one = Writer::new(Vec::new(), &Info::new(Mode::Trace)).unwrap();
    let id = one.process(&Process::default()).unwrap();
    let mut other = Writer::new(Vec::new(), &Info::new(Mode::Trace)).unwrap();
    let refused = other.stream(&StreamInfo::new(id), []).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_file_appears_only_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rkcov");
    fs::write(&path, "before").unwrap();
    let writer = Writer::create(&path, &Info::new(Mode::Trace)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"before");
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), b"before");
    let files = || fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files(), 1);

    let link = folder.path().join("link");
    symlink("a.rkcov", &link).unwrap();
    let writer = Writer::create(&link, &Info::new(Mode::Cmp)).unwrap();
    assert_eq!(files(), 3);
    writer.save().unwrap();
    assert_eq!(files(), 2);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let file = TraceFile::open(&path).unwrap();
    assert_eq!(file.trace().unwrap().info().mode, Mode::Cmp);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    assert_eq!(mode, fs::metadata(&plain).unwrap().permissions().mode());
}

#[test]
fn of_two_writers_of_one_file_the_later_wins_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rkcov");
    let first = Writer::create(&path, &Info::new(Mode::Trace)).unwrap();
    let second = Writer::create(&path, &Info::new(Mode::Unique)).unwrap();
    first.save().unwrap();
    let open = TraceFile::open(&path).unwrap();
    second.save().unwrap();
    assert_eq!(open.trace().unwrap().info().mode, Mode::Trace);
    let again = TraceFile::open(&path).unwrap();
    assert_eq!(again.trace().unwrap().info().mode, Mode::Unique);
}

#[test]
fn a_full_disk_and_a_closed_pipe_are_reported() {
    let full = Writer::create("/dev/full", &Info::new(Mode::Trace)).and_then(Writer::save);
    assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    let (reader, pipe) = io::pipe().unwrap();
    drop(reader);
    let closed = Writer::new(pipe, &Info::new(Mode::Trace));
    assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let bytes = sample();
    let (mut reader, mut pipe) = io::pipe().unwrap();
    pipe.write_all(&bytes).unwrap();
    drop(pipe);
    let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let file = TraceFile::open(path).unwrap();
    assert_eq!(file.trace().unwrap().streams().len(), STREAMS);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let said = |error: &dyn Error| format!("{error}: {}", error.source().unwrap());
    let message = |path: &str| said(&TraceFile::open(path).unwrap_err());
    assert!(message("/no/such").starts_with("cannot read /no/such: "));
    assert!(message("/usr").contains("directory"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty");
    fs::write(&path, "").unwrap();
    let wrong = TraceFile::open(&path).unwrap().trace().unwrap_err();
    assert!(said(&wrong).contains("/empty: the file is empty"));
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Trace), Just(Mode::Unique), Just(Mode::Cmp)]
}

prop_compose! {
    fn stream()(
        tid: u32,
        name in ".{0,20}",
        label in ".{0,20}",
        handle: u64,
        (main, finished) in any::<(bool, bool)>(),
        count: u64,
        capacity: u64,
        drops in vec((0..9_u32, any::<u64>()), 0..3),
        words in vec(prop_oneof![Just(0), any::<u64>()], 0..50),
    ) -> (StreamInfo, Vec<u64>) {
        let drops = drops.into_iter().map(|(reason, count)| Drops {
            reason: DropReason::from_raw(reason),
            count,
        });
        let drops = drops.collect();
        let process = ProcessId(0);
        (StreamInfo { process, tid, name, label, handle, main, finished, count, capacity, drops, context: None, creator: tid }, words)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_is_read(
        mode in mode(),
        nanos in 0..u64::MAX / 2,
        command in vec("[^\0]{0,9}", 0..3),
        exit in prop_oneof![
            Just(Exit::Unknown), any::<i32>().prop_map(Exit::Code), any::<i32>().prop_map(Exit::Signal)
        ],
        build_id in vec(any::<u8>(), 0..21),
        (start, len, bias) in any::<(u64, u32, u64)>(),
        streams in vec(stream(), 0..4),
    ) {
        let command: Vec<OsString> = command.into_iter().map(OsString::from).collect();
        let info = Info {
            started: UNIX_EPOCH + Duration::from_nanos(nanos),
            command: command.clone(),
            ..Info::new(mode)
        };
        let process = Process { pid: 1, parent: 2, command, exit };
        let range = start..start.saturating_add(len.into());
        let module = Module {
            process: Some(ProcessId(0)),
            path: "/m".into(),
            build_id: BuildId(build_id),
            bias,
            text: vec![range.clone()],
            range,
        };
        let mut writer = Writer::new(Vec::new(), &info).unwrap();
        writer.process(&process).unwrap();
        writer.module(&module).unwrap();
        for (stream, words) in &streams {
            writer.stream(stream, words.iter().copied()).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let trace = Trace::parse(&bytes).unwrap();
        prop_assert_eq!(trace.info(), &info);
        prop_assert_eq!(trace.processes(), &[process]);
        prop_assert_eq!(trace.modules(), &[module]);
        prop_assert_eq!(trace.streams().len(), streams.len());
        for (got, (stream, words)) in trace.streams().iter().zip(&streams) {
            prop_assert_eq!(got.info(), stream);
            let mut back: Vec<u64> = got.words().collect();
            prop_assert_ne!(back.last(), Some(&0));
            back.resize(words.len(), 0);
            prop_assert_eq!(&back, words);
        }
        fuzz_read(&bytes);
    }

    #[test]
    fn whatever_contexts_are_written_are_read(
        contexts in vec((any::<u32>(), vec(any::<u8>(), 0..40), any::<Option<u8>>(), 0..3_u8, 0..4_u64), 0..6),
        streams in vec((any::<prop::sample::Index>(), vec(0x4000..0xa000_u64, 0..300), any::<bool>()), 0..9),
        mode in prop_oneof![Just(Mode::Trace), Just(Mode::Unique)],
    ) {
        let mut writer = Writer::new(Vec::new(), &Info::new(mode)).unwrap();
        let mut processes = vec![];
        for at in [0, 0x800] {
            let process = writer.process(&Process::default()).unwrap();
            processes.push(process);
            for start in [0x5000, 0x7000] {
                let range = start + at..start + at + 0x1000;
                let module = Module {
                    process: Some(process),
                    path: format!("/m{start}").into(),
                    build_id: BuildId(vec![1]),
                    bias: start + at,
                    text: vec![range.clone()],
                    range,
                };
                writer.module(&module).unwrap();
            }
        }
        let time = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
        let mut written = vec![];
        let mut ids: Vec<ContextId> = vec![];
        for (kind, name, parent, ended, began) in contexts {
            let parent = parent.filter(|_| !ids.is_empty());
            let context = Context {
                kind: ContextKind::from_raw(kind),
                name,
                parent: parent.map(|n| ids[n as usize % ids.len()]),
                process: parent.map(|n| processes[n as usize % 2]),
                began: (began > 0).then(|| time(began)),
                ended: [Ended::No, Ended::Yes, Ended::At(time(7))][ended as usize],
            };
            ids.push(writer.context(&context).unwrap());
            written.push(context);
        }
        let mut expected = vec![];
        for (at, words, set) in streams {
            let at = at.index(100);
            let stream = StreamInfo {
                context: ids.get(at % 7).copied(),
                count: words.len() as u64,
                ..StreamInfo::new(processes[at % 2])
            };
            if set {
                writer.set(&stream, words.iter().copied()).unwrap();
            } else {
                writer.stream(&stream, words.iter().copied()).unwrap();
            }
            expected.push((stream.context, stream.process, words));
        }
        let bytes = writer.finish().unwrap();
        let trace = Trace::parse(&bytes).unwrap();
        prop_assert_eq!(trace.contexts(), written);
        prop_assert_eq!(trace.streams().len(), expected.len());
        for (stream, (context, process, words)) in trace.streams().iter().zip(expected) {
            let info = stream.info();
            prop_assert_eq!((info.context, info.process), (context, process));
            let got: std::collections::BTreeSet<u64> = stream.words().collect();
            let given: std::collections::BTreeSet<u64> = words.into_iter().collect();
            prop_assert_eq!(got, given);
            prop_assert_eq!(stream.unwritten(), 0);
        }
        fuzz_read(&bytes);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..200)) {
        fuzz_read(&bytes);
        let mut begun = sample()[..FILE_HEADER].to_vec();
        begun.extend_from_slice(&bytes);
        fuzz_read(&begun);
    }

    #[test]
    fn no_payload_makes_the_reader_panic(
        at in 0..borders(&sample()).len() - 1,
        kind in prop_oneof![3 => 0..14_u32, 1 => any::<u32>()],
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        keep_kind: bool,
    ) {
        fuzz_read(&forged(at, |header, payload| {
            if !keep_kind {
                header.kind = kind;
            }
            for (place, byte) in changes {
                if !payload.is_empty() {
                    let place = place.index(payload.len());
                    payload[place] = byte;
                }
            }
        }));
    }
}
