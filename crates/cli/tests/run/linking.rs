// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ways in which programs and shared objects are linked and loaded.

use crate::support::{succeed, Compiler, Lab, Ran, Symbols};
use rkcov_report::trace::Mode;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

const PLUGIN: [&str; 3] = ["plugin_call", "plugin_constructor", "plugin_helper"];

/// A shared object with its record, bound to the runtime's library.
fn plugin(lab: &Lab, compiler: Compiler, name: &str, flags: &[&str]) -> PathBuf {
    let object = lab.object(compiler, "plugin", &[]);
    let mut arguments = vec![OsStr::new("-shared"), object.as_os_str()];
    let module = lab.artifact("rkcov-module.o");
    let library = lab.artifact("librkcov.so");
    let rpath = format!("-Wl,-rpath,{}", lab.path("runtime").display());
    arguments.extend([module.as_os_str(), library.as_os_str(), OsStr::new(&rpath)]);
    arguments.extend(flags.iter().map(OsStr::new));
    lab.link(name, &arguments)
}

/// An executable that has the runtime in it and lets its modules see it.
fn host(lab: &Lab, compiler: Compiler, name: &str, more: &[&OsStr]) -> PathBuf {
    let linked: &[&str] = if more.is_empty() { &[] } else { &["-DLINKED"] };
    let object = lab.object(compiler, "host", linked);
    let runtime = lab.artifact("rkcov.o");
    let mut arguments = vec![object.as_os_str(), runtime.as_os_str()];
    let export = [
        OsStr::new("-Wl,--export-dynamic-symbol=__sanitizer_cov_*"),
        OsStr::new("-Wl,--export-dynamic-symbol=__rkcov_*"),
    ];
    arguments.extend(export);
    arguments.extend(more);
    lab.link(name, &arguments)
}

/// The functions of all streams; there must be `streams` of them.
#[track_caller]
fn functions(ran: &Ran, streams: usize) -> BTreeSet<String> {
    let trace = ran.exited(0);
    assert_eq!(trace.streams().len(), streams);
    let symbols = Symbols::new(&trace);
    let functions = trace.streams().iter().flat_map(|s| symbols.of(s));
    functions.map(str::to_owned).collect()
}

fn set(names: &[&[&str]]) -> BTreeSet<String> {
    let names = names.iter().copied().flatten();
    names.map(|&name| name.to_owned()).collect()
}

#[test]
fn static_and_position_independent_executables() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let object = lab.object(compiler, "threads", &[]);
        for (flag, runtime) in [
            ("-static", "rkcov-static.o"),
            ("-static-pie", "rkcov-static.o"),
            ("-pie", "rkcov.o"),
            ("-no-pie", "rkcov.o"),
        ] {
            let runtime = lab.artifact(runtime);
            let mut arguments = vec![
                OsStr::new(flag),
                object.as_os_str(),
                runtime.as_os_str(),
                OsStr::new("-Wl,--fatal-warnings"),
            ];
            if flag.starts_with("-static") {
                arguments.push(OsStr::new("-Wl,--wrap=pthread_create"));
            }
            let program = lab.link(&format!("threads{flag}"), &arguments);
            for mode in [Mode::Unique, Mode::Trace] {
                let ran = lab.run(mode).of(&program, &["2"]);
                let trace = ran.exited(7);
                let symbols = Symbols::new(&trace);
                let found: Vec<_> = trace.streams().iter().map(|s| symbols.of(s)).collect();
                let what = format!("{compiler:?} {flag} {mode:?}");
                assert_eq!(found.len(), 3, "{what}");
                assert_eq!(found[0], BTreeSet::from(["main"]), "{what}");
                assert_eq!(found[1], BTreeSet::from(["work", "task_0"]), "{what}");
                assert_eq!(found[2], BTreeSet::from(["work", "task_1"]), "{what}");
            }
        }
    }
}

#[test]
fn executable_and_loaded_module_share_one_runtime() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let host = host(&lab, compiler, "host", &[]);
        for flags in [
            &[][..],
            &["-Wl,-z,defs", "-Wl,-z,now"],
            &["-Wl,--gc-sections"],
        ] {
            let plugin = plugin(&lab, compiler, "plugin.so", flags);
            for mode in [Mode::Unique, Mode::Trace] {
                let ran = lab.run(mode).of(&host, &[&plugin]);
                assert_eq!(ran.stdout(), "22\n");
                let expect = set(&[&["main", "call"], &PLUGIN]);
                assert_eq!(functions(&ran, 1), expect, "{compiler:?} {flags:?}");
            }
        }
    }
}

#[test]
fn a_module_bound_to_itself_records_all_the_same() {
    // -Bsymbolic leaves what another module defines alone, so this is still one runtime.
    let lab = Lab::new();
    let host = host(&lab, Compiler::Gcc, "host", &[]);
    let plugin = plugin(&lab, Compiler::Gcc, "plugin.so", &["-Wl,-Bsymbolic"]);
    let ran = lab.run(Mode::Unique).of(&host, &[plugin]);
    assert_eq!(functions(&ran, 1), set(&[&["main", "call"], &PLUGIN]));
}

#[test]
fn an_executable_that_hides_its_runtime_gives_the_thread_a_second_stream() {
    let lab = Lab::new();
    let object = lab.object(Compiler::Gcc, "host", &[]);
    let runtime = lab.artifact("rkcov.o");
    let host = lab.link("hiding", &[object, runtime]);
    let plugin = plugin(&lab, Compiler::Gcc, "plugin.so", &[]);
    let ran = lab.run(Mode::Unique).of(&host, &[plugin]);
    assert_eq!(functions(&ran, 2), set(&[&["main", "call"], &PLUGIN]));
}

