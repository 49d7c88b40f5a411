// SPDX-License-Identifier: MIT OR Apache-2.0
//! Command lines of `rkcov cc`: whatever is added, the user's arguments are all there, in their order.
//!
//! Arguments end with a zero byte; the last one is what the response file `@r` says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rkcov_cli::toolchain::{Compiler, Family, Instrumentation};
use rkcov_cli::wrap::response::expand;
use rkcov_cli::wrap::{plan, Invocation, Options, Plan, Request, Runtime};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let mut args: Vec<OsString> = bytes
        .split(|byte| *byte == 0)
        .map(|arg| OsString::from_vec(arg.to_vec()))
        .collect();
    let response = args.pop().unwrap_or_default().into_vec();

    let (family, instrumentations) = if choice & 1 == 0 {
        (
            Family::Gcc,
            [
                Instrumentation::Check,
                Instrumentation::Pc,
                Instrumentation::Counters,
            ]
            .into(),
        )
    } else {
        (Family::Clang, Instrumentation::ALL.into())
    };
    let compiler = Compiler {
        family,
        version: String::from("12"),
        arch: String::from("x86_64"),
        instrumentations,
        comparisons: choice & 2 == 0,
        assembler: (choice & 16 == 0).then(|| "/usr/bin/as".into()),
    };
    let options = Options {
        calls: choice & 4 == 0,
        counters: choice & 32 == 0,
        comparisons: choice & 8 == 0,
    };

    let invocation = Invocation::read(args.clone(), || vec!["cc".into()]);
    let taken = args.len() - invocation.args.len();
    assert_eq!(invocation.args, args[taken..]);
    if taken > 0 {
        let words = invocation.launchers.iter().chain([&invocation.compiler]);
        assert!(args[..taken].iter().eq(words));
    }
    let read = |name: &std::ffi::OsStr| (name == "r").then(|| response.clone());
    let expanded = expand(&invocation.args, read);
    assert!(expanded
        .windows(2)
        .all(|pair| pair[0].index <= pair[1].index));
    let request = Request::read(&expanded);
    if let Plan::Add {
        front,
        after,
        header,
        assembles,
        link,
    } = plan(&request, &compiler, "x86_64", options)
    {
        let runtime = Runtime::in_dir(Path::new("/rt"));
        let mut ours: Vec<OsString> = front.into_iter().map(OsString::from).collect();
        if header {
            ours.extend(runtime.header());
        }
        if assembles.is_some() {
            ours.push("-B/as".into());
        }
        if let Some(link) = link {
            ours.extend(runtime.arguments(link, &expanded));
        }
        let all = invocation.with(ours, after);
        assert!(all.len() > invocation.args.len());
        let mut rest = all.iter();
        for arg in &invocation.args {
            assert!(
                rest.any(|found| found == arg),
                "{arg:?} is missing in {all:?}"
            );
        }
    }
});
