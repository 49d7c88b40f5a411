// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov report --watch` beside a run that goes on.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};

use super::lines::{Built, RKCOV};
use super::screen::{resize, terminal};

/// Each letter that it reads runs a function of its own; it answers when that has run.
const PROGRAM: &str = r#"#include <stdio.h>
static int first(int n) {
    return n + 1;
}
static int second(int n) {
    return n + 2;
}
int main(void) {
    int n = 0;
    for (int c = getchar(); c != EOF; c = getchar()) {
        n = c == '1' ? first(n) : c == '2' ? second(n) : n;
        putchar(c);
        fflush(stdout);
    }
    return n == 0;
}
"#;

const PATIENCE: Duration = Duration::from_secs(60);

fn build() -> Built {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p.c"), PROGRAM).unwrap();
    let built = Built { folder };
    built.rkcov("cc gcc -g -O0 p.c -o p");
    built
}

/// A run under way.
struct Run {
    child: Child,
    to: ChildStdin,
}

impl Run {
    fn start(built: &Built, options: &str) -> Self {
        let mut command = built.command(&format!("run {options} -o t.rkcov -- ./p"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let to = child.stdin.take().unwrap();
        Self { child, to }
    }

    fn step(&mut self, letter: u8) {
        self.to.write_all(&[letter]).unwrap();
        let mut echo = [0];
        let from = self.child.stdout.as_mut().unwrap();
        from.read_exact(&mut echo).unwrap();
        assert_eq!(echo, [letter]);
    }

    fn end(self) -> Output {
        drop(self.to);
        self.child.wait_with_output().unwrap()
    }

    /// The process of rkcov that writes the trace: the child that is not the program.
    fn writer(&self) -> Pid {
        let of = self.child.id();
        let children = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
            let parent = rest.split_whitespace().nth(1)?.parse();
            (parent == Ok(of) && name == "rkcov").then_some(pid)
        });
        let children: Vec<i32> = children.collect();
        assert_eq!(children.len(), 1);
        Pid::from_raw(children[0]).unwrap()
    }
}

