// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work that has names: each context has what was run in it, and nothing else.

use serde_json::Value;

use crate::support::{succeed, Compiler, Lab, Ran, Symbols, RKCOV};
use rkcov_report::trace::{ContextKind, DropReason, Ended, Mode, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a program is instrumented.
#[derive(Clone, Copy, Debug)]
enum Build {
    Calls(Compiler),
    /// By `rkcov cc`: checks where there are any.
    Checks,
}

fn builds() -> impl Iterator<Item = Build> {
    Compiler::all().map(Build::Calls).chain([Build::Checks])
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/programs/contexts.c")
}

fn program(lab: &Lab, build: Build) -> PathBuf {
    match build {
        Build::Calls(compiler) => {
            let include = format!("-I{}", lab.path("runtime").display());
            let object = lab.object(compiler, "contexts", &[&include]);
            let runtime = lab.artifact("rkcov.o");
            let inputs = [object.as_os_str(), runtime.as_os_str(), "-pthread".as_ref()];
            lab.link("contexts", &inputs)
        }
        Build::Checks => {
            let program = lab.path("contexts");
            let mut cc = Command::new(RKCOV);
            cc.args(["cc", "-g", "-O1", "-Wall", "-Werror", "-pthread"]);
            succeed(cc.arg(source()).arg("-o").arg(&program));
            program
        }
    }
}

/// The functions that contexts have, by their names; those of no context by the name "-". Functions that
/// only drive the program are left out.
fn functions(trace: &Trace<'_>) -> BTreeMap<String, BTreeSet<String>> {
    let symbols = Symbols::new(trace);
    let mut of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for stream in trace.streams() {
        let context = stream.info().context.and_then(|id| trace.context(id));
        let name = context.map_or("-".to_owned(), |context| {
            String::from_utf8(context.name.clone()).unwrap()
        });
        let functions = symbols.of(stream).into_iter().map(str::to_owned);
        of.entry(name).or_default().extend(functions);
    }
    for functions in of.values_mut() {
        functions.retain(|name| PIECES.contains(&name.as_str()));
    }
    of.retain(|_, functions| !functions.is_empty());
    of
}

const PIECES: [&str; 10] = [
    "shared",
    "handle_a",
    "handle_b",
    "before_inner",
    "inner",
    "after_inner",
    "outside",
    "in_time",
    "late",
    "inherits",
];

fn expect(of: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    of.iter()
        .map(|(name, functions)| ((*name).to_owned(), set(functions)))
        .collect()
}

/// Runs the program in all builds and modes; `look` gets what is in the trace.
fn everywhere(arguments: &[&str], status: i32, look: impl Fn(&Trace<'_>, &Ran)) {
    for build in builds() {
        let lab = Lab::new();
        let program = program(&lab, build);
        for mode in [Mode::Unique, Mode::Trace] {
            let ran = lab.run(mode).of(&program, arguments);
            println!("{build:?}, {mode:?}");
            look(&ran.exited(status), &ran);
        }
    }
}

#[test]
fn requests_on_a_pool_have_what_was_run_for_them() {
    everywhere(&["pool"], 0, |trace, _| {
        let expected: &[(&str, &[&str])] = &[
            ("GET /a", &["handle_a", "shared"]),
            ("GET /b", &["handle_b", "shared"]),
        ];
        assert_eq!(functions(trace), expect(expected));
        let requests: Vec<_> = trace
            .contexts()
            .iter()
            .filter(|context| context.kind == ContextKind::Request)
            .collect();
        assert_eq!(requests.len(), 2);
        for context in requests {
            assert!(matches!(context.ended, Ended::At(_)));
            assert_eq!(context.process, Some(trace.streams()[0].info().process));
        }
        // Each was served by two threads, each of which has served both.
        let served = |name: &[u8]| -> BTreeSet<u32> {
            let of = |stream: &&rkcov_report::trace::Stream<'_>| {
                let id = stream.info().context;
                id.is_some_and(|id| trace.context(id).unwrap().name == name)
            };
            let streams = trace.streams().iter().filter(of);
            streams.map(|stream| stream.info().tid).collect()
        };
        assert_eq!(served(b"GET /a").len(), 2);
        assert_eq!(served(b"GET /a"), served(b"GET /b"));
    });
}

#[test]
fn an_inner_context_suspends_the_outer_one() {
    everywhere(&["nested"], 0, |trace, _| {
        let expected: &[(&str, &[&str])] = &[
            ("-", &["outside"]),
            ("inner", &["inner"]),
            ("outer", &["after_inner", "before_inner"]),
        ];
        assert_eq!(functions(trace), expect(expected));
        let [outer, inner, ..] = trace.contexts() else {
            panic!("{:?}", trace.contexts());
        };
        assert_eq!(outer.parent, None);
        let parent = inner.parent.and_then(|id| trace.context(id));
        assert_eq!(parent.map(|context| &*context.name), Some(&b"outer"[..]));
    });
}

#[test]
fn threads_begin_in_the_context_in_which_they_are_made() {
    everywhere(&["inherit"], 0, |trace, _| {
        let expected: &[(&str, &[&str])] = &[
            ("-", &["in_time", "inherits"]),
            ("parent", &["in_time", "inherits"]),
        ];
        assert_eq!(functions(trace), expect(expected));
        let main = trace.streams().iter().find(|s| s.info().main).unwrap();
        for stream in trace.streams().iter().filter(|s| !s.info().main) {
            assert_eq!(stream.info().creator, main.info().tid);
        }
    });
}

#[test]
fn what_goes_on_when_a_context_has_ended_is_nobodys() {
    everywhere(&["ended"], 0, |trace, _| {
        let expected: &[(&str, &[&str])] = &[
            ("-", &["handle_b", "in_time", "inner", "late", "shared"]),
            ("over", &["in_time", "inner"]),
        ];
        assert_eq!(functions(trace), expect(expected));
    });
}

#[test]
fn a_killed_program_leaves_its_contexts() {
    everywhere(&["killed"], 128 + 9, |trace, _| {
        let expected: &[(&str, &[&str])] = &[
            ("first", &["handle_a", "shared"]),
            ("second", &["handle_b", "shared"]),
        ];
        assert_eq!(functions(trace), expect(expected));
        let ended = trace.contexts().iter().map(|c| c.ended != Ended::No);
        assert_eq!(ended.collect::<Vec<_>>(), [true, false]);
    });
}

#[test]
fn names_are_whole_and_two_of_one_name_are_two() {
    everywhere(&["names"], 0, |trace, _| {
        let long = |last: char| format!("{}{last}", "n".repeat(9999));
        let expected: &[(&str, &[&str])] = &[
            (&long('x'), &["handle_a", "shared"]),
            (&long('y'), &["handle_b", "shared"]),
            ("twice", &["inner", "late"]),
            ("", &["outside"]),
        ];
        assert_eq!(functions(trace), expect(expected));
        let twice = trace.contexts().iter().filter(|c| c.name == b"twice");
        assert_eq!(twice.count(), 2);
        assert_eq!(trace.contexts().len(), 6, "and the last one");
    });
}

#[test]
fn a_forked_child_is_in_the_context_of_its_parent() {
    everywhere(&["forked"], 0, |trace, _| {
        let expected: &[(&str, &[&str])] = &[("has a child", &["handle_a", "handle_b", "shared"])];
        assert_eq!(functions(trace), expect(expected));
    });
}

#[test]
fn contexts_that_are_over_make_room_for_others() {
    let lab = Lab::new();
    let program = program(&lab, Build::Checks);
    // More than there are maps, and more than the collector lets lie.
    let ran = lab.run(Mode::Unique).of(&program, &["many", "3000"]);
    let trace = ran.exited(0);
    assert_eq!(trace.losses().count(), 0, "{}", ran.stderr());
    assert_eq!(trace.contexts().len(), 3001);
    let symbols = Symbols::new(&trace);
    let mut seen = 0;
    for stream in trace.streams() {
        let context = stream.info().context.and_then(|id| trace.context(id));
        let Some(context) = context else { continue };
        let name = std::str::from_utf8(&context.name).unwrap();
        let number: u32 = name.strip_prefix("job ").unwrap().parse().unwrap();
        let expected = if number % 2 == 1 {
            "handle_a"
        } else {
            "handle_b"
        };
        let mut functions = symbols.of(stream);
        functions.retain(|name| PIECES.contains(name));
        assert_eq!(functions, BTreeSet::from([expected, "shared"]), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 3000);
}

#[test]
fn what_is_too_deep_is_nobodys_and_said() {
    everywhere(&["deep", "100"], 0, |trace, ran| {
        let expected: &[(&str, &[&str])] = &[("-", &["outside"]), ("first", &["inner"])];
        assert_eq!(functions(trace), expect(expected));
        let lost: u64 = trace
            .losses()
            .filter(|loss| loss.reason == DropReason::NoContext)
            .map(|loss| loss.count)
            .sum();
        assert_eq!(lost, 30, "{}", ran.stderr());
    });
}

#[test]
fn contexts_for_which_there_is_no_room_are_said_and_their_work_is_nobodys() {
    let lab = Lab::new();
    let program = program(&lab, Build::Checks);
    let mut run = lab.run(Mode::Unique);
    run.command.args(["--tables", "99,99,999,99999,99999,1"]);
    let ran = run.of(&program, &["nested"]);
    let trace = ran.exited(0);
    let expected: &[(&str, &[&str])] = &[
        ("-", &["inner", "outside"]),
        ("outer", &["after_inner", "before_inner"]),
    ];
    assert_eq!(functions(&trace), expect(expected));
    assert!(
        ran.stderr().contains("2 contexts unknown"),
        "{}",
        ran.stderr()
    );
}

#[test]
fn where_there_is_no_room_for_maps_contexts_are_exact() {
    let lab = Lab::new();
    let program = program(&lab, Build::Checks);
    let script = "ulimit -v 4000000; exec \"$0\" \"$@\"";
    let run = lab.run(Mode::Unique);
    let program = program.to_str().unwrap();
    let ran = run.of(Path::new("sh"), &["-c", script, program, "pool"]);
    let expected: &[(&str, &[&str])] = &[
        ("GET /a", &["handle_a", "shared"]),
        ("GET /b", &["handle_b", "shared"]),
    ];
    assert_eq!(functions(&ran.exited(0)), expect(expected));
}

#[test]
fn without_a_collector_and_without_the_runtime_a_context_is_nothing() {
    let lab = Lab::new();
    let program = program(&lab, Build::Checks);
    let said = |program: &Path| {
        let output = Command::new(program).arg("pool").output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(said(&program), "0\n");

    let plain = lab.path("plain");
    let mut cc = Command::new("gcc");
    cc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]);
    cc.arg("-I").arg(lab.path("runtime")).arg(source());
    succeed(cc.arg("-o").arg(&plain));
    assert_eq!(said(&plain), "0\n");
}

#[test]
fn a_name_for_all_that_has_no_other() {
    let lab = Lab::new();
    let program = program(&lab, Build::Checks);
    let mut run = lab.run(Mode::Unique);
    run.command.args(["--context", "the whole"]);
    // What it starts, without any environment, too.
    let script = "\"$0\" nested; env -i \"$0\" plain";
    let ran = run.of(Path::new("sh"), &["-c", script, program.to_str().unwrap()]);
    let trace = ran.exited(0);
    let expected: &[(&str, &[&str])] = &[
        ("inner", &["inner"]),
        ("outer", &["after_inner", "before_inner"]),
        ("the whole", &["outside"]),
    ];
    assert_eq!(functions(&trace), expect(expected));
    let whole = &trace.contexts()[0];
    assert_eq!(
        (&*whole.name, whole.kind),
        (&b"the whole"[..], ContextKind::User)
    );
    assert!(matches!(whole.ended, Ended::At(_)));
    let outer = trace
        .contexts()
        .iter()
        .find(|c| c.name == b"outer")
        .unwrap();
    let parent = outer.parent.and_then(|id| trace.context(id));
    assert_eq!(parent, Some(whole));
    assert!(ran.stderr().contains("5 contexts"), "{}", ran.stderr());
}

#[test]
fn each_input_is_a_context_and_a_process() {
    let lab = Lab::new();
    let program = program(&lab, Build::Checks);
    let lines = lab.path("lines");
    std::fs::write(&lines, "plain\nkilled\n\nplain\n").unwrap();
    let mut run = lab.run(Mode::Unique);
    run.command.arg("--each-line").arg(&lines);
    let ran = run.of(&program, &["{}"]);
    // The others run nevertheless.
    let trace = ran.exited(128 + 9);
    assert!(
        ran.stderr().contains("failed for 1 of 3 inputs"),
        "{}",
        ran.stderr()
    );
    let expected: &[(&str, &[&str])] = &[
        ("first", &["handle_a", "shared"]),
        ("plain", &["outside"]),
        ("second", &["handle_b", "shared"]),
    ];
    assert_eq!(functions(&trace), expect(expected));
    let inputs: Vec<_> = trace
        .contexts()
        .iter()
        .filter(|context| context.kind == ContextKind::Input)
        .collect();
    let names: Vec<_> = inputs.iter().map(|context| &*context.name).collect();
    assert_eq!(names, [&b"plain"[..], b"killed", b"plain"]);
    assert!(inputs.iter().all(|context| context.ended != Ended::No));
    assert_eq!(trace.processes().len(), 3);

    // Files of a folder, in order; without a place for it, the input comes last.
    let folder = lab.path("inputs");
    std::fs::create_dir(&folder).unwrap();
    for name in ["b", "a"] {
        std::fs::write(folder.join(name), name).unwrap();
    }
    let mut run = lab.run(Mode::Unique);
    run.command.arg("--each").arg(&folder);
    let ran = run.of(&program, &["plain"]);
    let trace = ran.exited(0);
    let inputs = trace
        .contexts()
        .iter()
        .filter(|c| c.kind == ContextKind::Input);
    let names: Vec<_> = inputs.map(|context| context.name.clone()).collect();
    let path = |name: &str| folder.join(name).into_os_string().into_encoded_bytes();
    assert_eq!(names, [path("a"), path("b")]);
}

#[test]
fn an_input_that_is_not_there() {
    let lab = Lab::new();
    let output = lab
        .run(Mode::Unique)
        .command
        .args(["--each", "/does/not/exist", "--", "true"])
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("cannot read the input /does/not/exist"),
        "{said}"
    );
}

