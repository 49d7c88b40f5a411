// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the text report shows at first: what ran, on one screen.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rkcov_report::coverage::{Coverage, Named, Selection, View};
use rkcov_report::image::Search;
use rkcov_report::render::{text, TextOptions};
use rkcov_report::sources::Filter;
use rkcov_report::trace::TraceFile;

use super::lines::Built;

/// A program with many files in folders, and one that never runs.
fn build() -> Built {
    let folder = tempfile::tempdir().unwrap();
    let mut main = String::new();
    let mut calls = String::new();
    for number in 0..12 {
        let name = format!("lib/{}/part{number}.h", ["one", "two"][number % 2]);
        let path = folder.path().join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Every other line has code, so that line numbers take several rows.
        let body: String = (0..60).map(|_| "    n += 3;\n\n").collect();
        let text = format!("static int part{number}(int n) {{\n{body}    return n;\n}}\n");
        fs::write(path, text).unwrap();
        main.push_str(&format!("#include \"{name}\"\n"));
        calls.push_str(&format!("    n += part{number}(n);\n"));
    }
    fs::create_dir(folder.path().join("idle")).unwrap();
    let idle = "static int idle(int n) {\n    return n;\n}\n";
    fs::write(folder.path().join("idle/idle.h"), idle).unwrap();
    main.push_str(&format!(
        "#include \"idle/idle.h\"\nint main(int n, char **argv) {{\n{calls}    \
         return argv == 0 ? idle(n) : 0;\n}}\n"
    ));
    fs::write(folder.path().join("p.c"), main).unwrap();
    let built = Built { folder };
    built.rkcov("cc gcc -g -O0 p.c -o p");
    built.rkcov("run -o t.rkcov -- ./p");
    built
}

/// The report on a screen of some rows.
fn on_screen(built: &Built, height: usize) -> String {
    let file = TraceFile::open(built.path().join("t.rkcov")).unwrap();
    let trace = file.trace().unwrap();
    let named = Named {
        name: "t",
        trace: &trace,
    };
    let coverage = Coverage::new(&[named], &Search::default()).unwrap();
    let filter = Filter {
        project: vec![built.path()],
        ..Filter::default()
    };
    let view = View::new(&coverage, Selection::all(&coverage), &filter);
    let options = TextOptions {
        height: Some(height),
        ..TextOptions::default()
    };
    let mut shown = Vec::new();
    text(&view, &[], &options, &mut shown).unwrap();
    String::from_utf8(shown).unwrap()
}

#[test]
fn what_did_not_run_is_one_line() {
    let built = build();
    let report = built.report("");
    assert!(
        !report.contains("idle.h") && !report.contains("idle/"),
        "{report}"
    );
    let line = "not listed, because nothing in them ran: 1 file with 1 function and 3 lines; \
                --all-files lists them";
    assert!(report.contains(line), "{report}");
    // The sums are of all files all the same.
    let total = |report: &str| {
        let mut lines = report.lines().filter(|line| line.starts_with("total"));
        lines.next().unwrap().to_owned()
    };
    for options in ["--all-files", "--uncovered", "--summary-only"] {
        let other = built.report(options);
        assert!(other.contains("idle.h"), "{other}");
        assert!(!other.contains("not listed"), "{other}");
        let words =
            |line: String| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
        assert_eq!(words(total(&other)), words(total(&report)));
    }
}

#[test]
fn a_report_fits_the_screen() {
    let built = build();
    let whole = on_screen(&built, 1000);
    assert_eq!(whole.lines().count(), built.report("").lines().count());
    let rows = |height: usize| {
        let report = on_screen(&built, height);
        assert!(report.lines().count() <= height, "{height}: {report}");
        report
    };
    assert!(whole.lines().count() > 32, "{whole}");
    // Fewer line numbers, then fewer folders.
    let narrow = rows(32);
    assert!(
        narrow.contains("part7.h") && !narrow.contains("not opened"),
        "{narrow}"
    );
    let closed = rows(20);
    assert!(
        closed.contains("one/") && !closed.contains("part7.h"),
        "{closed}"
    );
    assert!(closed.contains("--all-files opens them"), "{closed}");
}

/// A terminal of some rows: our end and the programs'.
pub(crate) fn terminal(rows: u16) -> (File, OwnedFd) {
    use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let mut options = OpenOptions::new();
    let theirs = options.read(true).write(true).open(name.to_str().unwrap());
    let ours = File::from(ours);
    resize(&ours, rows);
    (ours, theirs.unwrap().into())
}

