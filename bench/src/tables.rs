// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables of the pages, made from the raw rows and nothing else.

use crate::benches::THREADS;
use crate::reports;
use crate::rows::{Rows, Spent};
use crate::sections;
use std::fmt::Write;

/// Which figure of a run is meant.
pub(crate) type Figure = fn(&Spent) -> u64;

pub(crate) fn user(spent: &Spent) -> u64 {
    spent.user
}

pub(crate) fn wall(spent: &Spent) -> u64 {
    spent.wall
}

/// All processor time.
fn work(spent: &Spent) -> u64 {
    spent.user + spent.system
}

fn kib(spent: &Spent) -> u64 {
    spent.kib
}

const COMPILERS: [&str; 3] = ["gcc", "clang", "rustc"];

/// The ways to run a program, and what they are called.
const WAYS: [(&str, &str); 5] = [
    ("idle", "idle"),
    ("run", "`rkcov run`"),
    ("trace", "`--mode trace`"),
    ("peer", "peer"),
    ("atomic", "peer, atomic"),
];

/// What is asked of `rkcov run`: the project's targets.
const TARGETS: [(&str, &str, f64); 11] = [
    ("zlib", "gcc", 1.15),
    ("cJSON", "gcc", 1.15),
    ("bzip2", "gcc", 1.15),
    ("SQLite", "gcc", 1.40),
    ("Lua", "gcc", 1.60),
    ("zlib", "clang", 1.22),
    ("cJSON", "clang", 1.15),
    ("miniz_oxide", "rustc", 1.30),
    ("serde_json", "rustc", 1.15),
    ("pulldown-cmark", "rustc", 1.35),
    ("brotli", "rustc", 1.30),
];

/// A median, and quartiles, of a ratio.
fn ratio(found: Option<[f64; 3]>) -> String {
    match found {
        Some([low, median, high]) => format!("**{median:.2}** ({low:.2}-{high:.2})"),
        None => String::new(),
    }
}

fn row(text: &mut String, cells: &[String]) {
    text.push('|');
    for cell in cells {
        // Writing to a string does not fail.
        let _ = write!(text, " {cell} |");
    }
    text.push('\n');
}

fn head(cells: &[&str]) -> String {
    let mut text = String::new();
    row(
        &mut text,
        &cells.iter().map(ToString::to_string).collect::<Vec<_>>(),
    );
    row(&mut text, &vec!["---".to_owned(); cells.len()]);
    text
}

fn foot(text: &mut String, rows: &Rows) {
    let _ = writeln!(
        text,
        "\nMedians (and quartiles) of {} rounds. {}.",
        rows.rounds(),
        rows.machine
    );
}

/// Programs under these ways, to plain ones.
fn to_plain(rows: &Rows, ways: &[&str], figure: Figure, targets: bool) -> String {
    let names = |way: &&str| WAYS.iter().find(|(w, _)| w == way).map_or("", |(_, n)| n);
    let mut heads = vec!["program", "compiler"];
    if targets {
        heads.push("target");
    }
    heads.extend(ways.iter().map(names));
    let mut text = head(&heads);
    for program in rows.programs() {
        for compiler in COMPILERS {
            let of = |way: &&str| {
                let (of, to) = (format!("{compiler}-{way}"), format!("{compiler}-plain"));
                ratio(rows.ratio(program, &of, &to, figure))
            };
            let ratios: Vec<String> = ways.iter().map(of).collect();
            if ratios.iter().all(String::is_empty) {
                continue;
            }
            let mut cells = vec![program.to_owned(), compiler.to_owned()];
            if targets {
                let target = TARGETS.iter().find(|t| (t.0, t.1) == (program, compiler));
                cells.push(target.map_or(String::new(), |(_, _, target)| format!("{target:.2}")));
            }
            cells.extend(ratios);
            row(&mut text, &cells);
        }
    }
    text
}

