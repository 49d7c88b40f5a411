// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that were cut, changed or forged.

use super::*;

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
