// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signal handlers that run instrumented code in the middle of callbacks and of calls.

use crate::support::{succeed, Compiler, Lab, OBJECT, STATIC};
use std::process::Command;

#[test]
fn what_a_handler_interrupts_loses_nothing() {
    for compiler in Compiler::all() {
        for runtime in [OBJECT, STATIC] {
            let lab = Lab::new();
            let program = lab.client(compiler, "signals.c", runtime, &[]);
            for how in ["local", "section"] {
                let printed = succeed(Command::new(&program).args([how, "500"]));
                let numbers: Vec<u64> = printed
                    .split_whitespace()
                    .map(|number| number.parse().unwrap())
                    .collect();
                let [ticked, ticks, handled, handlers] = numbers[..] else {
                    panic!("{printed}");
                };
                assert_eq!(ticks, ticked, "{compiler:?} {how}");
                // A handler may lose its own: docs/kcov.md says when.
                let least = if how == "local" { handled / 2 } else { 1 };
                assert!(
                    (least..=handled).contains(&handlers),
                    "{compiler:?} {how}: {printed}"
                );
            }
        }
    }
}
