// SPDX-License-Identifier: MIT OR Apache-2.0
//! How large a trace of 10,000 tests of a program with 50,000 sites is, and how long questions to it take.

use crate::rows::{Rows, Spent};
use rkcov_report::contexts::Contexts;
use rkcov_report::coverage::{Coverage, Function, Hits, Run, SourceFile, StreamSet, StreamSummary};
use rkcov_report::sources::Filter;
use rkcov_report::trace::{
    BuildId, Context, ContextKind, Info, Mode, Module, Process, StreamInfo, Trace, Writer,
};
use rustix::time::{clock_gettime, ClockId};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;
use xtask::shell::Error;

const CONTEXTS: u64 = 10_000;
const SITES: u64 = 50_000;
/// Lines of a source.
const LINES: u64 = 500;
/// Lines of a function.
const FUNCTION: u32 = 20;
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
fn sites(random: &mut Random) -> Vec<u32> {
    let mut sites: Vec<u32> = (0..500).collect();
    for _ in 0..250 {
        let first = random.below(SITES - 20) as u32;
        sites.extend((first..first + 20).filter(|_| random.below(8) != 0));
    }
    sites.sort_unstable();
    sites.dedup();
    sites
}

/// Asks each question so often.
///
/// # Errors
/// The trace cannot be written or read.
pub(crate) fn ask(rounds: usize) -> Result<Rows, Error> {
    let mut random = Random(1);
    let tests: Vec<Vec<u32>> = (0..CONTEXTS).map(|_| sites(&mut random)).collect();
    let mut asked = Asked {
        rows: Rows::of_this_machine(),
        rounds,
    };
    let bytes = asked.once("the trace is written", || write(&tests))?;
    let size = Spent {
        kib: (bytes.len() as u64).div_ceil(1024),
        ..Spent::default()
    };
    asked.rows.push(0, "the trace", "", size);
    let trace = asked.once("it is read", || Trace::parse(&bytes))?;
    let coverage = coverage(&trace, &tests);
    drop(tests);
    let filter = Filter {
        all: true,
        ..Filter::default()
    };
    let contexts = asked.once("its lines are sorted by tests", || {
        Contexts::of(&coverage, &filter)
    })?;
    asked.times("`tests FILE:LINE`", || {
        contexts.ran("7.rs:40").map(|ran| ran.contexts.len())
    })?;
    asked.times("`tests FILE`", || {
        contexts.ran("7.rs").map(|ran| ran.contexts.len())
    })?;
    let changed = "/src/7.rs".as_ref();
    asked.times("`affected` of a function", || {
        let ran = contexts.ran_function_at(changed, &(41..=42));
        ran.map(|ran| ran.contexts.len()).ok_or("no function")
    })?;
    asked.times("`report --by context`", || {
        let mut text = Vec::new();
        contexts.text(&mut text).map(|()| text.len())
    })?;
    asked.times("`minimize`", || Ok::<_, Error>(contexts.minimize().len()))?;
    asked.times("`similar`", || Ok::<_, Error>(contexts.similar().len()))?;
    Ok(asked.rows)
}

/// What was asked.
struct Asked {
    rows: Rows,
    rounds: usize,
}

impl Asked {
    fn once<T, E>(&mut self, what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, Error>
    where
        Error: From<E>,
    {
        self.take(0, what, work)
    }

    fn times<T, E>(&mut self, what: &str, ask: impl Fn() -> Result<T, E>) -> Result<(), Error>
    where
        Error: From<E>,
    {
        for round in 0..self.rounds {
            black_box(self.take(round, what, &ask)?);
        }
        Ok(())
    }

    fn take<T, E>(
        &mut self,
        round: usize,
        what: &str,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, Error>
    where
        Error: From<E>,
    {
        let (begin, used) = (Instant::now(), processor());
        let done = work();
        let spent = Spent {
            user: processor() - used,
            wall: begin.elapsed().as_nanos() as u64,
            ..Spent::default()
        };
        self.rows.push(round, what, "", spent);
        Ok(done?)
    }
}

/// Nanoseconds that this thread has had a processor.
fn processor() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

fn word(site: u32) -> u64 {
    START + 1 + u64::from(site) * 16
}

fn write(tests: &[Vec<u32>]) -> std::io::Result<Vec<u8>> {
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
        writer.set(&stream, sites.iter().map(|site| word(*site)))?;
        writer.end_context(context, None)?;
    }
    writer.finish()
}

/// A coverage as if each site had a line.
fn coverage(trace: &Trace<'_>, tests: &[Vec<u32>]) -> Coverage {
    let mut ran: Vec<StreamSet> = vec![StreamSet::new(); SITES as usize];
    for (stream, sites) in tests.iter().enumerate() {
        for site in sites {
            ran[*site as usize].insert(stream);
        }
    }
    let mut files: BTreeMap<_, SourceFile> = BTreeMap::new();
    for (site, streams) in (0..).zip(ran) {
        let file = files.entry(format!("/src/{}.rs", site / LINES).into());
        let file: &mut SourceFile = file.or_default();
        let hits = Hits {
            count: streams.len() as u64,
            streams,
            maybe: StreamSet::new(),
        };
        let line = (site % LINES + 1) as u32;
        if line % FUNCTION == 1 {
            file.functions.push(Function {
                name: format!("p::f{site}").into(),
                lines: (line, line + FUNCTION - 1),
                hits: Hits::default(),
            });
        }
        if let Some(function) = file.functions.last_mut() {
            function.hits.streams.union(&hits.streams);
            function.hits.count += hits.count;
        }
        file.lines.insert(line, hits);
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
