// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules that come without a word, far away, in great numbers, or where others were: each PC once in
//! each thread, and what is lost is said.

use crate::losses::{losses_of, Case, Says};
use crate::support::{succeed, Compiler, Lab, Ran, Symbols, RKCOV};
use rkcov_report::trace::{DropReason, Mode};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/run/programs")
        .join(name)
}

/// Builds with `rkcov cc`: on x86-64, C has checks.
fn with_checks(lab: &Lab, from: &str, to: &str, flags: &[&str]) -> PathBuf {
    let file = lab.path(to);
    let mut cc = Command::new(RKCOV);
    cc.args(["cc", "gcc", "-g", "-O1", "-Wall", "-Werror"]);
    cc.arg(source(from)).args(flags).arg("-o").arg(&file);
    succeed(&mut cc);
    file
}

fn host(lab: &Lab) -> PathBuf {
    with_checks(lab, "modules.c", "modules", &["-pthread"])
}

fn shared(lab: &Lab, name: &str, flags: &[&str]) -> PathBuf {
    let all = [&["-shared", "-fPIC"], flags].concat();
    with_checks(lab, "hot.c", name, &all)
}

/// Compiled with the wrapper, but not linked with it: nobody is told when it is loaded.
fn linked_without_us(lab: &Lab, name: &str) -> PathBuf {
    let object = lab.path("hot.o");
    let mut cc = Command::new(RKCOV);
    cc.args(["cc", "gcc", "-g", "-O1", "-fPIC", "-c"]);
    succeed(cc.arg(source("hot.c")).arg("-o").arg(&object));
    lab.link(name, &[OsStr::new("-shared"), object.as_os_str()])
}

fn run<S: AsRef<OsStr>>(lab: &Lab, host: &Path, arguments: &[S]) -> Ran {
    lab.run(Mode::Unique).of(host, arguments)
}

/// Asserts that no stream has a PC twice, and how many have one in `function`.
#[track_caller]
fn are_unique(ran: &Ran, function: &str, expect: usize) {
    let trace = ran.exited(0);
    let symbols = Symbols::new(&trace);
    let mut found = 0;
    for stream in trace.streams() {
        let process = stream.info().process;
        let pcs: Vec<_> = stream.pcs().collect();
        let each: BTreeSet<_> = pcs.iter().collect();
        assert_eq!(each.len(), pcs.len());
        assert!(stream.info().drops.is_empty());
        let mut names = pcs.iter().map(|pc| symbols.function(process, *pc));
        found += usize::from(names.any(|name| name == Some(function)));
    }
    assert_eq!(found, expect, "threads in {function}()");
    assert_eq!(losses_of(&trace), []);
}

#[test]
fn calls_of_a_late_module_that_the_wrapper_has_not_linked_are_unique() {
    for compiler in Compiler::all() {
        let lab = Lab::new();
        let host = host(&lab);
        let plain = lab.path("plain.so");
        let mut cc = compiler.command().unwrap();
        cc.args(["-g", "-O1", "-shared", "-fPIC"]);
        cc.arg("-fsanitize-coverage=trace-pc,trace-cmp");
        succeed(cc.arg(source("hot.c")).arg("-o").arg(&plain));
        let arguments = [OsStr::new("late"), plain.as_os_str(), OsStr::new("200000")];
        let mut small = lab.run(Mode::Unique);
        small.command.args(["--buffer-words", "512"]);
        let ran = small.of(&host, &arguments);
        are_unique(&ran, "hot", 2);
        are_unique(&ran, "after", 1);
        let checked = linked_without_us(&lab, "checked.so");
        let ran = run(
            &lab,
            &host,
            &[OsStr::new("late"), checked.as_os_str(), OsStr::new("9")],
        );
        are_unique(&ran, "hot", 2);
        // What runs after both is in every format.
        let mut case = Case::of(lab, host);
        for late in [plain, checked] {
            let script = format!("$P late {} 200000", late.display());
            case.run(&["--buffer-words", "512"], &script);
            assert_eq!(case.line("modules.c", "return n + 7;"), Says::Ran);
            assert_eq!(case.line("hot.c", "if (i % 3)"), Says::Ran);
            case.lost_nothing();
        }
    }
}

#[test]
fn checks_of_a_module_that_nobody_knew_of_are_a_loss_where_there_is_no_zone() {
    let lab = Lab::new();
    let host = host(&lab);
    let late = linked_without_us(&lab, "late.so");
    let mut case = Case::of(lab, host);
    // A zone takes more than that.
    case.run(
        &[],
        &format!("ulimit -v 16000000; $P late {} 9", late.display()),
    );
    case.says("1 module not fully recorded: no room to note which checks were reached");
    assert_ne!(case.line("hot.c", "sum++;"), Says::Missed);
    assert_eq!(case.line("modules.c", "return n + 7;"), Says::Ran);
}

