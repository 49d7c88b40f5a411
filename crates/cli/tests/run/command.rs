// SPDX-License-Identifier: MIT OR Apache-2.0
//! What passes through `rkcov run`: status, streams, signals, the terminal; and what it says.

use crate::support::{succeed, Compiler, Lab, Symbols, RKCOV};
use rkcov::collector::{Collector, Options, Recording};
use rkcov_report::trace::{Exit, Mode, TraceFile};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::process::{kill_process, Pid, Signal};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn a_program_that_is_not_instrumented_keeps_its_status_and_streams() {
    let lab = Lab::new();
    let shell = Path::new("/bin/sh");
    let ran = lab
        .run(Mode::Unique)
        .of(shell, &["-c", "echo out; echo err >&2; exit 9"]);
    let trace = ran.exited(9);
    assert_eq!(ran.stdout(), "out\n");
    assert_eq!(trace.streams().len(), 0);
    let said = ran.stderr();
    assert!(said.starts_with("err\n"), "{said}");
    assert!(said.contains("/bin/sh is not instrumented"), "{said}");
    assert!(said.contains("CC=\"rkcov cc\""), "{said}");
}

/// Orphans are children of rkcov's process while the program runs: it takes their statuses.
#[test]
fn orphans_leave_no_zombies() {
    let lab = Lab::new();
    // The shell's parent is who runs it. What has the sign of an orphan there has to go.
    let script = "\
        orphans() { grep -lsx \"PPid:.$PPID\" /proc/[0-9]*/status; }\n\
        for n in 1 2 3 4 5; do (sleep 1 & :); done\n\
        orphans | wc -l\n\
        n=0\n\
        while [ \"$(orphans | wc -l)\" -gt 2 ]; do\n\
            n=$((n + 1)); [ $n -lt 300 ] || exit 9; sleep 0.1\n\
        done\n";
    let ran = lab
        .run(Mode::Unique)
        .of(Path::new("/bin/sh"), &["-c", script]);
    ran.exited(0);
    // Those five, the shell, and who takes the records.
    assert_eq!(ran.stdout().trim(), "7", "{}", ran.stderr());
}

#[test]
fn the_runtime_alone_is_not_instrumentation() {
    let lab = Lab::new();
    let source = lab.path("plain.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let runtime = lab.artifact("rkcov.o");
    let program = lab.link("plain", &[source, runtime]);
    let ran = lab.run(Mode::Unique).of::<&str>(&program, &[]);
    assert_eq!(ran.exited(0).streams().len(), 0);
    let expect = "has the runtime, but ran no instrumented code";
    assert!(ran.stderr().contains(expect), "{}", ran.stderr());
}

#[test]
fn programs_that_cannot_be_run() {
    let lab = Lab::new();
    let not_executable = lab.path("text");
    fs::write(&not_executable, "text").unwrap();
    let trace = lab.path("trace.rkcov");
    for (program, status) in [
        (Path::new("/does/not/exist"), 127),
        (Path::new("does-not-exist-in-any-path"), 127),
        (&not_executable, 126),
        (Path::new("/"), 126),
    ] {
        let output = Command::new(RKCOV)
            .args(["run", "-o"])
            .arg(&trace)
            .arg(program)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", program.display());
        let said = String::from_utf8(output.stderr).unwrap();
        let expect = format!("rkcov: cannot run {}: ", program.display());
        assert!(said.starts_with(&expect), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!trace.exists());
    }
    let left = fs::read_dir(lab.path("")).unwrap().count();
    assert_eq!(left, 2, "the runtime and the text: no half trace");
}

#[test]
fn a_trace_that_cannot_be_written_is_said_before_the_program_runs() {
    let lab = Lab::new();
    let canary = lab.path("canary");
    let output = Command::new(RKCOV)
        .args(["run", "-o", "/does/not/exist.rkcov", "touch"])
        .arg(&canary)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!canary.exists());
}

#[test]
fn the_trace_has_the_name_of_the_program() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    let here = lab.path("here");
    fs::create_dir(&here).unwrap();
    succeed(
        Command::new(RKCOV)
            .arg("run")
            .arg(program)
            .current_dir(&here),
    );
    let trace = TraceFile::open(here.join("mix.rkcov")).unwrap();
    assert!(!trace.trace().unwrap().streams().is_empty());
}

