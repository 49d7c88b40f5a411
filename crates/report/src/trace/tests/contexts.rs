// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contexts, and what they cost.

use super::*;

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
    let bytes = include_bytes!("../../../tests/data/version-1.trace");
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
