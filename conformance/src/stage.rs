// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a case is played: tells a host what happens, and checks what comes of it.
//!
//! A case's text is a script with some additions. `-> ANSWER` behind an operation says what it
//! answers, if not `ok`; a line that begins with `?` checks what can be seen. `t0 client f0` stands
//! for opening, initialising and mapping (as `m0`) with a buffer that is large enough. `t0 worker
//! t1` makes a task that does nothing but run sections: where a thread's own system calls would be
//! recorded too, one of the kernel's.

use std::collections::HashMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use rkcov_abi::{CmpType, Comparison, Errno};
use rkcov_model::host::Site;
use rkcov_model::{
    script, Act, Drops, File, Host, Map, Need, Op, Outcome, Step, Task, Traits, Trouble,
};

/// Why a case ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The host does not have what the case is about.
    Lacks(Need, String),
    /// The kcov did something else than it must.
    Failed(String),
    /// The host itself failed.
    Broken(String),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Lacks(need, why) => Self::Lacks(need, why),
            Trouble::Broken(why) => Self::Broken(why),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks(need, why) => write!(f, "{need}: {why}"),
            Self::Failed(what) => f.write_str(what),
            Self::Broken(why) => write!(f, "the host failed: {why}"),
        }
    }
}

/// What a case, and each of its steps, comes to.
pub type Checked<T = ()> = Result<T, Stop>;

/// A case under way.
pub struct Stage<'h> {
    host: &'h mut dyn Host,
    traits: Traits,
    maps: HashMap<(Task, Map), u64>,
    warnings: u64,
    told: Vec<Op>,
    short: Option<String>,
}

/// Words of a buffer that nothing but known code is recorded into. A whole page, since some kcovs
/// can map no others.
pub const WORDS: u64 = 512;
/// Words of a buffer into which a kernel also records the system calls around known code.
const ROOMY_WORDS: u64 = 1 << 17;

impl<'h> Stage<'h> {
    /// A stage with a new host.
    pub fn new(host: &'h mut dyn Host) -> Self {
        let traits = host.traits().clone();
        let warnings = host.warnings().unwrap_or(0);
        Self {
            host,
            traits,
            maps: HashMap::new(),
            warnings,
            told: Vec::new(),
            short: None,
        }
    }

    /// What kind of kcov this is.
    #[must_use]
    pub fn traits(&self) -> &Traits {
        &self.traits
    }

    /// Ends the case here unless the host has this.
    ///
    /// # Errors
    /// [`Stop::Lacks`].
    pub fn needs(&self, need: Need) -> Checked {
        match self.traits.lacks.get(&need) {
            Some(why) => Err(Stop::Lacks(need, why.clone())),
            None => Ok(()),
        }
    }

    /// Whether the host has this.
    #[must_use]
    pub fn has(&self, need: Need) -> bool {
        !self.traits.lacks.contains_key(&need)
    }

    /// Words of a buffer for local collection.
    #[must_use]
    pub fn words(&self) -> u64 {
        if self.traits.exact {
            WORDS
        } else {
            ROOMY_WORDS
        }
    }

    /// What was told so far.
    #[must_use]
    pub fn told(&self) -> &[Op] {
        &self.told
    }

    /// The same as a script.
    #[must_use]
    pub fn script(&self) -> String {
        script::print(&self.told)
    }

    /// What was played less often than it should be, for want of time.
    #[must_use]
    pub fn short(&self) -> Option<String> {
        self.short.clone()
    }

    /// Plays `rounds` rounds, or on a host that takes too long for that, as many as it can in the
    /// time that it has, and at least `least`.
    ///
    /// # Errors
    /// The first round's that did not come to its end.
    pub fn repeat(
        &mut self,
        rounds: u32,
        least: u32,
        mut round: impl FnMut(&mut Self, u32) -> Checked,
    ) -> Checked {
        let began = Instant::now();
        for n in 0..rounds {
            let late = |patience| began.elapsed() > patience;
            if n >= least && self.traits.patience.is_some_and(late) {
                self.short = Some(format!("{n} of {rounds} rounds"));
                break;
            }
            round(self, n)?;
        }
        Ok(())
    }