/// A child that has said "ready", and the rest of what it says.
fn ready(child: &mut Child) -> BufReader<impl Read> {
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    said
}

#[test]
fn signals_that_others_send_go_to_the_program() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "waits");
    let mut run = lab.run(Mode::Unique);
    run.command.stdin(Stdio::piped());
    let mut running = run.start::<&str>(&program, &[]);
    let mut said = ready(&mut running.child);
    let rkcov = Pid::from_child(&running.child);
    let mut input = running.child.stdin.take().unwrap();
    let mut interrupts = || {
        let mut line = String::new();
        input.write_all(b"?").unwrap();
        said.read_line(&mut line).unwrap();
        line.split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    for (n, signal) in [Signal::INT, Signal::USR1, Signal::INT]
        .into_iter()
        .enumerate()
    {
        kill_process(rkcov, signal).unwrap();
        while interrupts() <= n as u32 {
            std::thread::yield_now();
        }
    }
    assert_eq!(interrupts(), 3);
    kill_process(rkcov, Signal::TERM).unwrap();
    let ran = running.end();
    assert_eq!(ran.exited(15).processes()[0].exit, Exit::Code(15));
}

#[test]
fn a_program_that_a_signal_kills() {
    let lab = Lab::new();
    for (name, number) in [("TERM", 15), ("SEGV", 11), ("HUP", 1)] {
        let kill = format!("kill -{name} $$");
        let ran = lab
            .run(Mode::Unique)
            .of(Path::new("/bin/sh"), &["-c", &kill]);
        ran.exited(128 + number);
    }
}

/// A terminal: our end and the programs'.
fn terminal() -> (File, OwnedFd) {
    use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    (ours.into(), theirs.into())
}

/// The first program of a terminal. The caller keeps `terminal`: once nobody has it open, Linux may answer a read at
/// our end with `EIO` before the last words are read.
fn on_terminal(mut command: Command, terminal: &OwnedFd) -> Command {
    command
        .stdin(terminal.try_clone().unwrap())
        .stdout(terminal.try_clone().unwrap())
        .stderr(terminal.try_clone().unwrap());
    // SAFETY: both may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
        });
    }
    command
}

/// Reads what a terminal shows until it shows `what`.
fn read_until(terminal: &mut File, what: &str) {
    let patience = Timespec {
        tv_sec: 30,
        tv_nsec: 0,
    };
    let mut shown = String::new();
    let mut buffer = [0; 256];
    while !shown.contains(what) {
        let ready = poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&patience));
        assert_eq!(ready, Ok(1), "before {what:?} in {shown:?}");
        let n = terminal.read(&mut buffer).unwrap();
        shown.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
}

#[test]
fn what_ran_before_a_ctrl_c_is_in_the_trace() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "steps");
    let trace = lab.path("trace.rkcov");
    let (mut keyboard, theirs) = terminal();
    let script = "\"$1\" run -o \"$2\" \"$3\" 3; echo ended $?";
    let mut bash = on_terminal(Command::new("bash"), &theirs)
        .args(["--norc", "-m", "-c", script, "bash", RKCOV])
        .args([&trace, &program])
        .spawn()
        .unwrap();
    read_until(&mut keyboard, " 3\r\n");
    keyboard.write_all(b"\x03").unwrap();
    read_until(&mut keyboard, "ended 130");
    bash.wait().unwrap();
    let trace = TraceFile::open(trace).unwrap();
    let trace = trace.trace().unwrap();
    assert_eq!(trace.processes()[0].exit, Exit::Signal(2));
    let symbols = Symbols::new(&trace);
    let ran: BTreeSet<&str> = trace.streams().iter().flat_map(|s| symbols.of(s)).collect();
    let all = BTreeSet::from(["main", "take", "step_1", "step_2", "step_3"]);
    assert_eq!(ran, all);
}

