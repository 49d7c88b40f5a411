// SPDX-License-Identifier: MIT OR Apache-2.0
//! How threads come and go, and what interrupts them.

use crate::support::{Compiler, Lab, Ran, Symbols};
use rkcov_report::trace::{Mode, Trace};
use std::collections::{BTreeMap, BTreeSet};

/// The functions of the thread that is not the main one, and whether it has ended in order.
#[track_caller]
fn other_thread(trace: &Trace<'_>) -> (BTreeSet<String>, bool) {
    let symbols = Symbols::new(trace);
    let others: Vec<_> = trace.streams().iter().filter(|s| !s.info().main).collect();
    let [other] = others[..] else {
        panic!("{} other threads", others.len());
    };
    let functions = symbols.of(other).into_iter().map(str::to_owned).collect();
    (functions, other.info().finished)
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn run(lab: &Lab, compiler: Compiler, how: &str) -> Ran {
    let program = lab.program(compiler, "ends");
    lab.run(Mode::Unique).of(&program, &[how])
}

#[test]
fn threads_that_exit_run_their_destructors_on_record() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let ran = run(&lab, compiler, "exit");
        let (functions, finished) = other_thread(&ran.exited(0));
        let expect = set([
            "exits",
            "leave",
            "cleanup",
            "destructor",
            "destructor_1",
            "destructor_2",
            "destructor_3",
        ]);
        assert_eq!(functions, expect, "{compiler:?}");
        assert!(finished);
    }
}

#[test]
fn cancelled_threads_end_in_order() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let ran = run(&lab, compiler, "cancel");
        let found = other_thread(&ran.exited(0));
        assert_eq!(found, (set(["waits", "cleanup"]), true), "{compiler:?}");
    }
}

#[test]
fn threads_cancelled_in_the_middle_of_a_callback() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        for _ in 0..20 {
            let ran = run(&lab, compiler, "cancel-async");
            let found = other_thread(&ran.exited(0));
            let expect = set(["spins", "spin", "cleanup"]);
            assert_eq!(found, (expect, true), "{compiler:?}");
        }
    }
}

#[test]
fn threads_that_pthread_create_did_not_make() {
    let lab = Lab::new();
    let ran = run(&lab, Compiler::Gcc, "c11");
    assert_eq!(other_thread(&ran.exited(0)), (set(["c11", "spin"]), true));
}

#[test]
fn a_process_that_outlives_its_main_thread() {
    let lab = Lab::new();
    let ran = run(&lab, Compiler::Gcc, "outlive");
    let trace = ran.exited(0);
    let found = other_thread(&trace);
    assert_eq!(found, (set(["outlives", "spin"]), true));
    let main = trace.streams().iter().find(|s| s.info().main).unwrap();
    assert!(main.info().finished);
}

#[test]
fn a_program_that_closes_every_file_descriptor() {
    let lab = Lab::new();
    let ran = run(&lab, Compiler::Gcc, "close");
    let (functions, _) = other_thread(&ran.exited(0));
    assert!(functions.contains("exits"));
}

#[test]
fn three_thousand_threads_one_after_another() {
    let lab = Lab::new();
    let ran = run(&lab, Compiler::Gcc, "3000");
    let trace = ran.exited(0);
    let symbols = Symbols::new(&trace);
    let others: Vec<_> = trace.streams().iter().filter(|s| !s.info().main).collect();
    assert_eq!(others.len(), 3000);
    let first = symbols.of(others[0]);
    assert!(first.contains("destructor_3"));
    for other in others {
        assert_eq!(symbols.of(other), first);
        assert!(other.info().finished);
    }
}

/// How many records of each of these functions stand in the only stream of a trace, and of how
/// many PCs.
fn records<const N: usize>(trace: &Trace<'_>, functions: [&str; N]) -> [(u64, u64); N] {
    let symbols = Symbols::new(trace);
    let [main] = trace.streams() else {
        panic!("one thread");
    };
    let dropped: u64 = main.info().drops.iter().map(|drops| drops.count).sum();
    assert_eq!(dropped, 0, "the buffer was too small for this machine");
    let mut times = BTreeMap::<u64, u64>::new();
    for pc in main.pcs() {
        *times.entry(pc).or_default() += 1;
    }
    functions.map(|name| {
        let function = |pc| {
            symbols
                .function(main.info().process, pc)
                .expect("in a function")
        };
        let of = times.iter().filter(|(pc, _)| function(**pc) == name);
        of.fold((0, 0), |(records, pcs), (_, times)| {
            (records + times, pcs + 1)
        })
    })
}

/// What `signals` prints: how often the handler and `tick()` ran.
fn said(ran: &Ran) -> (u64, u64) {
    let (handled, ticked) = ran.stdout().trim().split_once(' ').unwrap();
    (handled.parse().unwrap(), ticked.parse().unwrap())
}

#[test]
fn signal_handlers_interrupt_callbacks() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let program = lab.program(compiler, "signals");
        let ran = lab.run(Mode::Trace).of(&program, &["1000"]);
        let (handled, ticked) = said(&ran);
        let functions = ["handler", "tick"];
        let [(handler, handler_pcs), (tick, tick_pcs)] = records(&ran.exited(0), functions);
        // What is interrupted is there, all of it.
        assert_eq!(tick, ticked * tick_pcs, "{compiler:?}");
        // A handler that comes between the two instructions that advance the count is not.
        let all = handled * handler_pcs;
        assert!((all / 2..=all).contains(&handler), "{compiler:?}");
        assert_eq!(ran.trace().streams()[0].unwritten(), 0);

        // Where an append is not on the hot path, nothing at all is lost.
        let ran = lab.run(Mode::Cmp).of(&program, &["1000"]);
        let (handled, ticked) = said(&ran);
        let [(handler, _), (tick, _)] = records(&ran.exited(0), functions);
        assert_eq!((handler, tick), (handled, ticked), "{compiler:?}");
    }
}

#[test]
fn a_thread_whose_first_instrumented_code_is_a_signal_handler() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let program = lab.program(compiler, "signals");
        let ran = lab.run(Mode::Unique).of(&program, &["first"]);
        let (functions, _) = other_thread(&ran.exited(0));
        assert_eq!(functions, set(["handler"]), "{compiler:?}");
    }
}

#[test]
fn more_threads_than_there_are_slots() {
    const THREADS: usize = 70_000;
    const { assert!(THREADS > rkcov_region::SLOTS) };
    let lab = Lab::new();
    let ran = run(&lab, Compiler::Gcc, &THREADS.to_string());
    let trace = ran.exited(0);
    assert_eq!(trace.streams().len(), THREADS + 1, "{}", ran.stderr());
    assert_eq!(trace.drops().count(), 0);
    let mut others = trace.streams().iter().filter(|s| !s.info().main);
    let first: Vec<u64> = others.next().unwrap().pcs().collect();
    assert!(first.len() > 5);
    assert!(others.all(|other| other.pcs().eq(first.iter().copied())));
}
