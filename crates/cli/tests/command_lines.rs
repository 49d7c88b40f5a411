// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the compiler wrapper adds to command lines: a table of real ones, and properties of any.

use proptest::prelude::*;
use rkcov_cli::toolchain::{Compiler, Family, Instrumentation};
use rkcov_cli::wrap::response::{expand, split, Argument};
use rkcov_cli::wrap::{plan, Invocation, Options, Plan, Request, Runtime};
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

fn gcc() -> Compiler {
    Compiler {
        family: Family::Gcc,
        version: String::from("12.2.0"),
        arch: String::from("x86_64"),
        instrumentations: [
            Instrumentation::Check,
            Instrumentation::Pc,
            Instrumentation::Counters,
        ]
        .into(),
        comparisons: true,
        assembler: None,
    }
}

fn clang() -> Compiler {
    Compiler {
        family: Family::Clang,
        version: String::from("22.1.8"),
        instrumentations: Instrumentation::ALL.into(),
        ..gcc()
    }
}

fn old_clang() -> Compiler {
    Compiler {
        version: String::from("14.0.6"),
        instrumentations: [Instrumentation::Guard, Instrumentation::Pc].into(),
        ..clang()
    }
}

fn response_file(name: &OsStr) -> Option<Vec<u8>> {
    let text = match name.to_str()? {
        "link.rsp" => "-shared -o 'lib a.so' a.o @more.rsp",
        "more.rsp" => "b.o -Wl,-soname,liba.so",
        "nodebug.rsp" => "-O2 -g0",
        _ => return None,
    };
    Some(text.into())
}

/// The arguments that a compiler gets, or why they are the user's alone.
fn decide(
    invocation: &Invocation,
    compiler: &Compiler,
    options: Options,
) -> Result<Vec<OsString>, String> {
    let given: Vec<Argument> = expand(&invocation.args, response_file);
    match plan(&Request::read(&given), compiler, "x86_64", options) {
        Plan::Leave(reason) => Err(reason.to_string()),
        Plan::Add {
            front,
            after,
            header,
            assembles,
            link,
        } => {
            let runtime = Runtime::in_dir(Path::new("/rt"));
            let mut ours: Vec<OsString> = front.into_iter().map(OsString::from).collect();
            if assembles.is_some() {
                ours.push("-B/as".into());
            }
            if header {
                ours.extend(runtime.header());
            }
            if let Some(link) = link {
                ours.extend(runtime.arguments(link, &given));
            }
            Ok(invocation.with(ours, after))
        }
    }
}

/// A command line in few words: each group of ours by a name.
fn shown(args: &[OsString]) -> String {
    let mut text = args.join(OsStr::new(" ")).into_string().unwrap();
    for (ours, name) in [
        (
            "-Xclang -fsanitize-coverage-type=3 -Xclang -fsanitize-coverage-trace-pc-guard",
            "GUARD",
        ),
        (
            "-Xclang -fsanitize-coverage-type=3 -Xclang -fsanitize-coverage-trace-pc -fno-integrated-as",
            "PC",
        ),
        ("-B/as", "CHECKS"),
        (
            "-fsanitize-coverage=trace-pc -fno-optimize-sibling-calls",
            "PC",
        ),
        ("-fdebug-info-for-profiling", "NAMES"),
        ("-idirafter /rt", "HEADER"),
        ("-Xlinker /rt/rkcov.o", "RUNTIME"),
        (
            "-Xlinker /rt/rkcov-static.o -Xlinker --wrap=pthread_create \
             -Xlinker --wrap=pthread_setname_np -Xlinker --undefined=pthread_setname_np",
            "RUNTIME",
        ),
        ("-Xlinker /rt/rkcov-module.o", "MODULE"),
        (
            "-Xlinker /rt/librkcov.so.0 -Xlinker -rpath -Xlinker /rt",
            "LIBRARY",
        ),
    ] {
        text = text.replace(ours, name);
    }
    let exports = text
        .split(" -Xlinker --export-dynamic-symbol=")
        .enumerate()
        .map(|(i, part)| {
            if i == 0 {
                part
            } else {
                part.split_once(' ').map_or("", |(_, rest)| rest)
            }
        })
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>();
    if exports.len() > 1 {
        exports.join(" EXPORTS ")
    } else {
        text
    }
}

