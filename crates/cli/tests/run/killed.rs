// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that are killed lose nothing that they had recorded.

use crate::support::{Compiler, Lab, Symbols};
use rkcov_report::trace::{Exit, Mode};
use rustix::process::{kill_process, Pid, Signal};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

/// The program says `PID STEP` after each step; it is killed after so many.
fn steps_before_kill(round: u64) -> usize {
    // Spread over the program's 40 steps.
    (round * 7919 % 37) as usize + 1
}

#[test]
fn nothing_is_lost_in_100_rounds() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "steps");
    for round in 0..100 {
        let mode = if round % 2 == 0 {
            Mode::Unique
        } else {
            Mode::Trace
        };
        let mut running = lab.run(mode).start(&program, &["40"]);
        let mut said = BufReader::new(running.child.stdout.take().unwrap()).lines();
        let steps = steps_before_kill(round);
        let last = said.nth(steps - 1).unwrap().unwrap();
        let (pid, step) = last.split_once(' ').unwrap();
        assert_eq!(step.parse(), Ok(steps));
        kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();

        let ran = running.end();
        let trace = ran.exited(128 + 9);
        assert_eq!(trace.processes()[0].exit, Exit::Signal(9));
        let symbols = Symbols::new(&trace);
        let recorded: BTreeSet<_> = trace.streams().iter().flat_map(|s| symbols.of(s)).collect();
        for step in 1..=steps {
            // Each step runs in a thread of its own, and all of them are still there.
            let name = format!("step_{step}");
            assert!(recorded.contains(name.as_str()), "round {round}: {name}");
        }
        assert!(trace.streams().len() > steps);
        let finished = trace.streams().iter().filter(|s| s.info().finished);
        assert_eq!(finished.count(), 0);
    }
}
