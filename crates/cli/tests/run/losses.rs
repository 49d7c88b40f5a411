// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is lost is said, and no line that ran is said not to have run, in any format.

use crate::here::can;
use crate::support::{succeed, Compiler, Lab, RKCOV};
use rkcov_report::trace::{DropReason, Mode, Trace, TraceFile};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What the formats say of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Ran,
    Missed,
    Unknown,
}

/// A program, and what became of running it.
pub(crate) struct Case {
    lab: Lab,
    program: PathBuf,
    trace: PathBuf,
    said: String,
}

impl Case {
    fn new() -> Self {
        let lab = Lab::new();
        let program = lab.program(Compiler::Gcc, "late");
        Self::of(lab, program)
    }

    pub(crate) fn of(lab: Lab, program: PathBuf) -> Self {
        let trace = lab.path("trace.rkcov");
        Self {
            lab,
            program,
            trace,
            said: String::new(),
        }
    }

    /// Runs a shell script in which `$P` is the program, with these options of `rkcov run`.
    pub(crate) fn run(&mut self, options: &[&str], script: &str) {
        let output = Command::new(RKCOV)
            .args(["run", "-o"])
            .arg(&self.trace)
            .args(options)
            .args(["--", "sh", "-c", script])
            .env("P", &self.program)
            .current_dir(self.lab.path(""))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        self.said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", self.said);
    }

