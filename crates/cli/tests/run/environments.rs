// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that do without something: without system calls, without much stack, without modules
//! that stay.

use crate::support::{succeed, Compiler, Lab, Symbols, RKCOV};
use rkcov_report::trace::{Mode, Trace};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles and links `tests/run/programs/SOURCE.c` as people do, with `rkcov cc`.
fn build(lab: &Lab, compiler: &str, source: &str, name: &str, flags: &[&str]) -> PathBuf {
    let program = lab.path(name);
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/programs");
    let mut cc = Command::new(RKCOV);
    cc.args(["cc", compiler, "-g", "-O1", "-Wall", "-Werror"])
        .arg(sources.join(source).with_extension("c"))
        .args(flags)
        .arg("-o")
        .arg(&program);
    succeed(&mut cc);
    program
}

fn compilers() -> impl Iterator<Item = String> {
    Compiler::all().map(|compiler| {
        let command = compiler.command().expect("it is installed");
        command.get_program().to_str().unwrap().to_owned()
    })
}

/// The functions of all streams.
fn functions(trace: &Trace<'_>) -> BTreeSet<String> {
    let symbols = Symbols::new(trace);
    let functions = trace.streams().iter().flat_map(|s| symbols.of(s));
    functions.map(str::to_owned).collect()
}

#[test]
fn records_that_find_no_room_make_no_system_calls() {
    let lab = Lab::new();
    let program = build(&lab, "gcc", "sandbox", "sandbox", &["-pthread"]);
    let mut run = lab.run(Mode::Trace);
    run.command.args(["--buffer-words", "64"]);
    let ran = run.of(&program, &["e"]);
    assert_eq!(ran.stdout(), "3\n");
    let lost = ran.stderr();
    assert!(lost.contains("a thread's buffer was full"), "{lost}");
    assert!(functions(&ran.exited(0)).contains("parse"));
}

#[test]
fn a_sandbox_that_allows_no_more_than_libc_needs() {
    for compiler in compilers() {
        let lab = Lab::new();
        let program = build(&lab, &compiler, "sandbox", "sandbox", &["-pthread"]);
        build(&lab, &compiler, "plug", "plugin.so", &["-shared", "-fPIC"]);
        // What nobody linked with the runtime, and is found when the process exits.
        let object = build(&lab, &compiler, "plug", "late.o", &["-c", "-fPIC"]);
        for late in [false, true] {
            // clang's has a gate, which only the wrapper's link opens.
            if late && compiler != "gcc" {
                continue;
            }
            if late {
                let plugin = lab.path("plugin.so");
                let arguments = ["-shared", "-o"];
                succeed(Command::new("gcc").args(arguments).arg(plugin).arg(&object));
            }
            for way in ["e", "t", "p"] {
                let what = format!("{compiler} {way} {late}");
                let alone = Command::new(&program)
                    .arg(way)
                    .current_dir(lab.path(""))
                    .output()
                    .unwrap();
                assert_eq!(alone.status.code(), Some(0), "{what}: {alone:?}");
                for mode in [Mode::Unique, Mode::Trace] {
                    let mut run = lab.run(mode);
                    run.command.current_dir(lab.path(""));
                    let ran = run.of(&program, &[way]);
                    assert_eq!(ran.stdout(), "3\n", "{what}");
                    let found = functions(&ran.exited(0));
                    assert!(found.contains("parse"), "{what}: {found:?}");
                    let plugin = found.contains("plugin");
                    assert_eq!(plugin, way == "p", "{what}: {found:?}");
                    let named = ran
                        .trace()
                        .streams()
                        .iter()
                        .any(|s| s.info().name == "worker");
                    assert_eq!(named, way == "t", "{what}");
                }
            }
        }
    }
}

#[test]
fn a_first_callback_takes_little_stack() {
    let lab = Lab::new();
    let program = build(&lab, "gcc", "stack", "stack", &["-pthread"]);
    for arguments in [&[][..], &["fork"]] {
        for mode in [Mode::Unique, Mode::Trace] {
            let ran = lab.run(mode).of(&program, arguments);
            let found = functions(&ran.exited(0));
            assert!(found.contains("recorded"), "{found:?}");
            let taken: i64 = ran.stdout().trim().parse().unwrap();
            assert!(
                (1..=1024).contains(&taken),
                "{mode:?} {arguments:?}: {taken}"
            );
        }
    }
}

