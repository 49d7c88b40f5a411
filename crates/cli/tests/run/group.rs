// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that send signals to their whole process group.

use crate::support::{Compiler, Lab, RKCOV};
use rkcov_report::trace::TraceFile;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What ran is kept even if the signal is one that nobody can hold back: the program has its group
/// to itself but for the process that stands in its place, which dies as it would have.
#[test]
fn who_kills_the_whole_group_loses_nothing() {
    // The program itself, or a script that cleans up behind it: what it left still waits.
    for (signal, script) in [
        (9, "exec $P 9"),
        (15, "exec $P 15"),
        (1, "exec $P 1"),
        (9, "$P 0; kill -9 0"),
    ] {
        let lab = Lab::new();
        let program = lab.program(Compiler::Gcc, "group");
        let trace = lab.path("trace.rkcov");
        let mut command = Command::new(RKCOV);
        command.args(["run", "-o"]).arg(&trace);
        command.args(["--", "sh", "-c", script]).env("P", program);
        command.stdin(Stdio::null());
        // SAFETY: may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(())
            });
        }
        let ended = command.output().unwrap();
        let status = ended.status;
        let shell = status.code().or(status.signal().map(|signal| 128 + signal));
        assert_eq!(shell, Some(128 + signal), "{script}: {status:?}");
        // Whoever waited for the process that was killed does not wait for the trace.
        let patience = Instant::now();
        while !trace.exists() {
            assert!(patience.elapsed() < Duration::from_secs(30), "{script}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let file = TraceFile::open(&trace).unwrap();
        let recorded = file.trace().unwrap();
        let pcs: usize = recorded.streams().iter().map(|s| s.pcs().count()).sum();
        assert_eq!(recorded.streams().len(), 2, "{script}");
        assert!(pcs > 4, "{script}: {pcs}");
        let left = std::fs::read_dir(lab.path("")).unwrap();
        let unfinished = left.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".unfinished")
        });
        assert_eq!(unfinished.count(), 0, "{script}");
    }
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let numbers = children.split_whitespace();
    numbers.map(|number| number.parse().unwrap()).collect()
}

#[test]
fn who_kills_the_process_that_writes_is_told_that_the_trace_is_lost() {
    let lab = Lab::new();
    let mut command = Command::new(RKCOV);
    command.args(["run", "-o"]).arg(lab.path("trace.rkcov"));
    command.args(["--", "sleep", "60"]).stderr(Stdio::piped());
    let rkcov = command.spawn().unwrap();
    let patience = Instant::now();
    let name = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.unwrap_or_default().trim().to_owned()
    };
    // One is the program, the other writes.
    let both = loop {
        let both = children(rkcov.id());
        if both.len() == 2 && both.iter().any(|pid| name(pid) == "sleep") {
            break both;
        }
        assert!(patience.elapsed() < Duration::from_secs(30), "{both:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let (program, writer): (Vec<u32>, Vec<u32>) =
        both.into_iter().partition(|pid| name(pid) == "sleep");
    for pid in writer.into_iter().chain(program) {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
    let ended = rkcov.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(128 + 15));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(
        said,
        "rkcov: the trace is lost: signal 15 killed the process of rkcov that writes it\n"
    );
    assert!(!lab.path("trace.rkcov").exists());
}
