// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads, forks, programs that run programs, and their ends.

use crate::support::{Compiler, Lab, Symbols};
use rkcov_report::trace::{Exit, Mode};
use std::collections::BTreeSet;

#[test]
fn threads_have_streams_of_their_own() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let program = lab.program(compiler, "threads");
        let ran = lab.run(Mode::Unique).of(&program, &["3"]);
        let trace = ran.exited(7);
        assert_eq!(ran.stdout(), "sum 9\n");
        let symbols = Symbols::new(&trace);

        let (main, workers): (Vec<_>, Vec<_>) = trace.streams().iter().partition(|s| s.info().main);
        assert_eq!((main.len(), workers.len()), (1, 3), "{compiler:?}");
        for (worker, own) in workers.iter().zip(["task_0", "task_1", "task_2"]) {
            assert_eq!(symbols.of(worker), BTreeSet::from(["work", own]));
            assert_eq!(worker.info().name, own);
            assert!(worker.info().finished);
        }
        assert!(symbols.of(main[0]).contains("main"));
        assert!(!symbols.of(main[0]).contains("work"));
        assert!(main[0].info().finished);
        assert_eq!(trace.processes().len(), 1);
        assert_eq!(trace.processes()[0].exit, Exit::Code(7));
    }
}

#[test]
fn forked_children_and_what_they_exec() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let program = lab.program(compiler, "forks");
        for (how, processes) in [("fork", 2), ("exec", 3), ("vfork", 2), ("spawn", 2)] {
            let ran = lab.run(Mode::Unique).of(&program, &[how]);
            let trace = ran.exited(0);
            let symbols = Symbols::new(&trace);
            let of_pid = |pid: u32, wanted: &str| {
                trace
                    .streams()
                    .iter()
                    .filter(|s| trace.process(s.info().process).unwrap().pid == pid)
                    .any(|s| symbols.of(s).contains(wanted))
            };
            let parent = trace.processes()[0].pid;
            let child: u32 = ran.stdout().trim().parse().unwrap();
            assert_eq!(trace.processes().len(), processes, "{compiler:?} {how}");
            assert!(of_pid(parent, "parent"), "{compiler:?} {how}");
            assert!(!of_pid(parent, "child"), "{compiler:?} {how}");
            assert!(of_pid(child, "child"), "{compiler:?} {how}");
            assert!(!of_pid(child, "parent"), "{compiler:?} {how}");
        }
    }
}