/// A watcher, and what it has shown until now.
struct Watcher {
    child: Child,
    shown: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Watcher {
    fn start(built: &Built, options: &str) -> Self {
        let mut command = built.command(&format!("report --watch {options} t.rkcov"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let from = child.stdout.take().unwrap();
        Self::reading(child, from)
    }

    fn reading(child: Child, mut from: impl Read + Send + 'static) -> Self {
        let shown = Arc::new(Mutex::new(String::new()));
        let to = Arc::clone(&shown);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            // A terminal may fail once before its last words are read.
            let mut failed = 0;
            while failed < 2 {
                match from.read(&mut buffer) {
                    Ok(count @ 1..) => {
                        let text = String::from_utf8_lossy(&buffer[..count]);
                        to.lock().unwrap().push_str(&text.replace("\r\n", "\n"));
                    }
                    _ => failed += 1,
                }
            }
        });
        Self {
            child,
            shown,
            reader,
        }
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Waits until what was shown after the byte `from` has `text` in it; returns where that ends.
    #[track_caller]
    fn wait_for(&self, text: &str, from: usize) -> usize {
        let began = Instant::now();
        loop {
            let shown = self.shown();
            if let Some(at) = shown[from..].find(text) {
                return from + at + text.len();
            }
            assert!(began.elapsed() < PATIENCE, "no {text:?} in {shown}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(mut self) -> (ExitStatus, String, String) {
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said).unwrap();
        }
        let status = self.child.wait().unwrap();
        self.reader.join().unwrap();
        let shown = self.shown.lock().unwrap().clone();
        (status, shown, said)
    }
}

/// Functions that ran, and all: as a row of the report says.
fn row(ran: usize) -> String {
    format!("{ran}/3")
}

#[test]
fn pictures_follow_the_run_and_the_report_comes_at_its_end() {
    let built = build();
    for mode in ["unique", "trace"] {
        let _ = fs::remove_file(built.path().join("t.rkcov"));
        let mut watcher = Watcher::start(&built, "");
        let mut stderr = BufReader::new(watcher.child.stderr.take().unwrap());
        let mut said = String::new();
        stderr.read_line(&mut said).unwrap();
        assert_eq!(said, "rkcov: waiting for a run that writes t.rkcov\n");

        let mut run = Run::start(&built, &format!("--mode {mode}"));
        let at = watcher.wait_for("t.rkcov: the run goes on\n", 0);
        let at = watcher.wait_for(&row(1), at);
        run.step(b'1');
        let at = watcher.wait_for(&row(2), at);
        // Nothing new, so no picture.
        run.step(b'1');
        thread::sleep(Duration::from_millis(1500));
        assert!(!watcher.shown()[at..].contains("goes on"));
        run.step(b'2');
        let at = watcher.wait_for(&row(3), at);
        assert!(run.end().status.success());
        let (status, shown, _) = watcher.end();
        assert!(status.success(), "{shown}");
        assert!(!shown.contains('\x1b'), "{shown}");
        let last = &shown[at..];
        let report = built.rkcov("report t.rkcov");
        assert!(last.ends_with(&format!("\n\n{report}")), "{last}\n{report}");
        // Nothing is left beside the trace.
        let names: Vec<_> = fs::read_dir(built.path()).unwrap().collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }
}

#[test]
fn what_is_asked_of_the_end_is_asked_of_the_end_alone() {
    let built = build();
    let mut run = Run::start(&built, "");
    run.step(b'1');
    let watcher = Watcher::start(&built, "--fail-under-lines 100 --thread nobody");
    // There is no such thread, and there may be one later.
    watcher.wait_for("nobody", 0);
    run.end();
    assert!(!watcher.end().0.success());

    let mut run = Run::start(&built, "");
    run.step(b'1');
    let watcher = Watcher::start(&built, "--fail-under-lines 100");
    watcher.wait_for(&row(2), 0);
    run.end();
    let (status, _, said) = watcher.end();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("--fail-under-lines requires 100 %"), "{said}");
    // The run is over: its report, without waiting.
    let watcher = Watcher::start(&built, "");
    let (status, shown, _) = watcher.end();
    assert!(status.success() && !shown.contains("goes on"));
}

#[test]
fn a_run_that_is_killed_leaves_the_last_picture() {
    let built = build();
    let mut run = Run::start(&built, "");
    run.step(b'1');
    let watcher = Watcher::start(&built, "");
    watcher.wait_for(&row(2), 0);
    kill_process(run.writer(), Signal::KILL).unwrap();
    let (status, shown, said) = watcher.end();
    assert_eq!(status.code(), Some(1));
    assert!(shown.contains(&row(2)), "{shown}");
    assert!(said.contains("the run ended without a trace"), "{said}");
    run.end();

    // The program and the process that waits for it may be killed: the trace is written.
    for kill_program in [true, false] {
        let mut run = Run::start(&built, "");
        run.step(b'2');
        let watcher = Watcher::start(&built, "");
        watcher.wait_for(&row(2), 0);
        if kill_program {
            let at = built.path().join("p");
            let of_program =
                |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == at);
            let all = fs::read_dir("/proc").unwrap();
            let pids = all.filter_map(|one| one.unwrap().file_name().to_str()?.parse().ok());
            let program = pids.into_iter().find(of_program).unwrap();
            kill_process(Pid::from_raw(program).unwrap(), Signal::KILL).unwrap();
            assert_eq!(run.end().status.code(), Some(128 + 9));
        } else {
            let pid = Pid::from_raw(run.child.id().cast_signed()).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
            run.end();
        }
        let (status, shown, said) = watcher.end();
        assert!(status.success(), "{said}");
        assert!(shown.ends_with(&built.rkcov("report t.rkcov")), "{shown}");
    }
}

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