#[test]
fn real_command_lines() {
    let mut table = String::new();
    for line in include_str!("command_lines.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(table, "{line}").unwrap();
            continue;
        }
        let invocation = Invocation::read(split(line.as_bytes()), || vec!["cc".into()]);
        writeln!(table, "{line}").unwrap();
        let gcc = decide(&invocation, &gcc(), Options::default());
        let clang = decide(&invocation, &clang(), Options::default());
        match (gcc, clang) {
            (Err(gcc), Err(clang)) if gcc == clang => {
                writeln!(table, "    left alone: {gcc}").unwrap()
            }
            (gcc, clang) => {
                for (name, did) in [("gcc", gcc), ("clang", clang)] {
                    match did {
                        Ok(args) => writeln!(table, "    {name:5} {}", shown(&args)).unwrap(),
                        Err(reason) => {
                            writeln!(table, "    {name:5} left alone: {reason}").unwrap()
                        }
                    }
                }
            }
        }
    }
    insta::assert_snapshot!("command_lines", table);
}

/// A fuzzer has the callbacks, so no runtime is linked.
#[test]
fn counters_are_for_a_fuzzer() {
    let with = |compiler: &Compiler, line: &str, comparisons| {
        let line = Invocation::of("cc".into(), split(line.as_bytes()));
        let options = Options {
            counters: true,
            comparisons,
            ..Options::default()
        };
        decide(&line, compiler, options).map(|args| shown(&args))
    };
    let made = |text: &str| Ok(text.to_owned());
    assert_eq!(
        with(&gcc(), "-c a.c", false),
        made("PC -g1 CHECKS HEADER -c a.c")
    );
    assert_eq!(
        with(&gcc(), "-g a.c -o a", true),
        made("PC -fsanitize-coverage=trace-cmp CHECKS HEADER -g a.c -o a")
    );
    assert_eq!(
        with(&clang(), "-g -c a.c", false),
        made(
            "-Xclang -fsanitize-coverage-type=3 -Xclang -fsanitize-coverage-inline-8bit-counters \
             -Xclang -fsanitize-coverage-pc-table HEADER -g -c a.c"
        )
    );
    assert_eq!(
        with(&clang(), "a.o -o a", false),
        Err("programs with counters have a fuzzer for the runtime".into())
    );
    assert_eq!(
        with(&old_clang(), "-c a.c", false),
        Err("the compiler cannot make counters".into())
    );
}

#[test]
fn options_and_older_compilers() {
    let line = Invocation::of("cc".into(), split(b"-c a.c"));
    let with = |compiler: &Compiler, calls, comparisons| {
        let options = Options {
            calls,
            comparisons,
            ..Options::default()
        };
        shown(&decide(&line, compiler, options).unwrap())
    };
    assert_eq!(
        with(&clang(), true, false),
        "GUARD NAMES -gline-tables-only HEADER -c a.c"
    );
    assert_eq!(
        with(&old_clang(), false, false),
        "GUARD NAMES -gline-tables-only HEADER -c a.c"
    );
    assert_eq!(
        with(&clang(), false, true),
        "PC -Xclang -fsanitize-coverage-trace-cmp NAMES -gline-tables-only CHECKS HEADER -c a.c"
    );
    assert_eq!(
        with(&gcc(), false, true),
        "PC -fsanitize-coverage=trace-cmp -g1 CHECKS HEADER -c a.c"
    );
    assert_eq!(with(&gcc(), true, false), "PC -g1 HEADER -c a.c");
    let mute = Compiler {
        instrumentations: [].into(),
        ..gcc()
    };
    let left = decide(&line, &mute, Options::default()).unwrap_err();
    assert_eq!(left, "the compiler cannot instrument");
}

