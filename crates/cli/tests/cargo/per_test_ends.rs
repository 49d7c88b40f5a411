// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--per-test` with tests that start programs in every way, and with tests that end in every way.

use crate::per_test::{body, read, Ran, LCOV};
use crate::support::Project;
use std::collections::BTreeSet;
use std::process::Command;

/// A library of functions, each of which one test runs, and a program that runs one by name.
fn project(functions: &[&str], files: &[(&str, &str)]) -> Project {
    let project = Project::new(files);
    project.write(
        "Cargo.toml",
        "[package]\nname = \"ways\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [[bin]]\nname = \"helper\"\npath = \"src/helper.rs\"\n[workspace]\n",
    );
    let function = |name: &&str| format!("pub fn {name}(n: u32) -> u32 {{\n    n + 1\n}}\n\n");
    let library: String = functions.iter().map(function).collect();
    project.write("src/lib.rs", &library);
    let arm = |name: &&str| format!("        \"{name}\" => ways::{name}(1),\n");
    let arms: String = functions.iter().map(arm).collect();
    project.write(
        "src/helper.rs",
        &format!(
            "fn main() {{\n    let which = std::env::args().nth(1).unwrap();\n    \
             let n = match &*which {{\n{arms}        _ => panic!(),\n    }};\n    println!(\"{{n}}\");\n}}\n"
        ),
    );
    project
}

/// The tests that ran a function of the library.
fn who<'r>(project: &Project, ran: &'r Ran, function: &str) -> Vec<&'r str> {
    let place = body(project, function);
    let tests = ran.iter().filter(|(_, lines)| lines.contains(&place));
    tests.map(|(name, _)| &**name).collect()
}