/// Gives a terminal so many rows.
pub(crate) fn resize(terminal: &File, rows: u16) {
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: 90,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size).unwrap();
}

/// What a program shows on a terminal of some rows, with `PAGER` set.
fn shown_on(mut command: Command, rows: u16, pager: &str) -> String {
    let (mut ours, theirs) = terminal(rows);
    command
        .env("TERM", "xterm")
        .env("PAGER", pager)
        .stdin(theirs.try_clone().unwrap())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs);
    let mut child = command.spawn().unwrap();
    drop(command);
    // All other ends of the terminal are closed when the program ends: reading fails then. It may fail once before
    // the last words are read.
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    let mut failed = 0;
    while failed < 2 {
        match ours.read(&mut buffer) {
            Ok(count @ 1..) => text.extend_from_slice(&buffer[..count]),
            _ => failed += 1,
        }
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

#[test]
fn what_is_longer_than_the_screen_goes_through_a_pager() {
    let built = build();
    let on = |rows: u16, pager: &str, options: &str| {
        shown_on(
            built.command(&format!("report t.rkcov {options}")),
            rows,
            pager,
        )
    };
    let pager = "sed 's/^/paged: /'";
    // It fits, or is made to.
    assert!(!on(200, pager, "").contains("paged: "));
    assert!(!on(30, pager, "").contains("paged: "));
    // It does not.
    let all = on(20, pager, "--all --color never");
    assert!(all.lines().all(|line| line.starts_with("paged: ")), "{all}");
    assert!(all.contains("idle.h"), "{all}");
    let plain = on(20, pager, "--all --color never --no-pager");
    assert_eq!(all.replace("paged: ", ""), plain);
    for none in ["cat", ""] {
        assert_eq!(on(20, none, "--all --color never"), plain);
    }
    // Whoever leaves the pager has seen enough.
    let left = on(20, "head -n 1", "--all --source");
    assert_eq!(left.lines().count(), 1, "{left}");
    // No pager for programs.
    assert!(!on(20, pager, "--format json").contains("paged: "));
}

#[test]
fn colours_are_for_terminals() {
    let built = build();
    let report = |color: &str| {
        let mut command = built.command("report t.rkcov --summary-only --no-pager");
        command.args(color.split_whitespace());
        command
    };
    let coloured = |text: &str| text.contains("\x1b[");
    assert!(coloured(&shown_on(report(""), 90, "cat")));
    let mut none = Command::new("env");
    none.args([
        "-C",
        built.path().to_str().unwrap(),
        "NO_COLOR=1",
        super::lines::RKCOV,
    ]);
    none.args(["report", "t.rkcov", "--summary-only", "--no-pager"]);
    assert!(!coloured(&shown_on(none, 90, "cat")));
    assert!(!coloured(&super::succeed(&mut report(""))));
    assert!(coloured(&super::succeed(&mut report("--color always"))));
    assert!(!coloured(&shown_on(report("--color never"), 90, "cat")));
}

#[test]
fn quiet_says_nothing() {
    let built = build();
    let said = |options: &str| {
        let output = built.command(&format!("report t.rkcov {options}")).output();
        let output = output.unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(said("--format html -o pages"), "rkcov: pages/index.html\n");
    assert_eq!(said("--quiet --format html -o pages"), "");
    // What went wrong is said all the same.
    fs::remove_file(built.path().join("p")).unwrap();
    assert!(said("--quiet --allow-missing").contains("/p"));
}

#[test]
fn a_table_is_for_files_and_pipes_and_not_for_terminals() {
    let built = build();
    let (mut ours, theirs) = terminal(30);
    let mut command = built.command("report t.rkcov --format parquet");
    command.stdout(theirs).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("standard output is a terminal"), "{said}");
    let mut shown = Vec::new();
    // Nobody has the other end.
    let _ = ours.read_to_end(&mut shown);
    assert_eq!(shown, b"");

    let piped = built
        .command("report t.rkcov --parquet")
        .output()
        .unwrap()
        .stdout;
    assert!(piped.starts_with(b"PAR1") && piped.ends_with(b"PAR1"));
    built.rkcov("report t.rkcov -o t.parquet");
    assert_eq!(fs::read(built.path().join("t.parquet")).unwrap(), piped);
}