    /// Plays a piece of a case's text.
    ///
    /// # Errors
    /// The first line that was not answered as it says.
    ///
    /// # Panics
    /// If the text is wrong: a mistake in the case.
    pub fn tell(&mut self, text: &str) -> Checked {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if let Some(check) = line.strip_prefix('?') {
                self.check(check.trim())?;
            } else if let Some((task, file)) = line.split_once(" client ") {
                self.client(parsed(task), parsed(file))?;
            } else if let Some((task, worker)) = line.split_once(" worker ") {
                let how = if self.traits.exact {
                    "thread"
                } else {
                    "kthread"
                };
                self.tell(&format!("{task} {how} {worker}"))?;
            } else {
                let (op, expected) = line.split_once("->").unwrap_or((line, "ok"));
                let op = script::parse_op(op).unwrap_or_else(|e| panic!("{line}: {e}"));
                let outcome = self.apply(&op)?;
                let expected = expected.trim();
                if !answers(&outcome, expected) {
                    return Err(Stop::Failed(format!("`{op}`: {outcome}, not {expected}")));
                }
            }
        }
        Ok(())
    }

    /// Makes one operation happen.
    ///
    /// # Errors
    /// If the host could not.
    pub fn apply(&mut self, op: &Op) -> Checked<Outcome> {
        for need in op.needs() {
            self.needs(need)?;
        }
        self.told.push(op.clone());
        let outcome = self.host.apply(op)?;
        if let (Op::Act(task, Act::Map { map, len, .. }), Outcome::Done) = (op, &outcome) {
            self.maps.insert((*task, *map), len / 8);
        }
        Ok(outcome)
    }

    /// Whether an operation that is given as text was done.
    ///
    /// # Errors
    /// If the host could not.
    ///
    /// # Panics
    /// If the text is wrong.
    pub fn does(&mut self, text: &str) -> Checked<Outcome> {
        self.apply(&script::parse_op(text).unwrap_or_else(|e| panic!("{text}: {e}")))
    }

    fn client(&mut self, task: Task, file: File) -> Checked {
        let (words, map) = (self.words(), Map(file.0));
        let bytes = words * 8;
        self.tell(&format!(
            "{task} open {file}\n{task} init {file} {words}\n{task} map {file} {map} {bytes}"
        ))
    }

    /// All words at a mapping.
    ///
    /// # Errors
    /// If the host could not read them.
    pub fn read(&mut self, task: Task, map: Map, first: u64, count: u64) -> Checked<Vec<u64>> {
        let op = Op::Act(task, Act::Read { map, first, count });
        match self.host.apply(&op)? {
            Outcome::Words(words) => Ok(words),
            other => Err(Stop::Failed(format!("`{op}`: {other}"))),
        }
    }

    /// The count word and the words behind it, as far as the count says that they are records of
    /// so many words. A count that cannot be true is an error.
    fn records(&mut self, task: Task, map: Map, width: u64) -> Checked<Vec<u64>> {
        let count = self.read(task, map, 0, 1)?[0];
        // A child has its parent's maps; they have the same size under the same name.
        let known = self.maps.get(&(task, map)).copied();
        let words = known
            .or_else(|| {
                self.maps
                    .iter()
                    .find(|((_, m), _)| *m == map)
                    .map(|(_, w)| *w)
            })
            .ok_or_else(|| Stop::Broken(format!("{map} is not mapped")))?;
        if count > (words - 1) / width {
            let what = format!("{map}: a count of {count:#x} in a buffer of {words} words");
            return Err(Stop::Failed(what));
        }
        self.read(task, map, 1, count * width)
    }

    /// `T M recorded STEP...`: the trace is exactly what these steps record. `among`: it is that,
    /// when what unknown code recorded is left out. `T F dropped [full N] [stale N] [no-area N]`.
    /// `warnings N`. `T M count N`.
    fn check(&mut self, text: &str) -> Checked {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            // Where nobody counts warnings, none is what there must be.
            ["warnings", "0"] if !self.has(Need::Warnings) => Ok(()),
            ["warnings", n] => {
                let (now, n) = (self.host.warnings()?, number(n));
                let since = now - self.warnings;
                // A real kcov gives each warning once, and may have done so in another case.
                let good = since == n || (!self.traits.exact && since < n);
                expect(good, || format!("{since} warnings, not {n}"))
            }
            [task, map, "count", n] => {
                let count = self.read(parsed(task), parsed(map), 0, 1)?[0];
                let n = number(n);
                expect(count == n, || {
                    format!("{map}: a count of {count:#x}, not {n:#x}")
                })
            }
            [task, map, how @ ("recorded" | "among"), ..] => {
                let at = text.find(how).unwrap_or(0) + how.len();
                let steps = steps(&text[at..]);
                let among = how == "among" && !self.traits.exact;
                self.check_trace(parsed(task), parsed(map), &steps, among)
            }
            [task, file, "dropped", ref rest @ ..] => {
                let mut expected = Drops::default();
                for pair in rest.chunks(2) {
                    *match pair[0] {
                        "full" => &mut expected.full,
                        "stale" => &mut expected.stale,
                        "no-area" => &mut expected.no_area,
                        other => panic!("nothing is dropped for `{other}`"),
                    } = number(pair[1]);
                }
                let drops = self.host.drops(parsed(task), parsed(file))?;
                let shown =
                    |d: Drops| format!("{} full, {} stale, {} no area", d.full, d.stale, d.no_area);
                expect(drops == expected, || {
                    format!("{file}: dropped {}, not {}", shown(drops), shown(expected))
                })
            }
            _ => panic!("nothing can be checked with `{text}`"),
        }
    }

    fn check_trace(&mut self, task: Task, map: Map, steps: &[Step], among: bool) -> Checked {
        let expected = self.expected(steps);
        let width = expected.first().map_or(1, Vec::len) as u64;
        let words = self.records(task, map, width)?;
        let known = self.known();
        let traced = words.chunks(width as usize).filter(|record| {
            // The PC is the last word of either record.
            !among || record.last().is_some_and(|pc| known.contains_key(pc))
        });
        let traced: Vec<Vec<u64>> = traced.map(<[u64]>::to_vec).collect();
        expect(traced == expected, || {
            let named = |records: &[Vec<u64>]| {
                let named: Vec<String> = records.iter().map(|r| name(r, &known)).collect();
                format!("[{}]", named.join(" "))
            };
            let (traced, expected) = (named(&traced), named(&expected));
            format!("{map}: recorded {traced}, not {expected}")
        })
    }

    /// The records of these steps, sections and interrupts left out.
    fn expected(&self, steps: &[Step]) -> Vec<Vec<u64>> {
        let mut records = Vec::new();
        for step in steps {
            match step {
                Step::Pcs { first, count } => {
                    for marker in *first..first + count {
                        records.push(vec![self.host.pc(Site::Marker(marker))]);
                    }
                }
                Step::Compare {
                    log2,
                    constant,
                    arg1,
                    arg2,
                } => {
                    let (log2, constant) = (*log2, *constant);
                    let mask = u64::MAX >> (64 - (8 << log2));
                    let pc = self.host.pc(Site::Compare { log2, constant });
                    let kind = CmpType::new(log2.into(), constant);
                    let (arg1, arg2) = (arg1 & mask, arg2 & mask);
                    records.push(
                        Comparison {
                            kind,
                            arg1,
                            arg2,
                            pc,
                        }
                        .words()
                        .to_vec(),
                    );
                }
                Step::Switch { bits, value, cases } => {
                    let log2 = bits.trailing_zeros() - 3;
                    let kind = CmpType::new(log2, true);
                    let pc = self.host.pc(Site::Switch { bits: *bits });
                    for case in cases {
                        let (arg1, arg2) = (*case, *value);
                        records.push(
                            Comparison {
                                kind,
                                arg1,
                                arg2,
                                pc,
                            }
                            .words()
                            .to_vec(),
                        );
                    }
                }
                other => panic!("`{other}` records nothing"),
            }
        }
        records
    }

    /// The PCs of known code.
    fn known(&self) -> HashMap<u64, String> {
        let markers = (0..self.traits.markers.min(4096)).map(|n| (Site::Marker(n), n.to_string()));
        let compares = (0..4_u8).flat_map(|log2| {
            [false, true].map(|constant| {
                let site = Site::Compare { log2, constant };
                (site, format!("{site:?}"))
            })
        });
        let switches = [8, 16, 32, 64].map(|bits| (Site::Switch { bits }, format!("switch{bits}")));
        markers
            .chain(compares)
            .chain(switches)
            .map(|(site, name)| (self.host.pc(site), name))
            .collect()
    }

    /// Numbers of the markers in a trace of PCs, in their order; `None` for what is not known code.
    ///
    /// # Errors
    /// If the host could not read them, or the count cannot be true.
    pub fn markers(&mut self, task: Task, map: Map) -> Checked<Vec<Option<u32>>> {
        let known = self.known();
        let words = self.records(task, map, 1)?;
        let marker = |pc: &u64| known.get(pc).and_then(|name| name.parse().ok());
        Ok(words.iter().map(marker).collect())
    }

    /// The PC that a place in known code records.
    #[must_use]
    pub fn pc(&self, site: Site) -> u64 {
        self.host.pc(site)
    }

    /// What the kcov holds in memory.
    ///
    /// # Errors
    /// If the host cannot tell.
    pub fn memory(&mut self) -> Checked<u64> {
        self.needs(Need::Memory)?;
        Ok(self.host.memory()?)
    }

    /// Fails unless no more memory is held than before, but for what varies by itself. In a kernel
    /// the last that was given back may still be on its way.
    ///
    /// # Errors
    /// If there is more, or the host cannot tell.
    pub fn memory_is_back(&mut self, before: u64) -> Checked {
        const LOOKS: u32 = 100;
        const PAUSE: Duration = Duration::from_millis(20);
        let most = before + self.traits.memory_noise;
        let mut after = self.memory()?;
        for _ in 1..self.traits.patience.map_or(1, |_| LOOKS) {
            if after <= most {
                break;
            }
            thread::sleep(PAUSE);
            after = self.memory()?;
        }
        expect(after <= most, || {
            format!("{before} bytes were held at first, {after} after many rounds")
        })
    }

    /// Whether the allocation that was to fail did.
    ///
    /// # Errors
    /// If the host cannot tell.
    pub fn failed(&mut self) -> Checked<bool> {
        Ok(self.host.failed()?)
    }
}