/// Without the program that does nothing, which has a table of its own.
fn real(rows: &str) -> String {
    let lines = rows.lines().filter(|line| !line.starts_with("| empty"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// User time of whole programs.
pub(crate) fn programs(rows: &Rows) -> String {
    let ways = ["idle", "run", "peer", "atomic"];
    let mut text = real(&to_plain(rows, &ways, user, true));
    foot(&mut text, rows);
    text
}

/// The same from start to end.
pub(crate) fn programs_wall(rows: &Rows) -> String {
    real(&to_plain(
        rows,
        &["idle", "run", "peer", "atomic"],
        wall,
        false,
    ))
}

/// What a start and an end cost, in milliseconds.
pub(crate) fn start(rows: &Rows) -> String {
    let mut text = head(&[
        "a program that does nothing",
        "user time, ms",
        "start to end, ms",
    ]);
    let ways = [("plain", "plain")].iter().chain(&WAYS);
    for (way, name) in ways {
        let of = |figure: Figure| {
            let found = rows.quartiles("empty", &format!("gcc-{way}"), figure)?;
            Some(format!("{:.1}", found[1] / 1e6))
        };
        if let (Some(user), Some(wall)) = (of(user), of(wall)) {
            row(&mut text, &[(*name).to_owned(), user, wall]);
        }
    }
    text
}

/// Instructions.
pub(crate) fn instructions(rows: &Rows) -> String {
    let mut text = head(&[
        "program",
        "compiler",
        "plain, millions",
        "idle",
        "`rkcov run`",
        "peer",
        "peer, atomic",
    ]);
    for program in rows.programs() {
        for compiler in COMPILERS {
            let count = |way: &str| {
                let found = rows.quartiles(program, &format!("{compiler}-{way}"), user);
                found.map(|[_, count, _]| count)
            };
            let Some(plain) = count("plain") else {
                continue;
            };
            let mut cells = vec![program.to_owned(), compiler.to_owned()];
            cells.push(format!("{:.1}", plain / 1e6));
            for way in ["idle", "run", "peer", "atomic"] {
                let cell = count(way).map(|count| format!("{:.3}", count / plain));
                cells.push(cell.unwrap_or_default());
            }
            row(&mut text, &cells);
        }
    }
    real(&text)
}

/// Trace mode.
pub(crate) fn trace(rows: &Rows) -> String {
    let by_user = to_plain(rows, &["trace"], user, false);
    let by_wall = to_plain(rows, &["trace"], wall, false);
    let mut text = head(&["program", "compiler", "user time", "start to end"]);
    for (user, wall) in by_user.lines().zip(by_wall.lines()).skip(2) {
        let wall = wall.rsplit("| ").next().unwrap_or_default();
        let _ = writeln!(text, "{user} {wall}");
    }
    let mut text = real(&text);
    foot(&mut text, rows);
    text
}

/// What stands in the threads' tables: name, compiler and way.
const THREADED: [(&str, &str); 14] = [
    ("gcc: idle", "gcc-idle"),
    ("gcc: `rkcov run`", "gcc-run"),
    ("gcov", "gcc-peer"),
    ("gcov, atomic", "gcc-atomic"),
    ("clang: idle", "clang-idle"),
    ("clang: `rkcov run`", "clang-run"),
    ("clang's source coverage", "clang-peer"),
    ("clang's source coverage, atomic", "clang-atomic"),
    ("rustc: idle", "rustc-idle"),
    ("rustc: `rkcov run`", "rustc-run"),
    ("`-Cinstrument-coverage`", "rustc-peer"),
    ("`-Cinstrument-coverage`, atomic", "rustc-atomic"),
    ("gcc: plain", "gcc-plain"),
    ("rustc: plain", "rustc-plain"),
];

fn threads_head(first: &str) -> String {
    let names = THREADS.map(|(threads, _)| threads.to_string());
    let mut heads = vec![first];
    heads.extend(names.iter().map(String::as_str));
    head(&heads)
}

/// The time of threads to plain, with as many threads.
pub(crate) fn threads(rows: &Rows) -> String {
    threads_to_plain(rows, user, "user time to plain; threads:", true)
}

/// The same, from start to end.
pub(crate) fn threads_wall(rows: &Rows) -> String {
    threads_to_plain(rows, wall, "start to end, to plain; threads:", false)
}

fn threads_to_plain(rows: &Rows, figure: Figure, first: &str, said: bool) -> String {
    let mut text = threads_head(first);
    for (name, variant) in &THREADED[..12] {
        let compiler = variant.split('-').next().unwrap_or_default();
        let plain = format!("{compiler}-plain");
        let mut cells = vec![(*name).to_owned()];
        let of = |threads: &(u32, u32)| rows.ratio(&threads.0.to_string(), variant, &plain, figure);
        cells.extend(THREADS.iter().map(|threads| ratio(of(threads))));
        row(&mut text, &cells);
    }
    if said {
        foot(&mut text, rows);
    }
    text
}

/// The time of threads over that of one thread.
pub(crate) fn threads_scale(rows: &Rows) -> String {
    let mut text = threads_head("user time over one thread's; threads:");
    for (name, variant) in THREADED {
        let mut cells = vec![name.to_owned()];
        let median = |threads: u32| Some(rows.quartiles(&threads.to_string(), variant, user)?[1]);
        for (threads, _) in THREADS {
            let cell = median(threads).zip(median(1)).map(|(of, to)| of / to);
            cells.push(cell.map_or(String::new(), |cell| format!("{cell:.2}")));
        }
        row(&mut text, &cells);
    }
    text
}

/// The memory of threads.
pub(crate) fn threads_memory(rows: &Rows) -> String {
    let mut text = threads_head("MiB of the largest process at its peak; threads:");
    for (name, variant) in THREADED {
        let mut cells = vec![name.to_owned()];
        for (threads, _) in THREADS {
            let found = rows.quartiles(&threads.to_string(), variant, kib);
            let cell = found.map(|[_, median, _]| format!("{:.1}", median / 1024.0));
            cells.push(cell.unwrap_or_default());
        }
        row(&mut text, &cells);
    }
    text
}

/// Compiles of SQLite.
pub(crate) fn compile(rows: &Rows) -> String {
    let mut text = head(&[
        "SQLite",
        "compile",
        "`.text`",
        "`.eh_frame`",
        "both and `.rodata`",
    ]);
    for (name, of, to) in [
        ("gcc with line tables", "gcc-lines", "gcc-plain"),
        ("`rkcov cc --calls gcc`", "gcc-calls", "gcc-plain"),
        ("`rkcov cc gcc`", "gcc-run", "gcc-plain"),
        ("gcov", "gcc-peer", "gcc-plain"),
        ("clang with line tables", "clang-lines", "clang-plain"),
        ("`rkcov cc --calls clang`", "clang-calls", "clang-plain"),
        ("`rkcov cc clang`", "clang-run", "clang-plain"),
        ("clang's source coverage", "clang-peer", "clang-plain"),
    ] {
        let mut cells = vec![name.to_owned(), ratio(rows.ratio("compile", of, to, user))];
        for what in [".text", ".eh_frame", "all"] {
            let cell = rows.ratio(what, of, to, user);
            cells.push(cell.map_or(String::new(), |[_, ratio, _]| format!("{ratio:.2}")));
        }
        row(&mut text, &cells);
    }
    foot(&mut text, rows);
    text
}

/// Sections: nanoseconds.
pub(crate) fn sections(rows: &Rows) -> String {
    let mut text = head(&["", "rkcov, ns", "C, ns", "rkcov to C"]);
    let mut line = |program: String, name: String, to_ns: f64| {
        let of = |variant| {
            let [low, median, high] = rows
                .quartiles(&program, variant, user)?
                .map(|figure| figure / to_ns);
            Some(format!("**{median:.0}** ({low:.0}-{high:.0})"))
        };
        let to_c = ratio(rows.ratio(&program, "rkcov", "c", user));
        if let (Some(rkcov), Some(c)) = (of("rkcov"), of("c")) {
            row(&mut text, &[name, rkcov, c, to_c]);
        }
    };
    for handles in sections::HANDLES {
        let name = format!("start and stop, {handles} handles, 1 thread");
        line(format!("handles-{handles}"), name, 1000.0);
    }
    for threads in sections::THREADS {
        let name = format!("start and stop, 1,024 handles, {threads} threads");
        line(format!("threads-{threads}"), name, 1000.0);
    }
    for handles in sections::REGISTERED {
        let name = format!("256 handles enabled and disabled, {handles} others registered");
        line(format!("enable-{handles}"), name, 1.0);
    }
    foot(&mut text, rows);
    text
}

/// Callbacks.
pub(crate) fn callbacks(rows: &Rows) -> String {
    let mut text = head(&[
        "program",
        "compiler",
        "off: rkcov to C",
        "on: rkcov to C",
        "off: to plain",
        "on: to plain",
    ]);
    for program in rows.programs() {
        for compiler in COMPILERS {
            let of = |of: &str, to: &str| {
                let (of, to) = (format!("{compiler}-{of}"), format!("{compiler}-{to}"));
                ratio(rows.ratio(program, &of, &to, user))
            };
            let ratios = [
                of("rkcov-off", "c-off"),
                of("rkcov-on", "c-on"),
                of("rkcov-off", "plain-off"),
                of("rkcov-on", "plain-off"),
            ];
            if ratios.iter().any(|ratio| !ratio.is_empty()) {
                let first = [program.to_owned(), compiler.to_owned()];
                row(&mut text, &[&first[..], &ratios].concat());
            }
        }
    }
    foot(&mut text, rows);
    text
}

/// What the time of tests is compared with, and its goal.
const TO_RKCOV: (&str, &str) = ("per-test", "rkcov");

/// Tests of crates: the time of the whole command.
pub(crate) fn per_test(rows: &Rows) -> String {
    let mut text = head(&[
        "crate",
        "time",
        "`cargo test`, s",
        "`cargo rkcov test` to it",
        "`--per-test` to it",
        "each test alone to it",
        "`--per-test` to `cargo rkcov test` (goal 1.30)",
    ]);
    let times: [(&str, Figure); 2] = [("processor", work), ("start to end", wall)];
    for program in rows.programs() {
        for (name, figure) in times {
            let Some([_, plain, _]) = rows.quartiles(program, "plain", figure) else {
                continue;
            };
            let mut cells = vec![program.to_owned(), name.to_owned()];
            cells.push(format!("{:.2}", plain / 1e9));
            for way in ["rkcov", "per-test", "alone"] {
                cells.push(ratio(rows.ratio(program, way, "plain", figure)));
            }
            let (of, to) = TO_RKCOV;
            cells.push(ratio(rows.ratio(program, of, to, figure)));
            row(&mut text, &cells);
        }
    }
    foot(&mut text, rows);
    text
}

/// Tests of crates: what is left, and memory.
pub(crate) fn per_test_sizes(rows: &Rows) -> String {
    let mut text = head(&[
        "crate",
        "tests",
        "trace of `--per-test`, KiB",
        "trace without it, KiB",
        "profiles of each test alone, KiB",
        "collector at its peak, MiB",
    ]);
    for program in rows.programs() {
        let of = |variant: &str, figure: Figure| Some(rows.quartiles(program, variant, figure)?[1]);
        let mut cells = vec![program.to_owned()];
        let tests = of("tests", user);
        cells.push(tests.map_or(String::new(), |tests| format!("{tests}")));
        for left in ["per-test-left", "rkcov-left", "alone-left"] {
            let size = of(left, kib);
            cells.push(size.map_or(String::new(), |size| format!("{size}")));
        }
        let memory = of("collector", kib).map(|kib| format!("{:.1}", kib / 1024.0));
        cells.push(memory.unwrap_or_default());
        row(&mut text, &cells);
    }
    text
}

/// Questions to a trace.
pub(crate) fn questions(rows: &Rows) -> String {
    let mut text = head(&["", "processor time, ms", "start to end, ms", "size, MB"]);
    for program in rows.programs() {
        let of = |figure: Figure| rows.quartiles(program, "", figure);
        let ms = |found: Option<[f64; 3]>| {
            let found = found.map(|figures| figures.map(|figure| figure / 1e6));
            let shown =
                found.map(|[low, median, high]| format!("**{median:.1}** ({low:.1}-{high:.1})"));
            shown.unwrap_or_default()
        };
        let size = of(kib).filter(|size| size[1] > 0.0);
        let size = size.map(|[_, kib, _]| format!("{:.1}", kib * 1024.0 / 1e6));
        let cells = [
            program.to_owned(),
            ms(of(user)),
            ms(of(wall)),
            size.unwrap_or_default(),
        ];
        row(&mut text, &cells);
    }
    foot(&mut text, rows);
    text
}

/// Looking addresses up.
pub(crate) fn addresses(rows: &Rows) -> String {
    let of = [
        (reports::ALL, "all sites"),
        (reports::SOME, "a tenth of them"),
        (reports::LARGE, "ceph-osd"),
    ];
    let mut text = spent("addresses", "by", rows, &of);
    foot(&mut text, rows);
    text
}

/// Whole reports.
pub(crate) fn reports(rows: &Rows) -> String {
    let of = [
        (reports::KERNEL[0], "the kernel"),
        (reports::KERNEL[1], "the kernel, again"),
        (reports::GENERATED[0], "1,000,000 sites"),
        (reports::GENERATED[1], "1,000,000 sites, again"),
    ];
    spent("of", "format", rows, &of)
}

/// What each variant of these programs took.
fn spent(program: &str, variant: &str, rows: &Rows, of: &[(&str, &str)]) -> String {
    let mut text = head(&[
        program,
        variant,
        "processor time, s",
        "start to end, s",
        "MiB at its peak",
    ]);
    for (program, name) in of {
        for variant in rows.variants(program) {
            let figures = |figure: Figure, unit: f64| {
                let found = rows.quartiles(program, variant, figure);
                found.map(|figures| figures.map(|figure| figure / unit))
            };
            let seconds = |figure| match figures(figure, 1e9) {
                Some([low, median, high]) => format!("**{median:.2}** ({low:.2}-{high:.2})"),
                None => String::new(),
            };
            let memory = figures(kib, 1024.0).map_or(String::new(), |mib| format!("{:.0}", mib[1]));
            let cells = [
                (*name).to_owned(),
                variant.to_owned(),
                seconds(work),
                seconds(wall),
                memory,
            ];
            row(&mut text, &cells);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_in_seconds_and_mebibytes() {
        let mut rows = Rows::default();
        let spent = Spent::parse("1500000000 500000000 1250000000 2048").unwrap();
        rows.push(0, reports::KERNEL[0], "json", spent);
        assert!(
            reports(&rows).ends_with(
                "| the kernel | json | **2.00** (2.00-2.00) | **1.25** (1.25-1.25) | 2 |\n"
            ),
            "{}",
            reports(&rows)
        );
    }

    #[test]
    fn a_table_has_a_row_for_what_was_measured() {
        let mut rows = Rows::default();
        rows.machine = "A machine".into();
        for (variant, time) in [("gcc-plain", 10), ("gcc-run", 15), ("gcc-peer", 25)] {
            rows.push(0, "zlib", variant, Spent::count(time));
            rows.push(0, "empty", variant, Spent::count(time));
        }
        assert_eq!(
            programs(&rows),
            "| program | compiler | target | idle | `rkcov run` | peer | peer, atomic |\n\
             | --- | --- | --- | --- | --- | --- | --- |\n\
             | zlib | gcc | 1.15 |  | **1.50** (1.50-1.50) | **2.50** (2.50-2.50) |  |\n\
             \n\
             Medians (and quartiles) of 1 rounds. A machine.\n"
        );
    }

    #[test]
    fn what_is_not_measured_is_left_empty() {
        let mut rows = Rows::default();
        rows.push(0, "1", "gcc-plain", Spent::count(10));
        rows.push(0, "1", "gcc-run", Spent::count(11));
        let text = threads(&rows);
        assert!(
            text.contains("| gcc: `rkcov run` | **1.10** (1.10-1.10) |  |  |  |  |\n"),
            "{text}"
        );
    }
}
