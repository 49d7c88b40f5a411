// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many instructions a callback runs. A callback that grows makes every program slower, so these
//! figures fall or the reason stands here.

#![cfg(target_arch = "x86_64")]

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use object::{Object, ObjectSection, ObjectSymbol};
use rkcov_artifacts::OBJECT;

/// The instructions from the beginning of `function` to where it returns or jumps into another one,
/// if its conditional jumps are taken as told.
fn instructions(function: &str, taken: &[bool]) -> usize {
    let file = object::File::parse(OBJECT.bytes).unwrap();
    let symbol = file.symbols().find(|s| s.name() == Ok(function)).unwrap();
    let section = symbol.section_index().unwrap();
    let section = file.section_by_index(section).unwrap();
    let (begin, end) = (symbol.address(), symbol.address() + symbol.size());
    let code = section.data_range(begin, end - begin).unwrap().unwrap();
    // Jumps into other functions are relocated.
    let relocated: Vec<u64> = section.relocations().map(|(at, _)| at).collect();
    let mut taken = taken.iter();
    let mut at = begin;
    for count in 1.. {
        let from = usize::try_from(at - begin).unwrap();
        let instruction = Decoder::with_ip(64, &code[from..], at, DecoderOptions::NONE).decode();
        assert!(!instruction.is_invalid(), "{function} at {at:#x}");
        let next = instruction.next_ip();
        let leaves = relocated.iter().any(|r| (at..next).contains(r))
            || !(begin..end).contains(&instruction.near_branch_target());
        at = match instruction.flow_control() {
            FlowControl::Next => next,
            FlowControl::ConditionalBranch if !*taken.next().expect("a jump not known of") => next,
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch if !leaves => {
                instruction.near_branch_target()
            }
            FlowControl::ConditionalBranch
            | FlowControl::UnconditionalBranch
            | FlowControl::Return => {
                assert_eq!(taken.next(), None, "{function}: a jump that is not there");
                return count;
            }
            FlowControl::IndirectBranch => return count,
            other => panic!("{function}: {other:?}"),
        };
    }
    unreachable!()
}

#[test]
fn a_callback_runs_no_more_instructions_than_it_did() {
    for (function, what, taken, most) in [
        (
            "__sanitizer_cov_trace_pc",
            "nobody collects",
            &[false][..],
            5,
        ),
        (
            "__sanitizer_cov_trace_pc",
            "a record",
            &[true, false, false],
            16,
        ),
        (
            "__sanitizer_cov_trace_pc_guard",
            "nobody collects",
            &[false],
            5,
        ),
        (
            "__sanitizer_cov_trace_pc_guard",
            "a record",
            &[true, false, false],
            16,
        ),
        (
            "__sanitizer_cov_trace_pc_guard",
            "was there before",
            &[true, true, false, false, false],
            18,
        ),
        (
            "__sanitizer_cov_trace_pc_store",
            "a record",
            &[true, false, false],
            16,
        ),
        ("__rkcov_hit", "a record", &[false, false], 15),
        ("__rkcov_hit", "the first time", &[true], 6),
        ("__sanitizer_cov_trace_cmp4", "nobody collects", &[false], 4),
        (
            "__sanitizer_cov_trace_switch",
            "nobody collects",
            &[false],
            4,
        ),
    ] {
        let found = instructions(function, taken);
        assert!(
            found <= most,
            "{function}, {what}: {found} instructions, not {most}"
        );
        assert_eq!(found, most, "{function}, {what}: fewer; say so here");
    }
}
