// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each mode records, on one deterministic program.

use crate::support::{Compiler, Lab, Ran, Symbols};
use rkcov_report::trace::{Mode, Stream, Trace};
use std::collections::BTreeSet;
use std::ffi::OsStr;

/// PCs as offsets in the executable, so that runs at different addresses compare.
fn offsets(trace: &Trace<'_>, stream: &Stream<'_>) -> Vec<u64> {
    let executable = &trace.modules()[0];
    let offset = |pc: u64| {
        assert!(executable.range.contains(&pc), "{pc:#x}");
        pc - executable.bias
    };
    stream.pcs().map(offset).collect()
}

fn all_offsets(ran: &Ran) -> Vec<Vec<u64>> {
    let trace = ran.exited(0);
    let streams = trace.streams().iter();
    streams.map(|stream| offsets(&trace, stream)).collect()
}

#[test]
fn unique_is_the_set_of_the_trace_for_each_thread() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let program = lab.program(compiler, "mix");
        let mut traced = all_offsets(&lab.run(Mode::Trace).of::<&str>(&program, &[]));
        let mut unique = all_offsets(&lab.run(Mode::Unique).of::<&str>(&program, &[]));
        assert_eq!((traced.len(), unique.len()), (4, 4));
        assert!(traced.iter().map(Vec::len).sum::<usize>() > 3000);
        for list in &mut traced {
            let mut seen = BTreeSet::new();
            list.retain(|pc| seen.insert(*pc));
        }
        // Threads start in any order.
        traced.sort();
        unique.sort();
        assert_eq!(
            unique, traced,
            "{compiler:?}: each PC once, in the order of its first run"
        );
    }
}

#[test]
fn two_instrumentations_in_one_process() {
    if Compiler::all().count() < 2 {
        return;
    }
    let lab = Lab::new();
    // Guards and plain PCs share the bitmap of each thread.
    let gcc = lab.object(Compiler::Gcc, "threads", &["-Dmain=other_main"]);
    let clang = lab.object(Compiler::Clang, "mix", &[]);
    let both = |mode| {
        let runtime = lab.artifact("rkcov.o");
        let call = lab.path("call.c");
        let source = "int other_main(int, char **); int main(int, char **);\n\
                      __attribute__((constructor)) static void both(void) {\n\
                      char *arguments[] = {\"\", \"3\", 0}; other_main(2, arguments); }\n";
        std::fs::write(&call, source).unwrap();
        let program = lab.link("both", &[&gcc, &clang, &runtime, &call]);
        let ran = lab.run(mode).of::<&str>(&program, &[]);
        let trace = ran.exited(0);
        let symbols = Symbols::new(&trace);
        let main = trace.streams().iter().find(|s| s.info().main).unwrap();
        assert_eq!(symbols.of(main), BTreeSet::from(["main", "other_main"]));
        let lists = trace.streams().iter().map(|s| offsets(&trace, s));
        lists.flatten().collect::<BTreeSet<_>>()
    };
    assert_eq!(both(Mode::Unique), both(Mode::Trace));
}

#[test]
fn comparisons() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let program = lab.program(compiler, "mix");
        let ran = lab.run(Mode::Cmp).of::<&str>(&program, &[]);
        let trace = ran.exited(0);
        let all: Vec<_> = trace
            .streams()
            .iter()
            .flat_map(Stream::comparisons)
            .collect();
        let symbols = Symbols::new(&trace);
        let function = |pc| symbols.function(trace.streams()[0].info().process, pc);
        // `case` 34 of the switch over `op`, and `b == 34` in that case.
        let of_step = |constant, arg1| {
            all.iter().any(|cmp| {
                cmp.kind.is_const() == constant
                    && cmp.arg1 == arg1
                    && matches!(function(cmp.pc), Some("step" | "run"))
            })
        };
        assert!(of_step(true, 34), "{compiler:?}");
        if compiler == Compiler::Gcc {
            // Floats are gcc's alone.
            let bits = 0.25_f64.to_bits();
            let is_float = |cmp: &&rkcov_abi::Comparison| cmp.arg1 == bits || cmp.arg2 == bits;
            let float = all.iter().find(is_float).expect("x < 0.25");
            assert_eq!(float.kind.operand_bytes(), 8);
        }
    }
}

#[test]
fn full_buffers_keep_their_beginning_and_count_the_rest() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    let whole = all_offsets(&lab.run(Mode::Trace).of::<&str>(&program, &[]));
    for words in [2, 3, 100, 513] {
        let mut run = lab.run(Mode::Trace);
        run.command
            .args([OsStr::new("--buffer-words"), words.to_string().as_ref()]);
        let ran = run.of::<&str>(&program, &[]);
        let trace = ran.exited(0);
        let mut dropped = 0;
        for stream in trace.streams() {
            let cut = offsets(&trace, stream);
            let drops: u64 = stream.info().drops.iter().map(|drops| drops.count).sum();
            let all = cut.len() + drops as usize;
            let mut threads = whole.iter();
            assert!(threads.any(|list| list.starts_with(&cut) && list.len() == all));
            assert!(drops == 0 || cut.len() == words - 1);
            dropped += drops;
        }
        let said = format!("rkcov: {dropped} records lost");
        assert!(ran.stderr().contains(&said), "{}", ran.stderr());
    }
}
