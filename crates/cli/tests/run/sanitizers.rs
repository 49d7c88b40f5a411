// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that were built with a sanitizer. `.ci/programs` runs these.

use crate::support::{succeed, Compiler, Lab, Symbols, RKCOV};
use rkcov_report::trace::Mode;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
#[ignore = "half a minute"]
fn threads_of_programs_under_a_sanitizer() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/programs/threads.c");
    for compiler in Compiler::all() {
        for sanitizer in ["-fsanitize=address", "-fsanitize=thread"] {
            let lab = Lab::new();
            let program = lab.path("threads");
            let cc = compiler.command().expect("the compiler is installed");
            let mut build = Command::new(RKCOV);
            build.arg("cc").arg(cc.get_program());
            build.args([sanitizer, "-g", "-O1", "-pthread", "-o"]);
            succeed(build.arg(&program).arg(&source));
            for mode in [Mode::Unique, Mode::Trace] {
                let ran = lab.run(mode).of(&program, &["3"]);
                let trace = ran.exited(7);
                let what = format!("{compiler:?} {sanitizer} {mode:?}");
                assert_eq!(ran.stdout(), "sum 9\n", "{what}");
                assert!(
                    !ran.stderr().contains("Sanitizer"),
                    "{what}: {}",
                    ran.stderr()
                );
                let symbols = Symbols::new(&trace);
                let mut workers = trace.streams().iter().filter(|s| !s.info().main);
                for own in ["task_0", "task_1", "task_2"] {
                    let found = symbols.of(workers.next().unwrap());
                    assert_eq!(found, BTreeSet::from(["work", own]), "{what}");
                }
                assert!(workers.next().is_none(), "{what}");
            }
        }
    }
}