#[test]
fn handlers_on_small_stacks_are_recorded() {
    for compiler in compilers() {
        let lab = Lab::new();
        let program = build(&lab, &compiler, "alternate", "alternate", &["-pthread"]);
        for arguments in [
            &["1024"][..],
            &["1024", "fork"],
            &["2048"],
            &["2048", "fork"],
        ] {
            let alone = Command::new(&program).args(arguments).output().unwrap();
            assert_eq!(alone.stdout, b"ok\n", "{compiler} {arguments:?}");
            for mode in [Mode::Unique, Mode::Trace] {
                let ran = lab.run(mode).of(&program, arguments);
                let found = functions(&ran.exited(0));
                assert_eq!(ran.stdout(), "ok\n", "{compiler} {mode:?} {arguments:?}");
                assert!(
                    found.contains("handled"),
                    "{compiler} {arguments:?}: {found:?}"
                );
            }
        }
    }
}

/// The modules of these names were loaded `times` times, all in different places, and ran each time.
#[track_caller]
fn each_had_a_place(trace: &Trace<'_>, names: &[&str], times: usize) {
    let is_it = |path: &Path| {
        names
            .iter()
            .any(|name| path.to_string_lossy().contains(name))
    };
    let modules = trace.modules().iter().filter(|m| is_it(&m.path));
    let mut ranges: Vec<_> = modules.map(|module| module.range.clone()).collect();
    ranges.sort_by_key(|range| range.start);
    assert_eq!(ranges.len(), times, "{names:?}");
    let apart = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
    assert!(apart, "{names:?}: no address means two things");
    let [stream] = trace.streams() else {
        panic!("one thread")
    };
    let recorded = |range: &std::ops::Range<u64>| stream.pcs().any(|pc| range.contains(&pc));
    assert!(ranges.iter().all(recorded), "{names:?}: each ran");
}

#[test]
fn libraries_that_are_closed_go_and_come_again() {
    for compiler in compilers() {
        let lab = Lab::new();
        let program = build(&lab, &compiler, "reload", "reload", &[]);
        for version in ["one", "two"] {
            let defined = if version == "one" { "-DV=1" } else { "-DV=2" };
            let flags = ["-shared", "-fPIC", defined];
            build(&lab, &compiler, "version", &format!("{version}.so"), &flags);
        }
        for mode in [Mode::Unique, Mode::Trace] {
            for rounds in [1, 200] {
                let mut run = lab.run(mode);
                run.command.current_dir(lab.path(""));
                let ran = run.of(&program, &[rounds.to_string()]);
                let trace = ran.exited(0);
                assert_eq!(ran.stdout(), "closed\n");
                let ends = fs::read(lab.path("ends")).unwrap().len();
                assert_eq!(ends, 2 * rounds, "{compiler}: each was unloaded");
                fs::remove_file(lab.path("ends")).unwrap();

                each_had_a_place(&trace, &["now.so"], 2 * rounds);
            }
        }
    }
}

#[test]
fn libraries_of_a_library_that_is_closed_go_with_it() {
    for compiler in compilers() {
        let lab = Lab::new();
        let program = build(&lab, &compiler, "reload", "reload", &[]);
        let here = format!("-L{}", lab.path("").display());
        for (n, name) in [(1, "one"), (2, "two")] {
            let shared = ["-shared", "-fPIC", &format!("-DV={n}")];
            let inner = [&shared[..], &["-Dversion=inner"]].concat();
            build(&lab, &compiler, "version", &format!("lib{name}.so"), &inner);
            let needed = format!("-l{name}");
            let outer = [&shared[..], &[&here, &needed, "-Wl,-rpath,$ORIGIN"]].concat();
            build(&lab, &compiler, "outer", &format!("{name}.so"), &outer);
        }
        for mode in [Mode::Unique, Mode::Trace] {
            const ROUNDS: usize = 20;
            let mut run = lab.run(mode);
            run.command.current_dir(lab.path(""));
            let ran = run.of(&program, &[ROUNDS.to_string()]);
            let trace = ran.exited(0);
            assert_eq!(ran.stdout(), "closed\n");
            let ends = fs::read(lab.path("ends")).unwrap().len();
            assert_eq!(ends, 4 * ROUNDS, "{compiler}: each was unloaded");
            fs::remove_file(lab.path("ends")).unwrap();
            each_had_a_place(&trace, &["now.so"], 2 * ROUNDS);
            each_had_a_place(&trace, &["libone.so", "libtwo.so"], 2 * ROUNDS);
        }
    }
}

