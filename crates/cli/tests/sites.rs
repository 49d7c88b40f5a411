// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a report says of a program is the same whether its callbacks are called, stand behind checks, or
//! are stores. The programs need not run: any set of sites may have been recorded.

#[path = "here/mod.rs"]
mod here;

use object::{Architecture, Object, ObjectSection, ObjectSymbol};
use rkcov_abi::sites::{self, arm64, Site};
use rkcov_report::coverage::{Coverage, Named, Selection, View};
use rkcov_report::image::Search;
use rkcov_report::render::{self, Detail, PcOptions, TextOptions};
use rkcov_report::sources::Filter;
use rkcov_report::trace::{BuildId, Info, Mode, Module, Process, StreamInfo, Trace, Writer};
use rkcov_rewrite::assembly::{self, Branches, Form, Machine};
use rkcov_rewrite::object as objects;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the program lies in memory.
const BIAS: u64 = 0x5555_5555_4000;

const CALLBACKS: [&str; 4] = [
    "__sanitizer_cov_trace_pc",
    "__sanitizer_cov_trace_pc_guard",
    "__sanitizer_cov_trace_pc_store",
    "__rkcov_hit",
];

/// What is told of guards: here nobody has to know them.
const INITS: [&str; 2] = [
    "-Wl,--defsym=__sanitizer_cov_trace_pc_guard_init=__rkcov_hit",
    "-Wl,--defsym=__sanitizer_cov_trace_pc_store_init=__rkcov_hit",
];

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

/// A folder with the callbacks' object, in which programs are built in two ways.
struct Folder(tempfile::TempDir);