/// What a command on the lab's trace prints; it must succeed.
#[track_caller]
fn told(lab: &Lab, command: &str) -> String {
    let mut words: Vec<&str> = command.split(' ').collect();
    words.insert(1, "trace.rkcov");
    let mut rkcov = Command::new(RKCOV);
    let output = rkcov.args(words).current_dir(lab.path("")).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The index of the page for browsers.
fn index_of_page(lab: &Lab, options: &str) -> Value {
    let folder = lab.path("page");
    told(
        lab,
        &format!("report --format html{options} -o {}", folder.display()),
    );
    let index = std::fs::read_to_string(folder.join("data/index.js")).unwrap();
    let index = index.strip_prefix("rkcov.index(").unwrap();
    serde_json::from_str(index.strip_suffix(");\n").unwrap()).unwrap()
}

/// The labels in a report, each with `also`.
fn labels(who: &Value, also: &str) -> BTreeSet<(String, String)> {
    let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
    let all = who.as_array().unwrap().iter();
    all.map(|one| (text(one, "label"), text(one, also)))
        .collect()
}

#[test]
fn the_page_and_json_name_contexts_of_every_kind() {
    let lab = Lab::new();
    let program = program(&lab, Build::Checks);
    std::fs::write(lab.path("lines"), "plain\nnested\n").unwrap();
    let kinds = [
        (
            "",
            "pool",
            vec![("", ""), ("GET /a", "request"), ("GET /b", "request")],
        ),
        ("--context nightly", "plain", vec![("nightly", "user")]),
        (
            "--each-line lines",
            "",
            vec![
                ("inner", "test"),
                ("nested", "input"),
                ("outer", "test"),
                ("plain", "input"),
            ],
        ),
    ];
    let schema = include_str!("../../../../docs/report.schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    for (options, arguments, expected) in kinds {
        let mut run = lab.run(Mode::Unique);
        run.command.args(options.split_whitespace());
        run.command.current_dir(lab.path(""));
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        run.of(&program, &arguments).exited(0);
        let owned = |(name, kind): &(&str, &str)| ((*name).to_owned(), (*kind).to_owned());
        let expected: BTreeSet<_> = expected.iter().map(owned).collect();
        let page = index_of_page(&lab, "");
        assert_eq!(labels(&page["who"], "kind"), expected);
        let json: Value = serde_json::from_str(&told(&lab, "report --format json")).unwrap();
        let errors: Vec<_> = schema.iter_errors(&json).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        let names: BTreeSet<String> = expected.into_iter().map(|(name, _)| name).collect();
        let found = labels(&json["threads"], "");
        assert_eq!(
            found,
            names.into_iter().map(|n| (n, String::new())).collect()
        );
    }

    // The page shows first what was chosen, and knows that two streams are of one thread.
    lab.run(Mode::Unique).of(&program, &["pool"]).exited(0);
    let page = index_of_page(&lab, " --context *a");
    let who = page["who"].as_array().unwrap();
    let chosen = |label: &str| -> Vec<usize> {
        let streams = who.iter().enumerate();
        let streams = streams.filter(|(_, one)| one["label"] == label);
        streams.map(|(at, _)| at).collect()
    };
    let first = page["first"]["who"].as_str().unwrap().split(',');
    let first = first.flat_map(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        from.parse::<usize>().unwrap()..=to.parse().unwrap()
    });
    assert_eq!(first.collect::<Vec<_>>(), chosen("GET /a"));
    assert_eq!(chosen("GET /b").len(), 2);
    let threads: BTreeSet<u64> = who
        .iter()
        .filter_map(|one| one["thread"].as_u64())
        .collect();
    assert!(threads.len() < who.len(), "{page}");
}