#[test]
fn resolvers_of_static_programs_run_before_there_is_anything_to_record_into() {
    for compiler in compilers() {
        let lab = Lab::new();
        for kind in ["-static", "-static-pie", "-pie"] {
            let program = build(&lab, &compiler, "resolver", "resolver", &[kind]);
            resolves(&lab, &program, &format!("{compiler} {kind}"));
        }
    }
    // With comparisons, whose callbacks come there too.
    let lab = Lab::new();
    let object = lab.object(Compiler::Gcc, "resolver", &[]);
    for kind in ["-static", "-static-pie"] {
        let runtime = lab.artifact("rkcov-static.o");
        let arguments = [
            OsStr::new(kind),
            object.as_os_str(),
            runtime.as_os_str(),
            OsStr::new("-Wl,--wrap=pthread_create"),
        ];
        let program = lab.link("resolver", &arguments);
        resolves(&lab, &program, kind);
    }
}

fn resolves(lab: &Lab, program: &Path, what: &str) {
    let alone = Command::new(program).output().unwrap();
    assert_eq!(alone.stdout, b"2 10\n", "{what} {alone:?}");
    for mode in [Mode::Unique, Mode::Trace] {
        let ran = lab.run(mode).of::<&str>(program, &[]);
        let found = functions(&ran.exited(0));
        assert_eq!(ran.stdout(), "2 10\n", "{what}");
        for name in ["main", "chosen"] {
            assert!(found.contains(name), "{what}: {found:?}");
        }
    }
}

#[test]
fn programs_of_musl() {
    let lab = Lab::new();
    for kind in ["-static", "-pie"] {
        let name = format!("threads{kind}");
        let program = build(&lab, "musl-gcc", "threads", &name, &[kind]);
        let alone = Command::new(&program).arg("3").output().unwrap();
        assert_eq!(alone.status.code(), Some(7), "{alone:?}");
        for mode in [Mode::Unique, Mode::Trace] {
            let ran = lab.run(mode).of(&program, &["3"]);
            let trace = ran.exited(7);
            let symbols = Symbols::new(&trace);
            let streams = trace.streams().iter();
            let found: Vec<_> = streams
                .map(|stream| (stream.info().name.clone(), symbols.of(stream)))
                .collect();
            let thread = |name: &str| {
                let task = BTreeSet::from(["work", name]);
                found.contains(&(name.to_owned(), task))
            };
            assert_eq!(found.len(), 4, "{kind} {found:?}");
            assert!(found[0].1.contains("main"), "{kind} {found:?}");
            for name in ["task_0", "task_1", "task_2"] {
                assert!(thread(name), "{kind} {found:?}");
            }
        }
        let forks = build(&lab, "musl-gcc", "forks", &format!("forks{kind}"), &[kind]);
        for how in ["fork", "exec", "vfork"] {
            let ran = lab.run(Mode::Unique).of(&forks, &[how]);
            let found = functions(&ran.exited(0));
            let child = found.contains("child") && found.contains("parent");
            assert!(child, "{kind} {how}: {found:?}");
        }
    }
}

/// A process with little room is recorded, or it is said that it is not; what it does is the same.
#[test]
fn limits_of_memory() {
    let lab = Lab::new();
    let program = build(&lab, "gcc", "threads", "threads", &["-pthread"]);
    for mib in [64, 128, 256, 400, 700, 1000, 2000, 4000, 16000] {
        let limited = format!("ulimit -v {}; exec \"$0\" 3", mib * 1024);
        let alone = Command::new("sh")
            .args(["-c", &limited])
            .arg(&program)
            .output()
            .unwrap();
        for mode in [Mode::Unique, Mode::Trace] {
            let arguments = [OsStr::new("-c"), OsStr::new(&limited), program.as_os_str()];
            let ran = lab.run(mode).of(Path::new("/bin/sh"), &arguments);
            let what = format!("{mib} {mode:?} {}", ran.stderr());
            assert_eq!(ran.stdout().as_bytes(), alone.stdout, "{what}");
            assert_eq!(ran.output.status, alone.status, "{what}");
            let threads = ran.trace().streams().len();
            let said = ran.stderr().contains("not recorded") || ran.stderr().contains("no room");
            assert!(threads == 4 || said, "{threads} {what}");
        }
    }
}