    pub(crate) fn report(&self, options: &[&str]) -> String {
        let mut report = Command::new(RKCOV);
        report.arg("report").args(options).arg(&self.trace);
        let output = report.output().unwrap();
        assert!(output.status.success(), "{options:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What all formats say of the line in `late()`.
    #[track_caller]
    fn late(&self) -> Says {
        self.line("late.c", "return n + 7;")
    }

    /// What all formats say of the line with this text, of a file of `tests/run/programs`.
    #[track_caller]
    pub(crate) fn line(&self, file: &str, line: &str) -> Says {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run/programs/");
        let source = std::fs::read_to_string(format!("{folder}{file}")).unwrap();
        let needle = line;
        let at = source.lines().position(|line| line.contains(needle));
        let line = at.unwrap() + 1;
        let text = self.report(&["--source"]);
        let row = text.lines().find(|row| row.contains(needle));
        let text = match row.and_then(|row| row.trim_start().split(' ').nth(1)) {
            Some("+") => Says::Ran,
            Some("-") => Says::Missed,
            _ => Says::Unknown,
        };
        let lcov = self.report(&["--format=lcov"]);
        let records = lcov.split("end_of_record");
        let record = records.into_iter().find(|record| record.contains(file));
        let row = record
            .unwrap_or_default()
            .lines()
            .find_map(|row| row.strip_prefix(&format!("DA:{line},")));
        let lcov = match row {
            Some("0") => Says::Missed,
            Some(_) => Says::Ran,
            None => Says::Unknown,
        };
        let json: serde_json::Value =
            serde_json::from_str(&self.report(&["--format=json"])).unwrap();
        let files = json["files"].as_array().unwrap().iter();
        let is_it = |entry: &&serde_json::Value| {
            let path = entry["path"].as_str();
            path.is_some_and(|path| path.ends_with(file))
        };
        let lines = files.clone().find(is_it);
        let lines = lines.and_then(|entry| entry["lines"].as_array());
        let found = lines
            .into_iter()
            .flatten()
            .find(|entry| entry["line"] == line as u64);
        let json = match found.map(|entry| entry["count"].as_u64().unwrap()) {
            Some(0) => Says::Missed,
            Some(_) => Says::Ran,
            None => Says::Unknown,
        };
        let xml = self.report(&["--format=cobertura"]);
        let row = format!("<line number=\"{line}\" hits=\"");
        let xml = match xml.lines().find_map(|text| text.strip_prefix(&row)) {
            Some(hits) if hits.starts_with('0') => Says::Missed,
            Some(_) => Says::Ran,
            None => Says::Unknown,
        };
        let html = self.html(file, line);
        let all = [
            ("text", text),
            ("lcov", lcov),
            ("Cobertura", xml),
            ("HTML", html),
        ];
        assert_eq!(
            all,
            all.map(|(name, _)| (name, json)),
            "the others say what JSON says"
        );
        json
    }

    /// What the pages say of a line, by the rule of theirs: it ran if anybody ran it; else, if anybody
    /// may have who is there, or the one behind all others, who was not recorded, nobody knows.
    fn html(&self, file: &str, line: usize) -> Says {
        let path = self.lab.path("page.html");
        self.report(&["--format=html", "-o", path.to_str().unwrap()]);
        let page = std::fs::read_to_string(path).unwrap();
        let data = |name: &str| -> Option<serde_json::Value> {
            let (_, rest) = page.split_once(&format!("id=\"data-{name}\">"))?;
            let mut values = serde_json::Deserializer::from_str(rest).into_iter();
            values.next().unwrap().ok()
        };
        let index = data("index").unwrap();
        let files = index["files"].as_array().unwrap();
        let is_it = |entry: &serde_json::Value| entry["p"].as_str().unwrap().ends_with(file);
        let Some(place) = files.iter().position(is_it) else {
            return Says::Unknown;
        };
        let file = data(&format!("f{place}")).unwrap();
        let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
        let entries: Vec<usize> = file["l"].as_array().unwrap().iter().map(number).collect();
        let mut at = 0;
        for entry in entries.chunks(3) {
            at += entry[0];
            if at == line {
                let set = |which: usize| {
                    let set = number(&index["pairs"][2 * entry[1] + which]);
                    index["sets"][set] != ""
                };
                return match (set(0), set(1)) {
                    (true, _) => Says::Ran,
                    (false, true) => Says::Unknown,
                    (false, false) => Says::Missed,
                };
            }
        }
        Says::Unknown
    }

    /// Asserts that every format says what was lost, that no gate passes, and that the run said it.
    #[track_caller]
    pub(crate) fn says(&self, what: &str) {
        let mut gate = Command::new(RKCOV);
        gate.args(["report", "--summary-only", "--fail-under-lines", "0"]);
        let output = gate.arg(&self.trace).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("--fail-under-lines 0 %: "), "{said}");
        assert!(self.said.contains(what), "{}", self.said);
        let text = self.report(&[]).replace('\n', " ");
        assert!(text.contains(what), "{text}");
        let lcov = self.report(&["--format=lcov"]);
        let comment = lcov.lines().find(|line| line.starts_with("# rkcov: "));
        assert!(comment.is_some_and(|line| line.contains(what)), "{lcov}");
        let json: serde_json::Value =
            serde_json::from_str(&self.report(&["--format=json"])).unwrap();
        assert!(
            json["runs"][0]["losses"].to_string().contains(what),
            "{json}"
        );
    }

    #[track_caller]
    pub(crate) fn lost_nothing(&self) {
        assert!(!self.said.contains("not recorded"), "{}", self.said);
        let text = self.report(&[]);
        assert!(text.contains("nothing was dropped"), "{text}");
    }
}

/// What a trace says was lost: why, and how much.
pub(crate) fn losses_of(trace: &Trace<'_>) -> Vec<(DropReason, u64)> {
    trace
        .losses()
        .map(|loss| (loss.reason, loss.count))
        .collect()
}

#[test]
fn what_did_not_run_is_said_so_where_nothing_was_lost() {
    let mut case = Case::new();
    case.run(&[], "$P; $P early");
    assert_eq!(case.late(), Says::Missed);
    case.lost_nothing();
}

#[test]
fn full_tables_make_lines_unknown() {
    let mut case = Case::new();
    for (tables, late, what) in [
        (
            "4,999,9999,99999,99999",
            Says::Unknown,
            "processes unknown: no room",
        ),
        // The program is the first of its images.
        ("999,1,9999,99999,99999", Says::Ran, "modules unknown"),
        ("999,999,9999,5,99999", Says::Unknown, "modules unknown"),
        (
            "999,999,8,99999,99999",
            Says::Unknown,
            "unknown: PCs in them cannot be resolved (/",
        ),
    ] {
        case.run(&["--tables", tables], "$P many 10");
        assert_eq!(case.late(), late, "{tables}");
        case.says(what);
    }
    // A process without its command line is still known.
    case.run(&["--tables", "999,999,9999,99999,0"], "$P many 10");
    assert_eq!(case.late(), Says::Ran);
    case.lost_nothing();
}

#[test]
fn one_module_stands_once_in_the_tables_however_many_processes_load_it() {
    let mut case = Case::new();
    // Eleven processes of one program: its image and those of its libraries.
    case.run(&["--tables", "11,4,9999,9999,99999"], "exec $P many 10");
    assert_eq!(case.late(), Says::Ran);
    case.lost_nothing();
}

#[test]
fn a_full_buffer_makes_lines_unknown() {
    let mut case = Case::new();
    case.run(&["--buffer-words=2"], "$P late");
    assert_ne!(case.late(), Says::Missed);
    let text = case.report(&[]);
    assert!(text.contains("DROPPED"), "{text}");
    let lcov = case.report(&["--format=lcov"]);
    assert!(lcov.contains("# rkcov: "), "{lcov}");
    let json = case.report(&["--format=json"]);
    assert!(json.contains("\"lossy\": true"), "{json}");
}

#[test]
fn a_child_that_is_refused_makes_lines_unknown() {
    let mut case = Case::new();
    case.run(&[], "$P early; (ulimit -v 100000; $P late)");
    assert_eq!(case.late(), Says::Unknown);
    case.says("1 process not recorded: no room to map rkcov's memory");
}

#[test]
fn children_with_another_environment_are_recorded() {
    for script in [
        "$P cleared",
        "$P closed",
        "$P fexecve",
        "env -i $P late",
        "unset RKCOV_RUN; $P late",
        "unset RKCOV_RUN; $P closed",
    ] {
        let mut case = Case::new();
        case.run(&[], script);
        assert_eq!(case.late(), Says::Ran, "{script}");
        case.lost_nothing();
    }
}

#[test]
fn children_in_other_namespaces_are_recorded() {
    for (probe, script) in [
        (&["unshare", "-r", "true"][..], "unshare -r $P late"),
        (
            &["unshare", "-rpf", "--mount-proc", "true"],
            "unshare -rpf --mount-proc $P late",
        ),
        (
            &["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/proc"],
            "unshare -rm sh -c 'mount -t tmpfs none /proc; $P late'",
        ),
        (
            &[
                "bwrap",
                "--dev-bind",
                "/",
                "/",
                "--unshare-all",
                "--clearenv",
                "true",
            ],
            "bwrap --dev-bind / / --unshare-all --clearenv $P late",
        ),
    ] {
        if !can(probe) {
            continue;
        }
        let mut case = Case::new();
        case.run(&[], script);
        assert_eq!(case.late(), Says::Ran, "{script}: {}", case.said);
        case.lost_nothing();
    }
}

#[test]
fn children_of_another_user_are_recorded() {
    let setpriv = ["setpriv", "--reuid=65534", "--clear-groups"];
    if !can(&[&setpriv[..], &["true"]].concat()) {
        return;
    }
    let mut case = Case::new();
    // Another user cannot look into the folder of a test.
    succeed(Command::new("chmod").arg("755").arg(case.lab.path("")));
    for script in ["$P late", "env -i $P late"] {
        case.run(&[], &format!("{} {script}", setpriv.join(" ")));
        assert_eq!(case.late(), Says::Ran, "{script}");
        case.lost_nothing();
    }
}

#[test]
fn a_program_with_rights_of_its_own_says_that_it_does_not_come() {
    if !can(&["setpriv", "--reuid=65534", "--clear-groups", "true"]) {
        return;
    }
    let mut case = Case::new();
    succeed(Command::new("chmod").arg("755").arg(case.lab.path("")));
    succeed(Command::new("chmod").arg("u+s").arg(&case.program));
    case.run(
        &[],
        "cp $P plain; ./plain; setpriv --reuid=65534 --clear-groups $P late",
    );
    case.says("1 process not recorded: a setuid program");
    assert_eq!(case.late(), Says::Unknown);
}

#[test]
fn a_daemon_is_waited_for_or_said_to_run_on() {
    let mut case = Case::new();
    case.run(&["--wait"], "$P daemon");
    assert_eq!(case.late(), Says::Ran);
    case.lost_nothing();
    case.run(&["--wait=0"], "$P daemon");
    assert_eq!(case.late(), Says::Unknown);
    case.says("1 process still running: code that they run from now on is not in the trace");
}

/// As daemons do: it closes all files, and another program is it in the end.
#[test]
fn what_a_daemon_becomes_is_waited_for() {
    for script in ["$P background", "$P background cleared"] {
        let mut case = Case::new();
        case.run(&["--wait"], script);
        assert_eq!(case.late(), Says::Ran, "{script}: {}", case.said);
        case.lost_nothing();
        // If it takes longer than one waits by default, that is said.
        case.run(&[], script);
        if case.said.contains("still running") {
            assert_eq!(case.late(), Says::Unknown, "{script}");
        } else {
            assert_eq!(case.late(), Says::Ran, "{script}");
        }
    }
}

#[test]
fn losses_are_in_the_trace_with_their_reasons() {
    let mut case = Case::new();
    case.run(&["--tables", "999,999,8,99999,99999"], "$P many 10");
    let file = TraceFile::open(&case.trace).unwrap();
    let trace = file.trace().unwrap();
    assert_eq!(trace.info().mode, Mode::Unique);
    let losses: Vec<_> = trace.losses().collect();
    assert!(!losses.is_empty());
    assert!(losses
        .iter()
        .all(|loss| loss.reason == DropReason::UnknownModule));
}
