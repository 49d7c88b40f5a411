// SPDX-License-Identifier: MIT OR Apache-2.0
//! Full disks, closed pipes, limits, and two who write one file.

use crate::support::{succeed, Compiler, Lab, RKCOV};
use rkcov_report::trace::{Mode, TraceFile};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full_disk() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

fn said(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// A trace of `mix`.
fn recorded(lab: &Lab) -> String {
    let program = lab.program(Compiler::Gcc, "mix");
    lab.run(Mode::Unique).of::<&str>(&program, &[]).exited(0);
    lab.path("trace.rkcov").to_str().unwrap().to_owned()
}

#[test]
fn whoever_closes_our_output_has_seen_enough_and_a_full_disk_is_said() {
    let lab = Lab::new();
    let trace = recorded(&lab);
    let lines: &[&[&str]] = &[
        &["report", &trace],
        &["report", &trace, "--functions", "--source", "--full"],
        &["report", &trace, "--format", "lcov"],
        &["report", &trace, "--format", "pcs"],
        &["env"],
        &["env", "--format", "json"],
        &["doctor"],
    ];
    for line in lines {
        let run = |stdout: Stdio| {
            Command::new(RKCOV)
                .args(*line)
                .stdout(stdout)
                .output()
                .unwrap()
        };
        let output = run(closed_pipe());
        assert_eq!(said(&output), "", "{line:?}");
        assert_eq!(output.status.code(), Some(128 + 13), "{line:?}");
        let output = run(full_disk());
        let expect = "rkcov: cannot write";
        assert!(
            said(&output).starts_with(expect),
            "{line:?}: {}",
            said(&output)
        );
        assert!(said(&output).contains("No space left"), "{}", said(&output));
        assert_eq!(said(&output).lines().count(), 1, "{}", said(&output));
        assert_eq!(output.status.code(), Some(1), "{line:?}");
    }
}

#[test]
fn where_nobody_listens_a_run_goes_on() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    let trace = lab.path("quiet.rkcov");
    for stderr in [closed_pipe, full_disk] {
        let mut run = Command::new(RKCOV);
        run.args(["run", "-o"]).arg(&trace).arg(&program);
        let status = run.stdout(Stdio::null()).stderr(stderr()).status().unwrap();
        assert_eq!(status.code(), Some(0));
        let file = TraceFile::open(&trace).unwrap();
        assert_eq!(file.trace().unwrap().streams().len(), 4);
        fs::remove_file(&trace).unwrap();

        let mut none = Command::new(RKCOV);
        let status = none
            .args(["run", "/does/not/exist"])
            .stderr(stderr())
            .status();
        assert_eq!(status.unwrap().code(), Some(127));
        let mut none = Command::new(RKCOV);
        let status = none
            .args(["report", "/does/not/exist"])
            .stderr(stderr())
            .status();
        assert_eq!(status.unwrap().code(), Some(1));
    }
}

#[test]
fn a_trace_that_is_lost_is_said_and_the_programs_failure_is_worth_more() {
    for (script, status) in [("exit 0", 1), ("exit 7", 7), ("kill -TERM $$", 128 + 15)] {
        let output = Command::new(RKCOV)
            .args(["run", "-o", "/dev/full", "/bin/sh", "-c", script])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", said(&output));
        let expect = "rkcov: the trace is lost: cannot write /dev/full: No space left on device";
        assert!(said(&output).starts_with(expect), "{}", said(&output));
    }
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| name(entry.unwrap())).collect()
}

#[test]
fn a_disk_that_fills_while_the_trace_is_written_leaves_the_old_one() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    let folder = lab.path("traces");
    fs::create_dir(&folder).unwrap();
    let trace = folder.join("trace.rkcov");
    fs::write(&trace, "the old one").unwrap();
    // The program sees to it that rkcov can write one block more.
    // Who writes the trace is the other child of our parent.
    let script = format!(
        "for p in $(cat /proc/$PPID/task/$PPID/children); do \
         [ $p = $$ ] || prlimit --pid $p --fsize=512 || exit; done; exec '{}'",
        program.display()
    );
    let output = Command::new(RKCOV)
        .args(["run", "-o"])
        .arg(&trace)
        .args(["/bin/sh", "-c", &script])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("the trace is lost"),
        "{}",
        said(&output)
    );
    assert!(
        said(&output).contains("File too large"),
        "{}",
        said(&output)
    );
    assert_eq!(fs::read(&trace).unwrap(), b"the old one");
    assert_eq!(names(&folder), ["trace.rkcov"]);
}

#[test]
fn limits_of_the_shell_are_said_and_the_program_has_them_too() {
    let lab = Lab::new();
    let run = |limit: &str, script: &str| {
        let trace = lab.path("limited.rkcov");
        let shell = format!("ulimit {limit}; exec \"$0\" run -o \"$1\" /bin/sh -c \"$2\"");
        Command::new("bash")
            .args(["-c", &shell, RKCOV])
            .arg(trace)
            .arg(script)
            .output()
            .unwrap()
    };
    for limit in ["-f 1", "-v 100000"] {
        let output = run(limit, "echo ran");
        assert_eq!(output.status.code(), Some(1), "{limit}: {}", said(&output));
        let expect = "rkcov: cannot allocate memory for records";
        assert!(
            said(&output).starts_with(expect),
            "{limit}: {}",
            said(&output)
        );
        assert_eq!(output.stdout, b"");
    }
    // The program is killed as it would be without us, although we are not.
    let fill = lab.path("fill");
    let script = format!(
        "ulimit -f 1; exec head -c 4096 /dev/zero >'{}'",
        fill.display()
    );
    let output = run("-c 0", &script);
    assert_eq!(output.status.code(), Some(128 + 25), "{}", said(&output));
}

#[test]
fn of_runs_that_write_one_file_one_is_there_whole() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    let folder = lab.path("traces");
    fs::create_dir(&folder).unwrap();
    let trace = folder.join("trace.rkcov");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                succeed(
                    Command::new(RKCOV)
                        .args(["run", "-o"])
                        .arg(&trace)
                        .arg(&program),
                )
            });
        }
    });
    let file = TraceFile::open(&trace).unwrap();
    assert_eq!(file.trace().unwrap().streams().len(), 4);
    assert_eq!(names(&folder), ["trace.rkcov"]);
}