#[test]
fn the_keys_of_a_terminal_work_as_without_us() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "waits");
    let trace = lab.path("trace.rkcov");
    let (mut keyboard, theirs) = terminal();
    let script = "\"$1\" run -o \"$2\" \"$3\"; echo stopped $?; fg; echo ended $?";
    let mut bash = on_terminal(Command::new("bash"), &theirs)
        .args(["--norc", "-m", "-c", script, "bash", RKCOV])
        .args([&trace, &program])
        .spawn()
        .unwrap();
    read_until(&mut keyboard, "ready");
    // Ctrl-C reaches the program once, not a second time through us, who see it as well.
    keyboard.write_all(b"\x03").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    keyboard.write_all(b"?\n").unwrap();
    read_until(&mut keyboard, "1 interrupts");
    // Ctrl-Z stops both, and `fg` continues both.
    keyboard.write_all(b"\x1a").unwrap();
    read_until(&mut keyboard, "stopped 148");
    keyboard.write_all(b"?\n").unwrap();
    read_until(&mut keyboard, "1 interrupts");
    // Ctrl-D ends the input, and the trace is written.
    keyboard.write_all(b"\x04").unwrap();
    read_until(&mut keyboard, "ended 4");
    bash.wait().unwrap();
    let trace = TraceFile::open(trace).unwrap();
    assert_eq!(trace.trace().unwrap().processes()[0].exit, Exit::Code(4));
}

#[test]
fn what_could_not_be_recorded_is_told_from_what_is_not_instrumented() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    let script = format!("ulimit -v 100000; exec '{}'", program.display());
    let ran = lab
        .run(Mode::Unique)
        .of(Path::new("/bin/sh"), &["-c", &script]);
    assert_eq!(ran.exited(0).streams().len(), 0);
    insta::assert_snapshot!("no_room_to_map", ran.said_without_paths());

    // A file with the runtime in it whose process never came; setuid programs are such.
    let program = lab.path("shut");
    let mark = String::from_utf8(rkcov_region::REFUSAL.to_vec()).unwrap();
    fs::write(&program, format!("#!/bin/sh\n# {mark}\nexit 3\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = lab.run(Mode::Unique).of::<&str>(&program, &[]);
    assert_eq!(ran.exited(3).streams().len(), 0);
    insta::assert_snapshot!("never_came", ran.said_without_paths());
    let bytes = fs::read(lab.program(Compiler::Gcc, "mix")).unwrap();
    assert!(bytes
        .windows(mark.len())
        .any(|part| part == mark.as_bytes()));
}

#[test]
fn a_program_whose_runtime_has_another_version() {
    let lab = Lab::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/programs/stranger.c");
    let program = lab.link("stranger", &[source]);
    let ran = lab.run(Mode::Unique).of::<&str>(&program, &[]);
    assert_eq!(ran.exited(6).streams().len(), 0);
    insta::assert_snapshot!("stranger", ran.said_without_paths());
}

#[test]
fn a_runtime_of_another_version_only_says_that_it_was_there() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    let collector = Collector::new(Options::new(Recording::Unique, 1 << 16)).unwrap();
    let (name, value) = collector.environment();
    // The version stands behind the magic number.
    let (_, path) = value.split_once(':').unwrap();
    let region = OpenOptions::new().write(true).open(path).unwrap();
    let other = (rkcov_region::VERSION + 1).to_ne_bytes();
    region.write_all_at(&other, 8).unwrap();
    let output = Command::new(program).env(name, &value).output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stderr, b"");
    let strangers = collector.losses().strangers;
    assert_eq!(strangers, Some((1, rkcov_region::VERSION)));
    assert_eq!(collector.processes().count(), 0);
    assert_eq!(collector.streams().count(), 0);
}

#[test]
fn an_invitation_to_nowhere_or_to_somebody_else() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    let other = lab.path("other");
    fs::write(&other, vec![7; 1 << 20]).unwrap();
    let before = fs::read(&other).unwrap();
    for (value, complaint) in [
        ("1:/does/not/exist".to_owned(), true),
        (format!("1:{}", other.display()), false),
        ("1:/dev/null".to_owned(), false),
        ("nonsense".to_owned(), false),
        (format!("1:/{}", "x".repeat(300)), false),
    ] {
        let output = Command::new(&program).env("RKCOV_RUN", &value).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{value}");
        assert!(!output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            said.contains("is not recorded"),
            complaint,
            "{value}: {said}"
        );
        assert_eq!(said.is_empty(), !complaint, "{value}: {said}");
    }
    assert_eq!(fs::read(&other).unwrap(), before);
}