impl Folder {
    /// With a compiler of C for the callbacks.
    fn new(compiler: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let source = folder.path("callbacks.c");
        let callbacks = CALLBACKS.map(|name| format!("void {name}(void) {{}}\n"));
        fs::write(&source, callbacks.concat()).unwrap();
        folder.run(compiler, &["-c", "callbacks.c"]);
        for way in ["called", "other"] {
            fs::create_dir(folder.path(way)).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, program: &str, args: &[&str]) {
        succeed(Command::new(program).args(args).current_dir(self.0.path()));
    }

    /// A source of the tests that hold reports against gcov.
    fn source(&self, name: &str) {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth");
        fs::copy(original.join(name), self.path(name)).unwrap();
    }

    /// Links a program in its folder.
    fn link(&self, compiler: &str, way: &str, rest: &[&str]) -> Program {
        let program = format!("{way}/program");
        let args = ["callbacks.o", "-Wl,--build-id", "-o", &program];
        self.run(compiler, &[rest, &args].concat());
        Program::read(self.path(&program))
    }
}

/// The return addresses of direct calls, and whom they call.
fn calls(code: &[u8], start: u64) -> Vec<(u64, u64)> {
    let calls = code.windows(5).enumerate().filter(|(_, c)| c[0] == 0xe8);
    let calls = calls.map(|(at, call)| {
        let target = i32::from_le_bytes(call[1..].try_into().unwrap());
        let pc = start + at as u64 + 5;
        (pc, pc.wrapping_add_signed(target.into()))
    });
    calls.collect()
}

/// The same of arm64 code.
fn arm64_calls(code: &[u8], start: u64) -> Vec<(u64, u64)> {
    let words = code.as_chunks().0.iter().map(|w| u32::from_le_bytes(*w));
    let calls = (start..).step_by(4).zip(words);
    let calls = calls.filter(|(_, word)| word >> 26 == 0b10_0101);
    let calls = calls.map(|(at, word)| {
        let distance = i64::from((word << 6).cast_signed() >> 6) * 4;
        (at + 4, at.wrapping_add_signed(distance))
    });
    calls.collect()
}

/// A linked program and its sites.
struct Program {
    path: PathBuf,
    build_id: BuildId,
    text: Range<u64>,
    /// The PCs of its calls, checks and stores, and the guards of the stores.
    sites: BTreeMap<u64, Option<u64>>,
    /// How many of these are calls.
    calls: usize,
}

impl Program {
    fn read(path: PathBuf) -> Self {
        let bytes = fs::read(&path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let text = file.section_by_name(".text").unwrap();
        let (code, start) = (text.data().unwrap(), text.address());
        let range = |name| {
            let section = file.section_by_name(name);
            section.map_or(0..0, |s| s.address()..s.address() + s.size())
        };
        let callbacks: Vec<u64> = file
            .symbols()
            .filter(|symbol| CALLBACKS[..3].contains(&symbol.name().unwrap_or_default()))
            .map(|symbol| symbol.address())
            .collect();
        let arm64 = file.architecture() == Architecture::Aarch64;
        let called = if arm64 { arm64_calls } else { calls }(code, start);
        let mut sites: BTreeMap<u64, Option<u64>> = called
            .into_iter()
            .filter(|(_, target)| callbacks.contains(target))
            .map(|(pc, _)| (pc, None))
            .collect();
        let calls = sites.len();
        let (checked, guards) = (range(sites::CHECKED), range(sites::GUARDS));
        for at in (0..code.len()).step_by(4).filter(|_| arm64) {
            let check = arm64::Check::read(&code[at..], start + at as u64);
            if let Some(check) = check.filter(|check| checked.contains(&check.byte)) {
                sites.insert(check.pc(), None);
            }
        }
        for site in sites::find(code, start).filter(|_| !arm64) {
            match site {
                Site::Check(check) if checked.contains(&check.byte) => {
                    sites.insert(check.pc(), None);
                }
                Site::Store(store) if guards.contains(&store.guard) => {
                    sites.insert(store.pc(), Some(store.guard));
                }
                Site::Check(_) | Site::Store(_) => {}
            }
        }
        Self {
            build_id: BuildId(file.build_id().unwrap().unwrap().to_vec()),
            text: start..start + code.len() as u64,
            path,
            sites,
            calls,
        }
    }

    /// A trace of two threads that says that the sites with these numbers ran.
    fn trace(&self, ran: [&dyn Fn(usize) -> bool; 2]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &Info::new(Mode::Unique)).unwrap();
        let process = Process::default();
        let process = writer.process(&process).unwrap();
        let text = self.text.start + BIAS..self.text.end + BIAS;
        let module = Module {
            process: Some(process),
            path: self.path.clone(),
            build_id: self.build_id.clone(),
            bias: BIAS,
            range: text.clone(),
            text: vec![text],
        };
        writer.module(&module).unwrap();
        for (thread, ran) in (1..).zip(ran) {
            let sites = self.sites.iter().enumerate();
            let sites = sites.filter(|(number, _)| ran(*number));
            let records: Vec<u64> = sites
                .map(|(_, (pc, guard))| guard.unwrap_or(*pc) + BIAS)
                .collect();
            let mut info = StreamInfo::new(process);
            info.tid = thread;
            info.count = records.len() as u64;
            info.finished = true;
            writer.stream(&info, records).unwrap();
        }
        writer.finish().unwrap()
    }