/// Fails the case unless `good`.
///
/// # Errors
/// [`Stop::Failed`] with `what`.
pub fn expect(good: bool, what: impl FnOnce() -> String) -> Checked {
    if good {
        Ok(())
    } else {
        Err(Stop::Failed(what()))
    }
}

fn answers(outcome: &Outcome, expected: &str) -> bool {
    if let Some((one, other)) = expected.split_once(" or ") {
        return answers(outcome, one) || answers(outcome, other);
    }
    match outcome {
        Outcome::Done => expected == "ok",
        Outcome::Failed(raw) => match Errno::from_raw(*raw) {
            Some(errno) => errno.name() == expected,
            None => false,
        },
        Outcome::Value(value) => expected.strip_prefix("= ").map(number) == Some(*value),
        Outcome::Words(words) => match expected.strip_prefix('=') {
            Some(numbers) => numbers
                .split_whitespace()
                .map(number)
                .eq(words.iter().copied()),
            None => false,
        },
        Outcome::Absent => expected == "absent",
    }
}

fn number(word: &str) -> u64 {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse(),
    }
    .unwrap_or_else(|_| panic!("`{word}` is not a number"))
}

/// A name such as `t0`, of which the number is wanted.
fn parsed<T: From<u32>>(word: &str) -> T {
    let digits = word
        .trim()
        .trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let number: u32 = digits
        .parse()
        .unwrap_or_else(|_| panic!("`{word}` is not a name"));
    number.into()
}

fn steps(text: &str) -> Vec<Step> {
    match script::parse_op(&format!("t0 run {text}")) {
        Ok(Op::Act(_, Act::Run(steps))) => steps,
        other => panic!("`{text}`: {other:?}"),
    }
}

fn name(record: &[u64], known: &HashMap<u64, String>) -> String {
    let pc = record.last().copied().unwrap_or(0);
    let pc = known
        .get(&pc)
        .map_or_else(|| format!("{pc:#x}"), Clone::clone);
    match record {
        [kind, arg1, arg2, _] => format!("({kind} {arg1:#x} {arg2:#x} {pc})"),
        _ => pc,
    }
}