#[test]
fn runs_at_the_same_time_do_not_mix() {
    let lab = Lab::new();
    let programs = ["mix", "threads"].map(|name| lab.program(Compiler::Gcc, name));
    std::thread::scope(|scope| {
        for round in 0..20 {
            let program = &programs[round % 2];
            let (trace, name) = (
                lab.path(&format!("{round}.rkcov")),
                ["mix", "threads"][round % 2],
            );
            scope.spawn(move || {
                let mut command = Command::new(RKCOV);
                command.args(["run", "-o"]).arg(&trace).arg(program);
                let output = command.arg("2").output().unwrap();
                assert!(matches!(output.status.code(), Some(0 | 7)));
                let trace = TraceFile::open(trace).unwrap();
                let trace = trace.trace().unwrap();
                assert_eq!(trace.processes().len(), 1);
                let executable = trace.modules()[0].path.file_name().unwrap();
                assert_eq!(executable, name);
            });
        }
    });
}

#[test]
fn inside_of_another_run_the_inner_one_records() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    let inner = lab.path("inner.rkcov");
    let arguments = [
        "run",
        "-o",
        inner.to_str().unwrap(),
        program.to_str().unwrap(),
    ];
    let ran = lab.run(Mode::Unique).of(Path::new(RKCOV), &arguments);
    assert_eq!(ran.exited(0).streams().len(), 0);
    let inner = TraceFile::open(inner).unwrap();
    assert_eq!(inner.trace().unwrap().streams().len(), 4);
}

#[test]
fn a_process_in_the_background_is_recorded_until_the_program_ends() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "waits");
    // The background process says "ready", and then lives on.
    let script = format!(
        "mkfifo fifo; '{}' <fifo >said & exec 3>fifo; until [ -s said ]; do sleep 0.01; done; \
         (sleep 1; : <&3) & exit 3",
        program.display()
    );
    let mut run = lab.run(Mode::Unique);
    run.command.arg("--wait=0").current_dir(lab.path(""));
    let ran = run.of(Path::new("/bin/sh"), &["-c", &script]);
    let trace = ran.exited(3);
    assert!(
        ran.stderr().contains("1 process still running"),
        "{}",
        ran.stderr()
    );
    let streams = trace.streams();
    assert_eq!(streams.len(), 1);
    assert!(!streams[0].info().finished);
    assert!(streams[0].pcs().count() > 0);
    assert_eq!(trace.processes()[0].exit, Exit::Unknown);
}

#[test]
fn reports_at_the_end() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    let lcov = lab.path("out.lcov");
    let mut run = lab.run(Mode::Unique);
    run.command
        .arg("--report=pcs")
        .arg(format!("--report=lcov={}", lcov.display()));
    let ran = run.of::<&str>(&program, &[]);
    ran.exited(0);
    let pcs = ran.stdout().lines().filter(|line| line.contains("/mix+0x"));
    assert!(pcs.count() > 20, "{}", ran.stdout());
    let lcov = fs::read_to_string(lcov).unwrap();
    assert!(lcov.contains("mix.c") && lcov.contains("FNDA:"), "{lcov}");

    // A report that cannot be written fails the run, but not in the place of the program's status.
    for (arguments, status) in [("exit 0", 1), ("exit 5", 5)] {
        let mut run = lab.run(Mode::Unique);
        run.command.arg("--report=pcs=/does/not/exist");
        run.of(Path::new("/bin/sh"), &["-c", arguments])
            .exited(status);
    }
}

#[test]
fn options_that_make_no_sense() {
    for (line, expect) in [
        ("", "Usage: rkcov"),
        ("nonsense", "unrecognized subcommand 'nonsense'"),
        ("run", "<PROGRAM>"),
        ("run --mode what -- true", "invalid value 'what'"),
        ("run --buffer-words x -- true", "invalid value 'x'"),
        ("run --report what -- true", "invalid value 'what'"),
        ("preload", "<PROGRAM>"),
        ("report", "<FILE>"),
        ("report --format what t.rkcov", "invalid value 'what'"),
        ("report --filter a[ t.rkcov", "invalid value 'a['"),
        ("report --thread t.rkcov", "<FILE>"),
        ("install nothing", "unexpected argument 'nothing'"),
    ] {
        let mut command = Command::new(RKCOV);
        let output = command.args(line.split_whitespace()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(expect), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}