#[test]
fn more_modules_than_the_table_has() {
    const MODULES: usize = 1100;
    for wrapped in [true, false] {
        let lab = Lab::new();
        let host = host(&lab);
        let one = if wrapped {
            shared(&lab, "hot.so", &[])
        } else {
            let plain = lab.path("hot.so");
            let mut cc = Command::new("gcc");
            cc.args([
                "-g",
                "-O1",
                "-shared",
                "-fPIC",
                "-fsanitize-coverage=trace-pc",
            ]);
            succeed(cc.arg(source("hot.c")).arg("-o").arg(&plain));
            plain
        };
        let mut arguments = vec![OsStr::new("all").to_owned()];
        for n in 0..MODULES {
            let copy = lab.path(&format!("{n}.so"));
            fs::copy(&one, &copy).unwrap();
            arguments.push(copy.into());
        }
        let ran = run(&lab, &host, &arguments);
        are_unique(&ran, "hot", 1);
        let trace = ran.exited(0);
        let ran_in = |module: &rkcov_report::trace::Module| {
            let mut pcs = trace.streams().iter().flat_map(|stream| stream.pcs());
            pcs.any(|pc| module.range.contains(&pc))
        };
        let is_copy = |path: &Path| path.parent() == one.parent() && path.extension().is_some();
        let copies: Vec<_> = trace
            .modules()
            .iter()
            .filter(|m| is_copy(&m.path))
            .collect();
        assert_eq!(copies.len(), MODULES, "wrapped: {wrapped}");
        assert!(copies.into_iter().all(ran_in), "wrapped: {wrapped}");
    }
}

#[test]
fn a_module_whose_bytes_in_maps_are_anothers_calls() {
    let lab = Lab::new();
    let (host, one) = (host(&lab), shared(&lab, "one.so", &[]));
    let two = shared(&lab, "two.so", &["-DNAME=hot"]);
    for far in [&["8"][..], &["24"], &["24", "block"]] {
        let mut arguments = vec![OsStr::new("far"), one.as_os_str(), two.as_os_str()];
        arguments.extend(far.iter().map(OsStr::new));
        let ran = run(&lab, &host, &arguments);
        are_unique(&ran, "hot", 3);
        let trace = ran.exited(0);
        for file in [&one, &two] {
            let module = trace.modules().iter().find(|m| m.path == *file).unwrap();
            let streams = trace.streams().iter();
            let in_it = streams.filter(|s| s.pcs().any(|pc| module.range.contains(&pc)));
            assert_eq!(in_it.count(), 2, "{far:?}: {}", file.display());
        }
    }
}

#[test]
fn checks_of_a_module_that_nobody_knew_of_far_below_the_others_are_a_loss() {
    let lab = Lab::new();
    let (host, one) = (host(&lab), shared(&lab, "one.so", &[]));
    let two = linked_without_us(&lab, "two.so");
    let mut case = Case::of(lab, host);
    for far in [12, 24, 1000] {
        let (one, two) = (one.display(), two.display());
        case.run(&[], &format!("$P far {one} {two} {far}"));
        case.says("1 module not fully recorded: no room to note which checks were reached");
        assert_eq!(case.line("hot.c", "sum++;"), Says::Unknown, "{far}");
        assert_eq!(
            case.line("modules.c", "return n + 7;"),
            Says::Unknown,
            "{far}"
        );
    }
}

#[test]
fn a_module_that_cannot_be_made_to_call_is_a_loss() {
    let lab = Lab::new();
    let (host, one) = (host(&lab), shared(&lab, "one.so", &[]));
    let two = shared(&lab, "two.so", &[]);
    let arguments = [
        "far".as_ref(),
        one.as_os_str(),
        two.as_os_str(),
        "8".as_ref(),
        "deny".as_ref(),
    ];
    let ran = run(&lab, &host, &arguments);
    let trace = ran.exited(0);
    assert_eq!(losses_of(&trace), [(DropReason::NoChecks, 1)]);
}

#[test]
fn a_module_that_lies_where_another_was_is_a_loss() {
    let lab = Lab::new();
    let (host, one) = (host(&lab), shared(&lab, "one.so", &[]));
    let two = shared(&lab, "two.so", &["-DOTHER"]);
    let mut case = Case::of(lab, host);
    let script = |two: &Path| format!("$P replace {} {}", one.display(), two.display());
    case.run(&[], &script(&two));
    case.says("1 module unknown: PCs in them cannot be resolved: loaded at the addresses of closed modules");
    assert_eq!(case.line("modules.c", "return n + 7;"), Says::Unknown);
    // The same file means the same.
    case.run(&[], &script(&one));
    case.lost_nothing();
    assert_eq!(case.line("modules.c", "return n + 7;"), Says::Missed);
}

#[test]
fn a_thread_whose_base_is_its_own_is_a_loss() {
    let lab = Lab::new();
    let host = host(&lab);
    let mut case = Case::of(lab, host);
    case.run(&[], "$P base");
    case.says("1 thread not fully recorded: the program uses the GS base itself");
    assert_ne!(case.line("modules.c", "return n + 7;"), Says::Missed);
}
