// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds of any trace.

use super::*;

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