#[test]
fn module_of_an_executable_that_is_not_instrumented() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run/programs/host.c");
        let host = lab.link("host", &[source]);
        let plugins = ["one.so", "two.so"].map(|name| plugin(&lab, compiler, name, &[]));
        let ran = lab.run(Mode::Unique).of(&host, &plugins);
        assert_eq!(ran.stdout(), "44\n");
        assert_eq!(functions(&ran, 1), set(&[&PLUGIN]), "{compiler:?}");
        // Each in a file of its own, at an address of its own, though both were closed.
        let trace = ran.trace();
        let stream = &trace.streams()[0];
        let mut found = BTreeSet::new();
        for pc in stream.pcs() {
            let mut modules = trace.modules().iter();
            let module = modules.find(|m| m.range.contains(&pc)).unwrap();
            found.insert(module.path.file_name().unwrap().to_owned());
        }
        assert_eq!(found.len(), 2);
    }
}

#[test]
fn shared_object_that_is_linked_in() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let plugin = plugin(&lab, compiler, "libplugin.so", &[]);
        let rpath = format!("-Wl,-rpath,{}", lab.path("").display());
        let more = [plugin.as_os_str(), OsStr::new(&rpath)];
        let host = host(&lab, compiler, "host", &more);
        let ran = lab.run(Mode::Unique).of::<&str>(&host, &[]);
        assert_eq!(ran.stdout(), "22\n");
        let expect = set(&[&["main", "call"], &PLUGIN]);
        assert_eq!(functions(&ran, 1), expect, "{compiler:?}");
    }
}

#[test]
fn modules_that_the_wrapper_has_not_seen() {
    for compiler in Compiler::all() {
        // Guards tell of their module when it comes; what gcc does nobody hears of, until it is closed.
        let instrumentation = match compiler {
            Compiler::Gcc => "-fsanitize-coverage=trace-pc",
            Compiler::Clang => "-fsanitize-coverage=trace-pc-guard",
        };
        let lab = Lab::new();
        let plugin = lab.path("plugin.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run/programs/plugin.c");
        let mut build = compiler.command().expect("the compiler is installed");
        build.args(["-g", "-O1", "-fPIC", "-shared", instrumentation, "-o"]);
        succeed(build.arg(&plugin).arg(source));
        let object = lab.object(compiler, "host", &[]);
        let runtime = lab.artifact("rkcov.o");
        let export = OsStr::new("-Wl,--export-dynamic-symbol=__sanitizer_cov_*");
        let host = lab.link("host", &[object.as_os_str(), runtime.as_os_str(), export]);
        for mode in [Mode::Unique, Mode::Trace] {
            let ran = lab.run(mode).of(&host, &[&plugin]);
            let found = functions(&ran, 1);
            assert!(
                found.is_superset(&set(&[&PLUGIN])),
                "{compiler:?} {mode:?}: {found:?}"
            );
        }
    }
}

#[test]
fn executable_on_the_library_alone() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let object = lab.object(compiler, "threads", &[]);
        let module = lab.artifact("rkcov-module.o");
        let library = lab.artifact("librkcov.so");
        let rpath = format!("-Wl,-rpath,{}", lab.path("runtime").display());
        let arguments = [&object, &module, &library].map(|path| path.as_os_str());
        let arguments: Vec<_> = arguments.into_iter().chain([OsStr::new(&rpath)]).collect();
        let program = lab.link("threads", &arguments);
        let ran = lab.run(Mode::Unique).of(&program, &["1"]);
        let trace = ran.exited(7);
        let symbols = Symbols::new(&trace);
        let found: Vec<_> = trace.streams().iter().map(|s| symbols.of(s)).collect();
        let expect = [BTreeSet::from(["main"]), BTreeSet::from(["work", "task_0"])];
        assert_eq!(found, expect, "{compiler:?}");
    }
}

#[test]
fn link_time_optimization() {
    let lab = Lab::new();
    let object = lab.object(Compiler::Gcc, "threads", &["-flto"]);
    let runtime = lab.artifact("rkcov.o");
    let program = lab.link(
        "threads",
        &[
            OsStr::new("-flto"),
            OsStr::new("-O1"),
            // gcc instruments when it generates code, which is now.
            OsStr::new("-fsanitize-coverage=trace-pc"),
            object.as_os_str(),
            runtime.as_os_str(),
        ],
    );
    let ran = lab.run(Mode::Unique).of(&program, &["1"]);
    let trace = ran.exited(7);
    let symbols = Symbols::new(&trace);
    assert!(symbols.of(&trace.streams()[0]).contains("main"));
    assert!(symbols.of(&trace.streams()[1]).contains("work"));
}

#[test]
fn without_a_collector_programs_run_as_ever_and_closed_modules_go() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let host = host(&lab, compiler, "host", &[]);
        let plugin = plugin(&lab, compiler, "plugin.so", &[]);
        let output = Command::new(host)
            .args([&plugin, &plugin, &plugin])
            .output();
        let output = output.unwrap();
        assert_eq!(output.stdout, b"66\n", "{compiler:?}");
        assert_eq!(output.stderr, b"", "{compiler:?}");
    }
}
