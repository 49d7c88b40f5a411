// SPDX-License-Identifier: MIT OR Apache-2.0
//! Formats that others read: DuckDB's answers to the queries of `docs/queries.md` are what reports say, and so
//! is Teamscale's report.

use super::here;
use super::lines::{Built, RKCOV};
use super::succeed;
use serde_json::{json, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

const PAGE: &str = include_str!("../../../../docs/queries.md");

/// Answers each query of a list: its columns, its rows, and what people see of it.
const ASK: &str = r#"
import contextlib, duckdb, io, json, sys
answers = []
for query in json.load(sys.stdin):
    answer = duckdb.sql(query)
    seen = io.StringIO()
    with contextlib.redirect_stdout(seen):
        answer.show(max_rows=6)
    answers.append({"rows": answer.fetchall(), "seen": seen.getvalue()})
json.dump(answers, sys.stdout)
"#;

struct Asked {
    rows: Vec<Value>,
    seen: String,
}

fn ask(folder: &Path, queries: &[&str]) -> Vec<Asked> {
    let mut python = Command::new(xtask::setup::python());
    python.args(["-c", ASK]).current_dir(folder);
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().unwrap();
    let asked = serde_json::to_string(queries).unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(asked.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let answers = answers.into_iter().map(|answer| Asked {
        rows: answer["rows"].as_array().unwrap().clone(),
        seen: answer["seen"].as_str().unwrap().to_owned(),
    });
    answers.collect()
}

fn rkcov(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(RKCOV);
    command.args(arguments.split(' ')).current_dir(folder);
    command
}

fn said(mut command: Command) -> Value {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Blocks of the page, of this language.
fn blocks<'a>(language: &str) -> Vec<&'a str> {
    let begin = format!("\n```{language}\n");
    let blocks = PAGE.split(&*begin).skip(1);
    blocks
        .map(|block| block.split("\n```").next().unwrap())
        .collect()
}

/// The commands of the page, which make the tables.
fn commands() -> String {
    let mut script = String::from("set -e\n");
    for line in blocks("console").join("\n").lines() {
        let line = line
            .strip_prefix("$ ")
            .or_else(|| line.strip_prefix("> "))
            .unwrap();
        // Who asks is another here.
        if !line.starts_with("python3 ") && !line.starts_with("pip ") {
            script += line;
            script.push('\n');
        }
    }
    script
}

/// A table without what makes its columns as wide as they are.
fn narrow(table: &str) -> String {
    let table = regex::Regex::new(" +").unwrap().replace_all(table, " ");
    let table = regex::Regex::new("─+").unwrap().replace_all(&table, "─");
    let lines = table.lines().map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// What JSON reports say of the lines of date.c in each run.
fn lines_of_runs(folder: &Path, runs: &[String]) -> BTreeMap<String, BTreeMap<u64, u64>> {
    let of_run = |run: &String| {
        let report = said(rkcov(folder, &format!("report --format json {run}")));
        let files = report["files"].as_array().unwrap();
        let [file] = &files[..] else {
            panic!("{run}: {files:?}");
        };
        assert!(file["path"].as_str().unwrap().ends_with("/date.c"));
        assert_eq!(file["unknown"], json!([]));
        let number = |line: &Value, key: &str| line[key].as_u64().unwrap();
        let lines = file["lines"].as_array().unwrap().iter();
        lines
            .map(|line| (number(line, "line"), number(line, "count")))
            .collect()
    };
    thread::scope(|scope| {
        let parts = runs.chunks(runs.len().div_ceil(2));
        let parts: Vec<_> = parts
            .map(|runs| scope.spawn(move || runs.iter().map(of_run).collect::<Vec<_>>()))
            .collect();
        let found = parts.into_iter().flat_map(|part| part.join().unwrap());
        runs.iter().cloned().zip(found).collect()
    })
}

#[test]
fn queries_of_the_page_have_the_answers_of_reports() {
    let python = xtask::setup::python();
    if !here::can(&[python.to_str().unwrap(), "-c", "import duckdb"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = &folder.path().canonicalize().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/date.c");
    fs::copy(source, folder.join("date.c")).unwrap();
    let mut path = vec![Path::new(RKCOV).parent().unwrap().to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut shell = Command::new("bash");
    shell.env("PATH", std::env::join_paths(path).unwrap());
    succeed(shell.args(["-c", &commands()]).current_dir(folder));

    let runs: Vec<String> = (1901..=2000).map(|year| format!("{year}.rkcov")).collect();
    let lines = lines_of_runs(folder, &runs);
    let covered = |run: &String| lines[run].iter().filter(|(_, count)| **count > 0);

    let queries = blocks("sql");
    let [of_runs, of_one, of_none, of_contexts, of_merged] = queries[..] else {
        panic!("{queries:?}");
    };
    let answers = ask(folder, &queries);
    let by_run = runs.iter().map(|run| {
        let (ran, all) = (covered(run).count(), lines[run].len());
        let percent = (1000.0 * ran as f64 / all as f64).round() / 10.0;
        json!([run, ran, all, percent])
    });
    assert_eq!(answers[0].rows, by_run.collect::<Vec<_>>(), "{of_runs}");

    let mut ran: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for run in &runs {
        for line in lines[run].keys() {
            ran.entry(*line).or_default();
        }
        for (line, _) in covered(run) {
            ran.entry(*line).or_default().insert(run);
        }
    }
    let file = folder.join("date.c");
    let one = ran.iter().filter(|(_, runs)| runs.len() == 1);
    let one: Vec<Value> = one
        .map(|(line, runs)| json!([file, line, runs.first()]))
        .collect();
    assert!(!one.is_empty());
    assert_eq!(answers[1].rows, one, "{of_one}");
    let none = ran.iter().filter(|(_, runs)| runs.is_empty());
    let none: Vec<Value> = none.map(|(line, _)| json!([file, line])).collect();
    assert!(!none.is_empty());
    assert_eq!(answers[2].rows, none, "{of_none}");

    // The line that the page asks for is the one that only leap years run which are no centuries.
    let (_, line) = of_contexts.split_once("AND ").unwrap();
    let line = line
        .split_whitespace()
        .find_map(|word| word.parse::<usize>().ok());
    let line = line.unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().nth(line - 1).map(str::trim), Some("return 1;"));
    let mut tests = rkcov(folder, &format!("tests date.c:{line} --format json"));
    let names = said({
        tests.args(&runs);
        tests
    });
    let names = names["contexts"].as_array().unwrap();
    assert_eq!(names.len(), 24);
    let with_kind = names.iter().map(|name| json!(["input", name]));
    let with_kind: Vec<Value> = with_kind.collect();
    assert_eq!(answers[3].rows, with_kind, "{of_contexts}");
    assert_eq!(answers[4].rows, with_kind, "{of_merged}");

    // One command for all traces makes the same rows.
    let mut all = rkcov(
        folder,
        "report --by context --format parquet -o fleet.parquet",
    );
    succeed(all.args(&runs));
    let of = |columns: &str, from: &str| format!("(SELECT {columns} FROM '{from}')");
    let difference = |columns: &str, a: &str, b: &str| {
        let (a, b) = (of(columns, a), of(columns, b));
        format!("{a} EXCEPT ALL {b} UNION ALL ({b} EXCEPT ALL {a})")
    };
    let same = difference("*", "runs/*.parquet", "fleet.parquet");
    // As one run, they are what the merged trace is, apart from its name.
    let mut one = rkcov(
        folder,
        "report --format parquet --run-name all -o one.parquet --by context",
    );
    succeed(one.args(&runs));
    let merged = difference("* EXCLUDE run", "one.parquet", "all.parquet");
    let names = "SELECT DISTINCT run FROM 'one.parquet'";
    let [same, merged, names] = &ask(folder, &[&same, &merged, names])[..] else {
        panic!();
    };
    assert_eq!((&same.rows, &merged.rows), (&vec![], &vec![]));
    assert_eq!(names.rows, [json!(["all"])]);

    // What the page shows is what people see.
    let shown = blocks("text");
    assert_eq!(shown.len(), queries.len());
    for ((shown, answer), query) in shown.iter().zip(&answers).zip(&queries) {
        let seen = answer
            .seen
            .replace(file.to_str().unwrap(), "/home/me/date.c");
        assert_eq!(narrow(shown), narrow(&seen), "{query}");
    }
}

/// Lines as Teamscale has them.
fn expanded(ranges: &str) -> BTreeSet<u64> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<u64>().unwrap()..=last.parse().unwrap()
    };
    ranges.split(',').flat_map(range).collect()
}

#[test]
fn teamscale_has_of_each_context_what_its_report_has() {
    let server = include_str!("../../../../examples/contexts.c");
    let built = Built::new(
        &[("src/server.c", server)],
        "cc -g -pthread src/server.c -o p",
        "",
    );
    let json = |words: &str| -> Value { serde_json::from_str(&built.report(words)).unwrap() };
    let report = json("--by context --format teamscale");
    assert_eq!(report["partial"], json!(true));
    let tests = report["tests"].as_array().unwrap();
    let table = json("--by context --format json");
    let rows = table["contexts"].as_array().unwrap();
    let names = ["DELETE /users/8", "GET /users/7", "mail"];
    let of = |rows: &[Value], key: &str| -> BTreeSet<String> {
        rows.iter()
            .map(|row| row[key].as_str().unwrap().to_owned())
            .collect()
    };
    let expected = BTreeSet::from(names.map(str::to_owned));
    assert!(of(rows, "name").is_superset(&expected));
    assert_eq!(of(tests, "uniformPath"), of(rows, "name"));
    for test in tests {
        let keys: Vec<&String> = test.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            ["duration", "paths", "uniformPath"],
            "no result is known"
        );
        let name = test["uniformPath"].as_str().unwrap();
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        assert_eq!(row["unfinished"], 0);
        let mean = row["seconds"].as_f64().unwrap() / row["runs"].as_f64().unwrap();
        assert!(
            (test["duration"].as_f64().unwrap() - mean).abs() < 1e-6,
            "{test}"
        );
        let mut found = BTreeMap::new();
        for folder in test["paths"].as_array().unwrap() {
            assert_eq!(folder["path"], "src");
            for file in folder["files"].as_array().unwrap() {
                let path = format!("/built/src/{}", file["fileName"].as_str().unwrap());
                found.insert(path, expanded(file["coveredLines"].as_str().unwrap()));
            }
        }
        let mut alone = built.command("report t.rkcov --format json --context");
        let alone = succeed(alone.arg(name));
        let alone = alone.replace(&*built.path().to_string_lossy(), "/built");
        let alone: Value = serde_json::from_str(&alone).unwrap();
        let files = alone["files"].as_array().unwrap().iter().map(|file| {
            let lines = file["lines"].as_array().unwrap().iter();
            let ran = lines.filter(|line| line["count"] != 0);
            let ran = ran.map(|line| line["line"].as_u64().unwrap());
            (file["path"].as_str().unwrap().to_owned(), ran.collect())
        });
        let files = files.filter(|(_, ran): &(_, BTreeSet<u64>)| !ran.is_empty());
        assert_eq!(found, files.collect(), "{name}");
    }
}

#[test]
fn what_does_not_fit_these_formats_is_refused() {
    let built = Built::new(
        &[("p.c", "int main(void) { return 0; }\n")],
        "cc -g p.c -o p",
        "",
    );
    for (words, why) in [
        ("--format teamscale", "add --by context"),
        (
            "--by context --format html",
            "is for --format text, json, lcov, teamscale and parquet",
        ),
        (
            "--format json --run-name a",
            "--run-name is for --format parquet",
        ),
        (
            "--by context --format parquet -o t.parquet",
            "the traces have no contexts",
        ),
    ] {
        let output = built
            .command(&format!("report t.rkcov {words}"))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains(why),
            "{words}: {said}"
        );
    }
    assert!(!built.path().join("t.parquet").exists());
}