/// Runs `line`, which may fail, and reads what each test ran.
fn run(project: &Project, line: &str) -> Ran {
    let output = project.run(&format!("{line} --ignore-run-fail {LCOV} all.info"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    read(project, "all.info")
}

const STARTS: &str = r#"
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::process::Command;

const HELPER: &str = env!("CARGO_BIN_EXE_helper");

extern "C" {
    fn system(command: *const c_char) -> c_int;
    fn popen(command: *const c_char, mode: *const c_char) -> *mut c_void;
    fn fgets(to: *mut c_char, size: c_int, from: *mut c_void) -> *mut c_char;
    fn pclose(pipe: *mut c_void) -> c_int;
}

fn line(what: &str) -> CString {
    CString::new(format!("'{HELPER}' {what} && true")).unwrap()
}

#[test]
fn calls_system() {
    let line = line("by_system");
    assert_eq!(unsafe { system(line.as_ptr()) }, 0);
    let bad = CString::new("exit 3").unwrap();
    assert_eq!(unsafe { system(bad.as_ptr()) }, 3 << 8);
    assert_ne!(unsafe { system(std::ptr::null()) }, 0);
}

#[test]
fn calls_system_in_a_thread() {
    let work = || unsafe { system(line("by_system_in_a_thread").as_ptr()) };
    assert_eq!(std::thread::spawn(work).join().unwrap(), 0);
}

#[test]
fn opens_a_pipe() {
    let pipe = unsafe { popen(line("by_popen").as_ptr(), c"r".as_ptr()) };
    assert!(!pipe.is_null());
    let mut said = [0; 16];
    assert!(!unsafe { fgets(said.as_mut_ptr(), 16, pipe) }.is_null());
    assert_eq!(unsafe { CStr::from_ptr(said.as_ptr()) }, c"2\n");
    assert_eq!(unsafe { pclose(pipe) }, 0);
}

#[test]
fn starts_a_shell() {
    let mut shell = Command::new("sh");
    let done = shell.args(["-c", &format!("'{HELPER}' by_shell; true")]).status();
    assert!(done.unwrap().success());
}

#[test]
fn starts_a_static_program() {
    let mut program = Command::new(env!("CARGO_MANIFEST_DIR").to_owned() + "/static");
    assert!(program.arg(HELPER).arg("by_static").status().unwrap().success());
}

#[test]
fn clears_the_environment() {
    let mut helper = Command::new(HELPER);
    assert!(helper.env_clear().arg("by_cleared").status().unwrap().success());
}

#[test]
fn starts_what_clears_the_environment() {
    let mut env = Command::new("env");
    assert!(env.args(["-i", HELPER, "by_emptied"]).status().unwrap().success());
}
"#;

/// It forks and executes.
const STATIC: &str = r#"
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int status = 1;

	if (argc < 3)
		return 2;
	if (fork() == 0) {
		execv(argv[1], argv + 1);
		_exit(127);
	}
	wait(&status);
	return WEXITSTATUS(status);
}
"#;

#[test]
fn what_a_test_starts_is_the_tests() {
    let functions = [
        "by_system",
        "by_system_in_a_thread",
        "by_popen",
        "by_shell",
        "by_static",
        "by_cleared",
        "by_emptied",
    ];
    let project = project(
        &functions,
        &[("tests/starts.rs", STARTS), ("static.c", STATIC)],
    );
    let mut cc = Command::new(env!("CARGO_BIN_EXE_rkcov"));
    cc.args(["cc", "gcc", "-g", "-static", "static.c", "-o", "static"]);
    assert!(cc.current_dir(project.path("")).status().unwrap().success());
    let ran = run(&project, "test --per-test");
    for (function, test) in [
        ("by_system", "calls_system"),
        ("by_system_in_a_thread", "calls_system_in_a_thread"),
        ("by_popen", "opens_a_pipe"),
        ("by_shell", "starts_a_shell"),
        ("by_static", "starts_a_static_program"),
        ("by_cleared", "clears_the_environment"),
    ] {
        assert_eq!(who(&project, &ran, function), [test], "{function}");
    }
    // Nobody tells it where it comes from. It ran, though.
    assert_eq!(who(&project, &ran, "by_emptied"), <[&str; 0]>::default());
    let outside = project.succeed("tests by_emptied");
    assert!(outside.starts_with("in no context: thread"), "{outside}");
    let main = project.succeed("tests static.c:11");
    assert_eq!(main, "starts_a_static_program\n");
}

const ENDS: &str = r#"
#[test]
fn fails() {
    assert_eq!(ways::before_it_fails(1), 3);
}

#[test]
fn fails_in_a_thread() {
    let failing = || assert_eq!(ways::before_a_thread_fails(1), 3);
    std::thread::spawn(failing).join().unwrap();
}

#[test]
#[should_panic]
fn does_not_panic_as_it_should() {
    ways::before_it_does_not_panic(1);
}

#[test]
fn scoped_threads() {
    let (mut a, mut b) = (0, 0);
    std::thread::scope(|scope| {
        let inner = scope.spawn(|| ways::in_a_scope(1));
        scope.spawn(|| b = ways::in_a_scope_too(1));
        a = inner.join().unwrap();
    });
    assert_eq!((a, b), (2, 2));
}

// The last one: a thread that a scope has waited for has the time to end before the process does.
#[test]
fn sleeps() {
    std::thread::sleep(std::time::Duration::from_millis(500));
}
"#;

const ABORTS: &str = r#"
#[test]
fn aborts() {
    assert_eq!(std::thread::spawn(|| ways::before_it_aborts_in_a_thread(1)).join().unwrap(), 2);
    if ways::before_it_aborts(1) == 2 {
        std::process::abort();
    }
}
"#;

const FUNCTIONS: [&str; 10] = [
    "before_it_fails",
    "before_a_thread_fails",
    "before_it_does_not_panic",
    "in_a_scope",
    "in_a_scope_too",
    "before_it_aborts",
    "before_it_aborts_in_a_thread",
    "before_it_hangs",
    "at_first",
    "when_it_is_tried_again",
];

fn check_ends(project: &Project, ran: &Ran) {
    for (function, test) in [
        ("before_it_fails", "fails"),
        ("before_a_thread_fails", "fails_in_a_thread"),
        ("before_it_does_not_panic", "does_not_panic_as_it_should"),
        ("in_a_scope", "scoped_threads"),
        ("in_a_scope_too", "scoped_threads"),
        ("before_it_aborts", "aborts"),
        ("before_it_aborts_in_a_thread", "aborts"),
    ] {
        assert_eq!(who(project, ran, function), [test], "{function}");
    }
}

#[test]
fn tests_that_fail_or_abort_keep_what_they_ran() {
    let files = [("tests/ends.rs", ENDS), ("tests/aborts.rs", ABORTS)];
    let project = project(&FUNCTIONS, &files);
    for threads in ["", "-- --test-threads=1"] {
        let line = "test --per-test --no-fail-fast";
        let output = project.run(&format!(
            "{line} --ignore-run-fail {LCOV} all.info {threads}"
        ));
        assert!(output.status.success(), "{output:?}");
        check_ends(&project, &read(&project, "all.info"));
    }
}

const TRIED: &str = r#"
#[test]
fn hangs() {
    assert_eq!(ways::before_it_hangs(1), 2);
    loop {
        std::thread::park();
    }
}

#[test]
fn passes_when_it_is_tried_again() {
    let mark = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tried");
    if std::fs::metadata(mark).is_err() {
        std::fs::write(mark, "").unwrap();
        assert_eq!(ways::at_first(1), 3);
    }
    assert_eq!(ways::when_it_is_tried_again(1), 2);
}
"#;

#[test]
fn nextest_tries_again_and_ends_what_takes_too_long() {
    let there = Command::new("cargo-nextest").arg("--version").output();
    if there.is_err() {
        eprintln!("cargo-nextest is not installed");
        return;
    }
    let files = [
        ("tests/ends.rs", ENDS),
        ("tests/aborts.rs", ABORTS),
        ("tests/tried.rs", TRIED),
        (
            ".config/nextest.toml",
            "[profile.default]\nretries = 1\n\
             slow-timeout = { period = \"2s\", terminate-after = 1, grace-period = \"1s\" }\n",
        ),
    ];
    let project = project(&FUNCTIONS, &files);
    let ran = run(&project, "nextest --per-test --no-fail-fast");
    check_ends(&project, &ran);
    for (function, test) in [
        ("before_it_hangs", "hangs"),
        ("at_first", "passes_when_it_is_tried_again"),
        ("when_it_is_tried_again", "passes_when_it_is_tried_again"),
    ] {
        assert_eq!(who(&project, &ran, function), [test], "{function}");
    }
    let names: BTreeSet<&str> = ran.keys().map(String::as_str).collect();
    assert_eq!(
        names.len(),
        8,
        "each test once, however often it was tried: {names:?}"
    );
}