#[test]
fn what_names_the_compiler() {
    let read = |line: &str, default: &str| {
        let invocation = Invocation::read(split(line.as_bytes()), || split(default.as_bytes()));
        let join = |words: &[OsString]| words.join(OsStr::new(" ")).into_string().unwrap();
        let launchers = join(&invocation.launchers);
        let compiler = invocation.compiler.into_string().unwrap();
        [launchers, compiler, join(&invocation.args)]
    };
    assert_eq!(read("-c a.c", "cc"), ["", "cc", "-c a.c"]);
    assert_eq!(read("clang-22 -c a.c", "cc"), ["", "clang-22", "-c a.c"]);
    assert_eq!(read("gcc gcc", "cc"), ["", "gcc", "gcc"]);
    assert_eq!(read("ccache gcc -c a.c", "cc"), ["ccache", "gcc", "-c a.c"]);
    assert_eq!(
        read("ccache distcc /opt/bin/g++", "cc"),
        ["ccache distcc", "/opt/bin/g++", ""]
    );
    assert_eq!(read("ccache a.o", "cc"), ["", "cc", "ccache a.o"]);
    assert_eq!(
        read("-c a.c", "ccache clang"),
        ["ccache", "clang", "-c a.c"]
    );
    assert_eq!(
        read("-c a.c", "my-compiler -m64"),
        ["", "my-compiler", "-m64 -c a.c"]
    );
    assert_eq!(
        read("-c a.c", "env -i ours gcc -m64"),
        ["env -i ours", "gcc", "-m64 -c a.c"]
    );
    assert_eq!(
        read("-c a.c", "my-compiler -B/opt/gcc -m64"),
        ["", "my-compiler", "-B/opt/gcc -m64 -c a.c"]
    );
    assert_eq!(read("gcc.c", "my-compiler"), ["", "my-compiler", "gcc.c"]);
    assert_eq!(read("", "ccache"), ["", "ccache", ""]);
    assert_eq!(read("", "cc"), ["", "cc", ""]);
}

/// Arguments that mean something, and any other.
fn argument() -> impl Strategy<Value = OsString> {
    let known = prop::sample::select(vec![
        "-c",
        "-S",
        "-E",
        "-o",
        "-ofile",
        "-x",
        "-xc",
        "none",
        "c",
        "-",
        "--",
        "",
        "@link.rsp",
        "@nodebug.rsp",
        "@none",
        "-g",
        "-g0",
        "-g1",
        "-gz",
        "-shared",
        "-static",
        "-r",
        "-Wl,",
        "-Wl,-r,--help",
        "-Wl,-shared",
        "-Xlinker",
        "-Xclang",
        "-nostdlib",
        "-lc",
        "-l",
        "a.c",
        "b.o",
        "x.h",
        "y.S",
        "-m32",
        "-target",
        "--target=aarch64-linux-gnu",
        "--target=x86_64-linux-gnu",
        "-fsanitize-coverage=bb",
        "-cc1",
        "-ffreestanding",
        "gcc",
        "ccache",
        "/rt/rkcov-module.o",
        "-flto",
    ])
    .prop_map(OsString::from);
    let any = prop::collection::vec(any::<u8>(), 0..8).prop_map(OsString::from_vec);
    prop_oneof![8 => known, 1 => any]
}

proptest! {
    /// Whatever is added, the user's arguments are all there, in their order, and nothing panics.
    #[test]
    fn any_command_line_keeps_its_arguments(args in prop::collection::vec(argument(), 0..12), flags: [bool; 4]) {
        let [is_gcc, calls, counters, comparisons] = flags;
        let invocation = Invocation::read(args.clone(), || vec!["cc".into()]);
        let compiler = if is_gcc { gcc() } else { clang() };
        let named = invocation.args.len() < args.len();
        if named {
            let taken = args.len() - invocation.args.len();
            let words = invocation.launchers.iter().chain([&invocation.compiler]);
            prop_assert!(args[..taken].iter().eq(words));
        }
        if let Ok(all) = decide(&invocation, &compiler, Options { calls, counters, comparisons }) {
            let mut rest = all.iter();
            for arg in &invocation.args {
                prop_assert!(rest.any(|found| found == arg), "{arg:?} is missing in {all:?}");
            }
            prop_assert!(all.len() > invocation.args.len());
        }
    }

    /// What a response file can say, it says: quoted arguments come out as they went in.
    #[test]
    fn response_files_carry_any_argument(args in prop::collection::vec(prop::collection::vec(1_u8.., 0..6), 0..6)) {
        let mut text = Vec::new();
        for arg in &args {
            text.push(b'"');
            for &byte in arg {
                if matches!(byte, b'"' | b'\\') {
                    text.push(b'\\');
                }
                text.push(byte);
            }
            text.extend(b"\"\n");
        }
        let expect: Vec<OsString> = args.into_iter().map(OsString::from_vec).collect();
        prop_assert_eq!(split(&text), expect);
    }
}
