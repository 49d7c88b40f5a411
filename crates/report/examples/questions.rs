// SPDX-License-Identifier: MIT OR Apache-2.0
//! How large a trace of 10,000 tests of a program with 50,000 sites is, and how long questions to it take:
//! `cargo run --release -p rkcov-report --example questions`.

use rkcov_report::contexts::Contexts;
use rkcov_report::coverage::{Coverage, Hits, Run, SourceFile, StreamSet, StreamSummary};
use rkcov_report::sources::Filter;
use rkcov_report::trace::{
    BuildId, Context, ContextKind, Info, Mode, Module, Process, StreamInfo, Trace, Writer,
};
use std::collections::BTreeMap;
use std::time::Instant;

const CONTEXTS: u64 = 10_000;
const SITES: u64 = 50_000;
/// Lines of a source.
const LINES: u64 = 500;
const START: u64 = 0x5555_0000_0000;

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// What a test runs: a tenth of the program in pieces, as functions are, some edges of which do not run,
/// and what all tests run.
fn sites(random: &mut Random) -> Vec<u64> {
    let mut sites: Vec<u64> = (0..500).collect();
    for _ in 0..250 {
        let first = random.below(SITES - 20);
        sites.extend((first..first + 20).filter(|_| random.below(8) != 0));
    }
    sites.sort_unstable();
    sites.dedup();
    sites
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut random = Random(1);
    let tests: Vec<Vec<u64>> = (0..CONTEXTS).map(|_| sites(&mut random)).collect();
    let all: usize = tests.iter().map(Vec::len).sum();

    let before = Instant::now();
    let mut writer = Writer::new(Vec::new(), &Info::new(Mode::Unique))?;
    let process = writer.process(&Process::default())?;
    writer.module(&Module {
        process: Some(process),
        path: "/p".into(),
        build_id: BuildId::default(),
        bias: START,
        range: START..START + SITES * 16,
        text: Vec::new(),
    })?;
    for (number, sites) in tests.iter().enumerate() {
        let context = Context::new(ContextKind::Test, format!("some::module::test_{number}"));
        let context = writer.context(&context)?;
        let stream = StreamInfo {
            context: Some(context),
            count: sites.len() as u64,
            ..StreamInfo::new(process)
        };
        writer.set(&stream, sites.iter().map(|site| START + 1 + site * 16))?;
        writer.end_context(context, None)?;
    }
    let bytes = writer.finish()?;
    println!(
        "trace: {:.1} MB for {all} places, written in {} ms",
        bytes.len() as f64 / 1e6,
        before.elapsed().as_millis()
    );
    let before = Instant::now();
    let trace = Trace::parse(&bytes)?;
    println!("read in {} ms", before.elapsed().as_millis());

    let coverage = coverage(&trace, &tests);
    let before = Instant::now();
    let filter = Filter {
        all: true,
        ..Filter::default()
    };
    let contexts = Contexts::of(&coverage, &filter)?;
    println!(
        "contexts of its lines in {} ms",
        before.elapsed().as_millis()
    );

    let timed = |what: &str, answer: &dyn Fn() -> usize| {
        let before = Instant::now();
        let answer = answer();
        println!(
            "{what}: {answer} in {:.1} ms",
            before.elapsed().as_secs_f64() * 1e3
        );
    };
    timed("tests FILE:LINE", &|| {
        contexts.ran("7.rs:40").map_or(0, |ran| ran.contexts.len())
    });
    timed("tests FILE", &|| {
        contexts.ran("7.rs").map_or(0, |ran| ran.contexts.len())
    });
    timed("--by context", &|| {
        let mut text = Vec::new();
        contexts.text(&mut text).map_or(0, |()| text.len())
    });
    timed("minimize", &|| contexts.minimize().len());
    timed("similar", &|| contexts.similar().len());
    Ok(())
}

/// A coverage as if each site had a line.
fn coverage(trace: &Trace<'_>, tests: &[Vec<u64>]) -> Coverage {
    let mut ran: Vec<StreamSet> = vec![StreamSet::new(); SITES as usize];
    for (stream, sites) in tests.iter().enumerate() {
        for site in sites {
            ran[*site as usize].insert(stream);
        }
    }
    let mut files: BTreeMap<_, SourceFile> = BTreeMap::new();
    for (site, streams) in (0..).zip(ran) {
        let file = files.entry(format!("/src/{}.rs", site / LINES).into());
        let hits = Hits {
            count: streams.len() as u64,
            streams,
            maybe: StreamSet::new(),
        };
        let line = (site % LINES + 1) as u32;
        file.or_default().lines.insert(line, hits);
    }
    let streams = trace.streams().iter().map(|stream| StreamSummary {
        run: 0,
        info: stream.info().clone(),
        process: Process::default(),
        records: stream.records(),
        unwritten: 0,
        count_lost: false,
        whole: true,
        pcs: stream.records(),
        lost: Default::default(),
    });
    Coverage {
        mode: Mode::Unique,
        runs: vec![Run {
            name: "generated".into(),
            info: trace.info().clone(),
            finished: true,
            losses: Vec::new(),
            processes: 1,
            contexts: trace.contexts().to_vec(),
        }],
        streams: streams.collect(),
        images: Vec::new(),
        files,
        excluded: Default::default(),
    }
}