/// With N for every number.
fn without_numbers(text: &str) -> String {
    let numbers = regex::Regex::new("[0-9]+").unwrap();
    numbers.replace_all(text, "N").into_owned()
}

#[test]
fn threads_are_counted_once_in_however_many_contexts() {
    let lab = Lab::new();
    let program = program(&lab, Build::Checks);
    let ran = lab.run(Mode::Unique).of(&program, &["pool"]);
    ran.exited(0);
    assert!(ran.stderr().contains("from 3 threads of 1 process"));
    let report = told(&lab, "report");
    assert!(
        report.contains("3 threads of 1 process, 2 contexts"),
        "{report}"
    );
    let show = Command::new(RKCOV)
        .args(["show", "shared"])
        .arg(lab.path("trace.rkcov"))
        .output()
        .unwrap();
    let show = String::from_utf8(show.stdout).unwrap();
    assert!(
        show.contains("covered by 2 threads in 2 contexts:"),
        "{show}"
    );
    let by_thread = told(&lab, "report --by-thread");
    assert_eq!(by_thread.matches("thread ").count(), 3, "{by_thread}");
    let lcov = told(&lab, "report --by-thread --format lcov");
    let names: BTreeSet<&str> = lcov.lines().filter(|l| l.starts_with("TN:")).collect();
    assert_eq!(names.len(), 3, "{names:?}");

    // A thread that is not there: each that is, is said once.
    let wrong = Command::new(RKCOV)
        .args(["report", "--thread", "nosuch"])
        .arg(lab.path("trace.rkcov"))
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    let wrong = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.matches("(contexts)").count(), 2, "{wrong}");
}