    /// All that reports say, but for the program's own folder.
    fn reports(&self, ran: [&dyn Fn(usize) -> bool; 2]) -> String {
        let trace = self.trace(ran);
        let trace = Trace::parse(&trace).unwrap();
        let search = Search {
            debug_dirs: Vec::new(),
            ..Search::default()
        };
        let named = Named {
            name: "trace",
            trace: &trace,
        };
        let coverage = Coverage::new(&[named], &search).unwrap();
        for stream in &coverage.streams {
            assert_eq!((stream.lost.nowhere, stream.lost.ambiguous), (0, 0));
        }
        let filter = Filter::default();
        let all = Selection::threads(&coverage, &[], false).unwrap();
        let view = View::new(&coverage, all, &filter);
        let threads = view.by_thread(&filter);
        let mut to = Vec::new();
        render::text(&view, &threads, &TextOptions::default(), &mut to).unwrap();
        render::lcov(&view, Detail::default(), &mut to).unwrap();
        render::json(&view, Detail::default(), &mut to).unwrap();
        let report = String::from_utf8(to).unwrap();
        assert!(report.contains("\nDA:"), "{report}");
        let report = report.replace("/other/", "/called/");
        // The same code has another build id.
        let report = report.replace(&self.build_id.to_string(), "ID");
        // When the trace began.
        let lines = report.lines().filter(|line| !line.contains("\"started\""));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// The PCs in a report of all.
    fn pcs(&self) -> String {
        let trace = self.trace([&|_| true, &|_| false]);
        let trace = Trace::parse(&trace).unwrap();
        let mut to = Vec::new();
        let options = PcOptions::default();
        render::pcs(&[&trace], &options, &Search::default(), &mut to).unwrap();
        String::from_utf8(to)
            .unwrap()
            .replace("/other/", "/called/")
    }
}

/// Both programs have the same sites in the same order, and reports on any of these are equal.
fn hold(called: &Program, other: &Program) {
    let what = other.path.display();
    assert!(called.calls > 0, "{what}");
    assert_eq!(called.sites.len(), called.calls, "{what}");
    assert_eq!(called.sites.len(), other.sites.len(), "{what}");
    for seed in [0, 3, 8_usize] {
        // The first of these has none, others more or less of them.
        let some = |number: usize, salt: usize| {
            let mixed = (number + 1)
                .wrapping_mul(2_654_435_761)
                .wrapping_add(salt * 7919)
                >> 7;
            mixed % 12 < seed
        };
        let ran: [&dyn Fn(usize) -> bool; 2] = [&|n| some(n, seed), &|n| some(n, seed + 99)];
        let [expected, found] = [called, other].map(|program| program.reports(ran));
        if expected != found {
            let lines = expected.lines().zip(found.lines());
            let difference = lines.into_iter().find(|(a, b)| a != b);
            panic!("{what}, seed {seed}: {difference:#?}");
        }
    }
}

/// The flags for each level: a callback that is a tail call records another function's PC if it is called.
fn levels() -> [[&'static str; 3]; 2] {
    ["-O0", "-O2"].map(|level| [level, "-g", "-fno-optimize-sibling-calls"])
}

fn checks(compiler: &str, source: &str) {
    checks_for(Machine::X86_64(Form::Checks), "gcc", compiler, source);
}

fn checks_for(machine: Machine, callbacks: &str, compiler: &str, source: &str) {
    let folder = Folder::new(callbacks);
    folder.source(source);
    for level in levels() {
        let coverage = [
            "-S",
            "-fsanitize-coverage=trace-pc",
            source,
            "-o",
            "called.s",
        ];
        folder.run(compiler, &[&level[..], &coverage].concat());
        let text = fs::read(folder.path("called.s")).unwrap();
        let mut output = fs::File::create(folder.path("other.s")).unwrap();
        let summary = assembly::rewrite(machine, &*text, &mut output).unwrap();
        output.flush().unwrap();
        assert_eq!(summary.left, 0, "{compiler} {level:?}");
        let called = folder.link(compiler, "called", &["called.s"]);
        let other = folder.link(compiler, "other", &["other.s"]);
        assert_eq!(other.calls, 0, "{compiler} {level:?}");
        hold(&called, &other);
    }
}

fn stores(compiler: &str, source: &str) {
    if !here::has(compiler) {
        return;
    }
    let folder = Folder::new("gcc");
    folder.source(source);
    for level in levels() {
        let guards = "-fsanitize-coverage=edge,trace-pc-guard";
        let coverage = ["-c", guards, source, "-o", "called.o"];
        folder.run(compiler, &[&level[..], &coverage].concat());
        let mut object = fs::read(folder.path("called.o")).unwrap();
        let counts = objects::rewrite(&mut object);
        assert!(
            counts.stores > counts.calls,
            "{compiler} {level:?}: {counts:?}"
        );
        fs::write(folder.path("other.o"), object).unwrap();
        hold_stores(&folder, compiler, ["called.o", "other.o"], counts.calls);
    }
}

fn hold_stores(folder: &Folder, compiler: &str, files: [&str; 2], calls: usize) {
    let [called, other] = [("called", files[0]), ("other", files[1])]
        .map(|(way, file)| folder.link(compiler, way, &[&[file][..], &INITS].concat()));
    assert!(other.calls <= calls);
    hold(&called, &other);
    // Guards are reported as the PCs that calls would have had.
    assert_eq!(called.pcs(), other.pcs());
}

#[test]
fn checks_of_c() {
    checks("gcc", "ways.c");
}

#[test]
fn checks_of_cxx() {
    checks("g++", "exceptions.cc");
}

/// For arm64, by gcc.
fn arm64_checks(compiler: &str, source: &str) {
    let machine = Machine::Arm64(Branches::Kept);
    let [callbacks, compiler] = ["gcc", compiler].map(|name| format!("aarch64-linux-gnu-{name}"));
    checks_for(machine, &callbacks, &compiler, source);
}

#[test]
fn checks_of_c_for_arm64() {
    arm64_checks("gcc", "ways.c");
}

#[test]
fn checks_of_cxx_for_arm64() {
    arm64_checks("g++", "exceptions.cc");
}

#[test]
fn stores_of_c() {
    stores("clang-22", "ways.c");
}

#[test]
fn stores_of_cxx() {
    stores("clang++-22", "exceptions.cc");
}

const RUST: &str = "
use std::collections::BTreeMap;

struct Loud(u32);

impl Drop for Loud {
    fn drop(&mut self) {
        if self.0 > 3 {
            println!(\"gone {}\", self.0);
        }
    }
}

fn words(text: &str) -> BTreeMap<&str, u32> {
    let mut counts = BTreeMap::new();
    for word in text.split_whitespace().filter(|word| word.len() > 1) {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn parse(text: &str) -> Result<u32, std::num::ParseIntError> {
    let value: u32 = text.trim().parse()?;
    match value {
        0 => Ok(7),
        1..=9 => Ok(value * 2),
        _ => Ok(value - 1),
    }
}

#[no_mangle]
pub extern \"C\" fn work(n: u32) -> u32 {
    let _loud = Loud(n);
    let counted = words(\"the cat and the dog and a bird\");
    let caught = std::panic::catch_unwind(|| counted[\"the\"] + parse(\"12\").unwrap());
    caught.unwrap_or(0) + parse(\"x\").unwrap_or(3)
}
";

#[test]
fn stores_of_rust() {
    let folder = Folder::new("gcc");
    fs::write(folder.path("work.rs"), RUST).unwrap();
    fs::write(
        folder.path("main.c"),
        "unsigned work(unsigned); int main(void) { return work(4); }",
    )
    .unwrap();
    folder.run("gcc", &["-c", "main.c"]);
    for level in ["-Copt-level=0", "-Copt-level=3"] {
        let sancov = ["level=3", "trace-pc-guard"]
            .map(|option| format!("-Cllvm-args=-sanitizer-coverage-{option}"));
        let [edges, guards] = &sancov;
        let args = ["--crate-type=staticlib", "-g", level, "-Ccodegen-units=1"];
        let passes = ["-Cpasses=sancov-module", edges, guards];
        let files = ["work.rs", "-o", "called.a"];
        folder.run("rustc", &[&args[..], &passes, &files].concat());
        let mut archive = fs::read(folder.path("called.a")).unwrap();
        assert!(objects::has_calls(&archive));
        let counts = objects::rewrite(&mut archive);
        assert!(counts.stores > 10 * counts.calls, "{level}: {counts:?}");
        fs::write(folder.path("other.a"), archive).unwrap();
        let [called, other] = ["called", "other"].map(|way| {
            let file = format!("{way}.a");
            folder.link(
                "gcc",
                way,
                &[&["main.o", &*file, "-Wl,--gc-sections"][..], &INITS].concat(),
            )
        });
        assert!(other.calls <= counts.calls, "{level}");
        hold(&called, &other);
        assert_eq!(called.pcs(), other.pcs());
    }
}
