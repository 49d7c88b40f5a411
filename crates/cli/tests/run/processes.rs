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

#[test]
fn a_child_behind_libcs_back_does_not_end_its_parents_stream() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "forks");
    let ran = lab.run(Mode::Unique).of(&program, &["bare"]);
    let trace = ran.exited(128 + 9);
    let [stream] = trace.streams() else {
        panic!("{} streams", trace.streams().len());
    };
    assert!(Symbols::new(&trace).of(stream).contains("parent"));
    assert!(!stream.info().finished);
}

#[test]
fn two_thousand_forks_among_threads_that_come_and_go() {
    let lab = Lab::new();
    for compiler in Compiler::all() {
        let program = lab.program(compiler, "storm");
        let ran = lab.run(Mode::Unique).of(&program, &["2000"]);
        let trace = ran.exited(0);
        assert_eq!(ran.stdout(), "2000\n");
        assert_eq!(trace.processes().len(), 2001, "{compiler:?}");
        assert_eq!(trace.drops().count(), 0);
        let symbols = Symbols::new(&trace);
        let mut threads_of_children = 0;
        for stream in trace.streams() {
            let functions = symbols.of(stream);
            if functions.contains("of_child") {
                assert_eq!(functions, BTreeSet::from(["of_child"]));
                assert_ne!(stream.info().process.index(), 0);
                threads_of_children += 1;
            } else if functions.contains("noise") {
                assert_eq!(functions, BTreeSet::from(["brief", "noise"]));
                assert_eq!(stream.info().process.index(), 0);
            }
        }
        assert_eq!(threads_of_children, 2000, "{compiler:?}");
    }
}