#[test]
fn contexts_that_ended_with_a_thread_in_them_are_said() {
    let lab = Lab::new();
    let program = program(&lab, Build::Checks);
    let ran = lab.run(Mode::Unique).of(&program, &["ended"]);
    ran.exited(0);
    let early = "1 context ended while a thread was still in it";
    assert!(ran.stderr().contains(early), "{}", ran.stderr());
    let report = told(&lab, "report");
    assert!(report.contains(early), "{report}");
    let rows = told(&lab, "report --by context");
    let (_, outside) = rows.split_once("\n\n").unwrap();
    insta::assert_snapshot!("in_no_context", without_numbers(outside));
    let ran = lab.run(Mode::Unique).of(&program, &["pool"]);
    ran.exited(0);
    assert!(!ran.stderr().contains("ended while"), "{}", ran.stderr());
}

/// What a command on the lab's trace answers: what it prints if `prints`, what it says, and its status.
fn answered(lab: &Lab, command: &[&str], prints: bool) -> String {
    let mut rkcov = Command::new(RKCOV);
    rkcov.args(command).arg("trace.rkcov");
    let output = rkcov.current_dir(lab.path("")).output().unwrap();
    let printed = if prints { &output.stdout[..] } else { b"" };
    let text = [printed, &output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    let text = text.replace(lab.path("").to_str().unwrap(), "LAB/");
    let ids = regex::Regex::new("[0-9a-f]{40}").unwrap();
    let text = without_numbers(&ids.replace_all(&text, "ID"));
    let status = output.status.code().unwrap();
    format!("$ rkcov {}\n{text}status {status}\n\n", command.join(" "))
}

#[test]
fn a_context_on_a_thread() {
    let lab = Lab::new();
    let program = program(&lab, Build::Checks);
    lab.run(Mode::Trace).of(&program, &["pool"]).exited(0);
    let report = |options: &[&str]| {
        let mut rkcov = Command::new(RKCOV);
        rkcov.args(["report", "--functions"]).args(options);
        let output = rkcov.arg(lab.path("trace.rkcov")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let whole = report(&["--context", "GET /a"]);
    assert!(
        whole.contains("2 threads of 1 process, 1 context"),
        "{whole}"
    );
    let tid = told(&lab, "report --by-thread");
    let (_, tid) = tid.split_once("thread ").unwrap();
    let (_, tid) = tid.split_once("\nthread ").unwrap();
    let (tid, _) = tid.split_once(' ').unwrap();
    let one = report(&["--context", "GET /a", "--thread", tid]);
    assert!(one.contains("1 thread of 1 process, 1 context"), "{one}");
    assert!(
        one.contains("handle_a") && !one.contains("+ handle_b"),
        "{one}"
    );
    let story = ["trace", "--context", "GET /a", "--thread", tid];
    let story = answered(&lab, &story, true);
    assert!(
        story.contains("handle_a") && story.matches("GET /a").count() == 2,
        "{story}"
    );
    // The main thread only waited for them.
    let none = ["report", "--context", "GET /a", "--thread", "main"];
    insta::assert_snapshot!(answered(&lab, &none, true), @r"
    $ rkcov report --context GET /a --thread main
    rkcov: none of these threads ran anything in these contexts
    status 1
    ");
}

#[test]
fn names_that_are_none_and_programs_that_were_rebuilt() {
    let lab = Lab::new();
    let program = program(&lab, Build::Checks);
    lab.run(Mode::Unique).of(&program, &["pool"]).exited(0);
    let mut all = answered(&lab, &["report", "--context", "get /A"], true);
    std::fs::copy(source(), lab.path("other.c")).unwrap();
    let mut cc = Command::new(RKCOV);
    cc.args(["cc", "-g", "-O0", "-DOTHER=1", "-pthread"]);
    succeed(cc.arg(lab.path("other.c")).arg("-o").arg(&program));
    for question in [
        &["report", "--by", "context"][..],
        &["report", "--allow-missing"],
        &["tests", "shared"],
        &["show", "shared"],
        &["minimize"],
    ] {
        all += &answered(&lab, question, true);
    }
    insta::assert_snapshot!("names_and_rebuilt", all.trim_end());
}

/// What the documentation says to give to rustc for a client, with the lab's runtime for the installed one.
fn flags_of_a_client(lab: &Lab) -> Vec<String> {
    let page = include_str!("../../../../docs/kcov.md");
    let (_, flags) = page.split_once("$ cargo rustc --bin client -- ").unwrap();
    let (flags, _) = flags.split_once("```").unwrap();
    let runtime = lab.path("runtime");
    let flags = flags.replace("/usr/local/lib/rkcov", runtime.to_str().unwrap());
    let words = flags.split_whitespace().filter(|word| *word != "\\");
    words.map(str::to_owned).collect()
}

#[test]
fn requests_of_a_program_in_rust() {
    let lab = Lab::new();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contexts");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    cargo.args([
        "rustc",
        "--quiet",
        "--package",
        "rkcov",
        "--example",
        "contexts",
    ]);
    cargo.arg("--target-dir").arg(&target);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    succeed(cargo.arg("--").args(flags_of_a_client(&lab)));
    let program = target.join("debug/examples/contexts");

    let ran = lab.run(Mode::Unique).of::<&str>(&program, &[]);
    let trace = ran.exited(0);
    let symbols = Symbols::new(&trace);
    let mut found = BTreeSet::new();
    for stream in trace.streams() {
        let context = stream.info().context.and_then(|id| trace.context(id));
        let name = context.map_or("-".into(), |c| String::from_utf8_lossy(&c.name));
        for function in symbols.of(stream) {
            for piece in ["read_user", "delete_user", "send_mail", "between_requests"] {
                if function.contains(piece) {
                    found.insert((name.to_string(), piece));
                }
            }
        }
    }
    let expected = [
        ("-", "between_requests"),
        ("DELETE /users/7", "delete_user"),
        ("GET /users/7", "read_user"),
        ("mail", "send_mail"),
    ];
    let expected = expected.map(|(name, piece)| (name.to_owned(), piece));
    assert_eq!(found, BTreeSet::from(expected));
    assert_eq!(trace.contexts().len(), 5);
    // The last is over when its future goes.
    assert!(trace
        .contexts()
        .iter()
        .all(|context| context.ended != Ended::No));

    // Without a collector nothing happens.
    succeed(&mut Command::new(&program));
}

/// The commands on a page that come behind `$ `, without what is said of them.
fn commands_of(page: &str) -> Vec<&str> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("$ "));
    lines
        .map(|line| line.split("  #").next().unwrap_or(line).trim_end())
        .collect()
}

