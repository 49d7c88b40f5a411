// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ways in which a client is built, linked and loaded.

use crate::rounds::{goes_its_round, goes_its_round_and_forks};
use crate::support::{covered, finish, lists, succeed, told, Compiler, Lab};
use crate::support::{LIBRARY, OBJECT, PCS, STATIC};
use std::path::PathBuf;
use std::process::Command;

/// What an executable shows to modules that are loaded later.
pub(crate) const EXPORTS: &[&str] = &[
    "-Wl,--export-dynamic-symbol=*rkcov_*",
    "-Wl,--export-dynamic-symbol=__sanitizer_cov_*",
];

#[test]
fn every_way_of_linking() {
    let static_pie = [&["-static-pie"], &STATIC[1..]].concat();
    let ways: &[(&[&str], &[&str])] = &[
        (OBJECT, &["-Wl,-z,defs,-z,now,-z,relro"]),
        (OBJECT, &["-Wl,-Bsymbolic,--gc-sections"]),
        (OBJECT, &["-no-pie"]),
        (OBJECT, &["-rdynamic"]),
        (LIBRARY, &["-Wl,-z,defs,-z,now"]),
        (STATIC, &[]),
        (&static_pie, &[]),
    ];
    for compiler in Compiler::all() {
        for (runtime, flags) in ways {
            let lab = Lab::new();
            let runtime = [runtime, *flags].concat();
            let program = lab.client(compiler, "rounds.c", &runtime, &[]);
            goes_its_round(Command::new(program).arg("1"));
        }
    }
}

#[test]
fn link_time_optimization() {
    for compiler in Compiler::all() {
        let (linker, flags): (&[&str], &[&str]) = match compiler {
            // gcc instruments when it generates code, which is when it links.
            Compiler::Gcc => (PCS, &["-flto", "-O1"]),
            Compiler::Clang => (&["-fuse-ld=lld"], &["-flto=thin", "-O1"]),
        };
        for runtime in [OBJECT, LIBRARY, STATIC] {
            let lab = Lab::new();
            let runtime = [runtime, linker].concat();
            let program = lab.client(compiler, "rounds.c", &runtime, flags);
            goes_its_round(Command::new(program).arg("1"));
        }
    }
}

/// A module that the wrapper of the compiler has not seen: its guards alone tell of it.
fn guarded(lab: &Lab, compiler: Compiler) -> Option<PathBuf> {
    if compiler == Compiler::Gcc {
        return None;
    }
    let name = compiler.name("work.c");
    let object = lab.object(name, "work.c", &["-fsanitize-coverage=trace-pc-guard"]);
    Some(lab.link(name, "guarded.so", &[object], &["-shared"]))
}

#[test]
fn modules_that_come_and_go() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let instrumented = compiler.instrumentation();
        let object = lab.object(compiler.name("work.c"), "work.c", instrumented);
        let module = |name: &str, arguments: &[&str]| {
            let arguments = [&["-shared"], arguments].concat();
            let objects = std::slice::from_ref(&object);
            lab.link(compiler.name("work.c"), name, objects, &arguments)
        };
        let modules = [
            module("one.so", LIBRARY),
            module(
                "two.so",
                &[LIBRARY, &["-Wl,-z,defs", "-Wl,-Bsymbolic"]].concat(),
            ),
            module("three.so", &[LIBRARY, &["-Wl,-z,now,-z,nodelete"]].concat()),
        ];
        let modules = modules.into_iter().chain(guarded(&lab, compiler));
        let modules: Vec<PathBuf> = modules.collect();
        // The runtime in the executable and, as what the modules were linked with, in a library;
        // and in the library alone.
        for runtime in [[OBJECT, EXPORTS].concat(), LIBRARY.to_vec()] {
            let program = lab.client(compiler, "modules.c", &runtime, &[]);
            let printed = succeed(Command::new(program).args(&modules));
            let expected = lists([("mine", &["work"]), ("theirs", &["work"])]);
            assert_eq!(covered(&printed), expected, "{compiler:?} {runtime:?}");
            for module in &modules {
                let module = module.to_str().unwrap();
                for what in ["mine", "theirs"] {
                    let line = format!("{what} {module} ");
                    assert!(printed.contains(&line), "{line}:\n{printed}");
                }
            }
        }
    }
}

/// Compiles `wrapper.c`, a `pthread_create()` of this name before the one of that name.
fn wrapper(lab: &Lab, name: &str, real: &str) -> PathBuf {
    let names = [format!("-DWRAPPER={name}"), format!("-DREAL={real}")];
    lab.object("gcc", "wrapper.c", &[&names[0], &names[1]])
}

/// The client goes its round, and its threads are made through the program's own wrapper.
#[track_caller]
fn wraps(program: &mut Command) {
    goes_its_round(program);
    let output = finish(program);
    assert_eq!(output.stderr, b"wrapped\n", "{}", told(program, &output));
}

#[test]
fn programs_that_wrap_the_making_of_threads() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let own = wrapper(&lab, "pthread_create", "pthread_create");
        let library = lab.link(
            "gcc",
            "libwrapper.so",
            std::slice::from_ref(&own),
            &["-shared"],
        );
        let linked = ["-Wl,--no-as-needed", library.to_str().unwrap()];

        // In a library before the runtime, and behind it.
        let plain = lab.client(compiler, "rounds.c", OBJECT, &[]);
        wraps(Command::new(&plain).arg("1").env("LD_PRELOAD", &library));
        for runtime in [
            [OBJECT, &linked].concat(),
            [LIBRARY, &linked].concat(),
            [&linked, LIBRARY].concat(),
        ] {
            wraps(Command::new(lab.client(compiler, "rounds.c", &runtime, &[])).arg("1"));
        }
        // In the program itself, which the linker is told of, or which defines the name.
        let told = wrapper(&lab, "__wrap_pthread_create", "__real_pthread_create");
        let told = [told.to_str().unwrap(), "-Wl,--wrap=pthread_create"];
        wraps(
            Command::new(lab.client(compiler, "rounds.c", &[OBJECT, &told].concat(), &[])).arg("1"),
        );
        let own = own.to_str().unwrap();
        let runtime = [LIBRARY, &[own]].concat();
        wraps(Command::new(lab.client(compiler, "rounds.c", &runtime, &[])).arg("1"));
    }
}

#[test]
fn other_allocators() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let plain = lab.client(compiler, "rounds.c", OBJECT, &[]);
        for allocator in ["jemalloc", "mimalloc"] {
            let flag = format!("-l{allocator}");
            let runtime = [OBJECT, &[&flag]].concat();
            let linked = lab.client(compiler, "rounds.c", &runtime, &[]);
            goes_its_round(Command::new(linked).args(["50", "256"]));
            let mut preloaded = Command::new(&plain);
            preloaded.env("LD_PRELOAD", format!("lib{allocator}.so.2"));
            // The dynamic linker goes on without what it does not find.
            let said = finish(preloaded.args(["50", "256"])).stderr;
            let said = String::from_utf8_lossy(&said);
            assert!(!said.contains("cannot be preloaded"), "{said}");
            goes_its_round(&mut preloaded);
            goes_its_round_and_forks(&mut preloaded);
        }
    }
}