fn on_terminal(built: &Built, rows: u16) -> (Watcher, File) {
    let (ours, theirs) = terminal(rows);
    let mut command = Command::new(RKCOV);
    command
        .args(["report", "--watch", "--no-pager", "t.rkcov"])
        .current_dir(built.path())
        .env("TERM", "xterm")
        .stdin(theirs.try_clone().unwrap())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs);
    let child = command.spawn().unwrap();
    drop(command);
    let reader = ours.try_clone().unwrap();
    (Watcher::reading(child, reader), ours)
}

#[test]
fn on_a_terminal_pictures_have_a_screen_of_their_own() {
    let built = build();
    let mut run = Run::start(&built, "");
    run.step(b'1');
    let (watcher, ours) = on_terminal(&built, 30);
    let before = rustix::termios::tcgetattr(&ours).unwrap();
    let at = watcher.wait_for(&row(2), 0);
    // A screen of another size gets another picture of the same.
    let at = watcher.wait_for("\x1b[J", at);
    resize(&ours, 4);
    let at = watcher.wait_for("more rows do not fit", at);
    resize(&ours, 30);
    let at = watcher.wait_for(&row(2), at);
    run.step(b'2');
    watcher.wait_for(&row(3), at);
    run.end();
    let after = rustix::termios::tcgetattr(&ours).unwrap();
    let (status, shown, _) = watcher.end();
    assert!(status.success(), "{shown}");
    assert_eq!(shown.matches(ENTER).count(), 1);
    let (pictures, report) = shown.split_once(LEAVE).unwrap();
    assert!(pictures.starts_with(ENTER) && pictures.contains("goes on"));
    assert!(report.contains("3/3") && !report.contains("goes on"));
    assert_eq!(before.local_modes, after.local_modes);
}

#[test]
fn an_interrupt_leaves_the_terminal_as_it_was_and_the_run_alone() {
    let built = build();
    let mut run = Run::start(&built, "");
    run.step(b'1');
    let (watcher, _ours) = on_terminal(&built, 30);
    watcher.wait_for(&row(2), 0);
    let pid = Pid::from_raw(watcher.child.id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let (status, shown, _) = watcher.end();
    assert_eq!(status.code(), Some(128 + 2));
    assert!(shown.ends_with(LEAVE), "{shown}");
    run.step(b'2');
    assert!(run.end().status.success());
    assert!(built.report("").contains("3/3"));
}

#[test]
fn a_killed_run_leaves_its_picture_on_the_terminal() {
    let built = build();
    let mut run = Run::start(&built, "");
    run.step(b'1');
    let (watcher, _ours) = on_terminal(&built, 30);
    watcher.wait_for(&row(2), 0);
    kill_process(run.writer(), Signal::KILL).unwrap();
    let (status, shown, _) = watcher.end();
    assert_eq!(status.code(), Some(1));
    let (_, left) = shown.split_once(LEAVE).unwrap();
    assert!(left.contains(&row(2)) && left.contains("the run ended without a trace"));
    run.end();
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let built = build();
    let refused = |words: &str| {
        let output = built.command(&format!("report --watch {words}")).output();
        let output = output.unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    for words in [
        "t.rkcov --format json",
        "t.rkcov --html",
        "t.rkcov -o report.txt",
        "t.rkcov --format text=report.txt",
    ] {
        let said = refused(words);
        assert!(said.contains("leave out --format and --output"), "{said}");
    }
    assert!(refused("a.rkcov b.rkcov").contains("name one file"));
    assert!(refused("t.rkcov --salvage").contains("cannot be used with"));
    let said = refused("missing/t.rkcov");
    assert!(
        said.contains("cannot watch the run of missing/t.rkcov: No such file"),
        "{said}"
    );
    assert!(!Path::new("report.txt").exists());
}