#[test]
fn every_command_of_the_page() {
    let lab = Lab::new();
    let compile = |name: &str, text: &str| {
        let source = lab.path(&format!("{name}.c"));
        std::fs::write(&source, text).unwrap();
        let mut cc = Command::new(RKCOV);
        cc.args(["cc", "gcc", "-g"]).arg(source);
        succeed(cc.arg("-o").arg(lab.path(name)));
    };
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/contexts.c");
    std::fs::copy(server, lab.path("contexts.c")).unwrap();
    compile("program", "int main(void) { return 0; }\n");
    let reads = "int main(int argc, char **argv) { return argc != 2 || argv[1][0] == 'x'; }\n";
    compile("parse", reads);
    compile("fetch", reads);
    let corpus = lab.path("corpus");
    std::fs::create_dir(&corpus).unwrap();
    for name in ["1", "2"] {
        std::fs::write(corpus.join(name), name).unwrap();
    }
    std::fs::write(lab.path("urls.txt"), "http://a\nhttp://b\nhttp://c\n").unwrap();
    std::fs::write(
        lab.path("tests.cc"),
        "#include <gtest/gtest.h>\nTEST(Page, Works) { EXPECT_EQ(1 + 1, 2); }\n",
    )
    .unwrap();
    let with_gtest = Path::new("/usr/include/gtest/gtest.h").exists();
    let contexts: &[(&str, &[&str])] = &[
        ("rkcov run --context nightly -- ./program", &["nightly"]),
        (
            "rkcov run --each corpus -- ./parse {}",
            &["corpus/1", "corpus/2"],
        ),
        (
            "rkcov run --each-line urls.txt -- ./fetch",
            &["http://a", "http://b", "http://c"],
        ),
        (
            "rkcov cc -g -pthread contexts.c -o contexts && rkcov run -- ./contexts",
            &["GET /users/7", "GET /users/7", "DELETE /users/8", "mail"],
        ),
        ("rkcov report --by context contexts.rkcov", &[]),
        (
            "rkcov report --context 'GET /users/7' --source contexts.rkcov",
            &[],
        ),
        ("rkcov report --only 'GET /users/7' contexts.rkcov", &[]),
        (
            "rkcov report --context 'GET /users/7' --thread workers contexts.rkcov",
            &[],
        ),
        ("rkcov report --format html -o coverage contexts.rkcov", &[]),
        ("rkcov tests read_user contexts.rkcov", &[]),
        (
            "rkcov c++ -include rkcov_gtest.h tests.cc -lgtest_main -lgtest -o tests",
            &[],
        ),
        ("rkcov run -- ./tests", &["Page.Works"]),
    ];
    let commands = commands_of(include_str!("../../../../docs/contexts.md"));
    let known: Vec<&str> = contexts.iter().map(|(line, _)| *line).collect();
    assert_eq!(commands, known);
    let folder = Path::new(RKCOV).parent().unwrap();
    let mut path = vec![folder.to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let path = std::env::join_paths(path).unwrap();
    for (line, names) in contexts {
        if line.ends_with("tests") && !with_gtest {
            continue;
        }
        let records = line.contains("rkcov run ");
        for earlier in traces(&lab.path("")).iter().filter(|_| records) {
            std::fs::remove_file(earlier).unwrap();
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env("PATH", &path);
        let output = shell.current_dir(lab.path("")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
        if *line == "rkcov tests read_user contexts.rkcov" {
            assert_eq!(output.stdout, b"GET /users/7\n");
        }
        if !records {
            continue;
        }
        let there: Vec<PathBuf> = traces(&lab.path("")).into_iter().collect();
        let [trace] = &there[..] else {
            panic!("{line}: {there:?}");
        };
        let file = rkcov_report::trace::TraceFile::open(trace).unwrap();
        let parsed = file.trace().unwrap();
        let found = parsed.contexts().iter();
        let found: Vec<_> = found
            .map(|context| String::from_utf8(context.name.clone()).unwrap())
            .collect();
        assert_eq!(found, *names, "{line}");
    }
}

/// The traces in a folder.
fn traces(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "rkcov"))
        .collect()
}
