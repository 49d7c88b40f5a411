// SPDX-License-Identifier: MIT OR Apache-2.0
//! Histories as text: one operation a line, `#` before a remark.
//!
//! ```text
//! t0 open f0
//! t0 init f0 64
//! t0 map f0 m0 512
//! t0 remote f0 pc area 16 common common:7 handles [ usb:1 ]
//! t0 thread t1
//! t1 run start common:7 pcs 0 3 stop
//! t0 read m0 0 4
//! t0 disable f0
//! ```
//!
//! docs/conformance-scripts.md describes every line. Printing and parsing are inverse.

use std::fmt;

use rkcov_abi::{Handle, Subsystem};

use crate::op::{Act, Call, Context, File, Map, Op, RemoteCall, Spawn, Step, Task};

/// What is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for Error {}

/// The operations of a script.
///
/// # Errors
/// The first line that is not an operation.
pub fn parse(text: &str) -> Result<Vec<Op>, Error> {
    let mut ops = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        if line.trim().is_empty() {
            continue;
        }
        ops.push(parse_op(line).map_err(|what| Error { line: n + 1, what })?);
    }
    Ok(ops)
}

/// The operation that one line says.
///
/// # Errors
/// What is wrong with it.
pub fn parse_op(line: &str) -> Result<Op, String> {
    let mut words = Words::new(line);
    let op = words.op()?;
    match words.next() {
        None => Ok(op),
        Some(extra) => Err(format!("`{extra}` stands behind the end")),
    }
}

/// The script of these operations.
#[must_use]
pub fn print(ops: &[Op]) -> String {
    ops.iter().map(|op| format!("{op}\n")).collect()
}

/// The words of a line, read from left to right.
struct Words<'a> {
    rest: std::iter::Peekable<std::vec::IntoIter<&'a str>>,
}

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        Self {
            rest: words.into_iter().peekable(),
        }
    }

    fn next(&mut self) -> Option<&'a str> {
        self.rest.next()
    }

    fn expect(&mut self, what: &str) -> Result<&'a str, String> {
        self.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// Takes the next word if it is `word`.
    fn take(&mut self, word: &str) -> bool {
        self.rest.next_if(|&w| w == word).is_some()
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        if self.take(word) {
            Ok(())
        } else {
            let found = self.next().unwrap_or("the end");
            Err(format!("`{word}` is missing before {found}"))
        }
    }

    fn number(&mut self) -> Result<u64, String> {
        let word = self.expect("a number")?;
        number(word).ok_or_else(|| format!("`{word}` is not a number"))
    }

    fn u32(&mut self) -> Result<u32, String> {
        let n = self.number()?;
        u32::try_from(n).map_err(|_| format!("{n} is more than 32 bits hold"))
    }

    /// The number at the end of the line, or 0 if there is none.
    fn argument(&mut self) -> Result<u64, String> {
        match self.rest.peek().copied() {
            None | Some(";" | "}") => Ok(0),
            Some(_) => self.number(),
        }
    }

    fn name(&mut self, letter: char, what: &str) -> Result<u32, String> {
        let word = self.expect(what)?;
        word.strip_prefix(letter)
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| format!("`{word}` is not {what} such as {letter}0"))
    }

    fn task(&mut self) -> Result<Task, String> {
        self.name('t', "a task").map(Task)
    }

    fn file(&mut self) -> Result<File, String> {
        self.name('f', "a file").map(File)
    }

    fn map(&mut self) -> Result<Map, String> {
        self.name('m', "a map").map(Map)
    }

    fn handle(&mut self) -> Result<u64, String> {
        let word = self.expect("a handle")?;
        handle(word).ok_or_else(|| format!("`{word}` is not a handle"))
    }

    fn mode(&mut self) -> Result<u64, String> {
        if self.take("pc") {
            Ok(0)
        } else if self.take("cmp") {
            Ok(1)
        } else {
            self.number()
        }
    }

    fn op(&mut self) -> Result<Op, String> {
        let task = self.task()?;
        let verb = self.expect("what to do")?;
        let spawn = |how| {
            move |child| Op::Spawn {
                by: task,
                how,
                child,
            }
        };
        Ok(match verb {
            "thread" => self.task().map(spawn(Spawn::Thread))?,
            "fork" => self.task().map(spawn(Spawn::Fork))?,
            "kthread" => self.task().map(spawn(Spawn::Kernel))?,
            "end" => Op::End(task),
            "kill" => Op::Kill(task),
            "exec" => Op::Exec(task),
            "join" => Op::Join(task),
            "fail" => Op::Fail {
                task,
                nth: self.u32()?,
            },
            "begin" => {
                let rounds = self.u32()?;
                self.literal("{")?;
                let mut acts = vec![self.act()?];
                while self.take(";") {
                    acts.push(self.act()?);
                }
                self.literal("}")?;
                Op::Begin { task, rounds, acts }
            }
            verb => Op::Act(task, self.act_of(verb)?),
        })
    }

    fn act(&mut self) -> Result<Act, String> {
        let verb = self.expect("what to do")?;
        self.act_of(verb)
    }

    fn act_of(&mut self, verb: &str) -> Result<Act, String> {
        Ok(match verb {
            "as32" => {
                let verb = self.expect("a call")?;
                let (file, call) = self.call(verb)?;
                Act::Ioctl32(file, call)
            }
            "open" => Act::Open(self.file()?),
            "close" => Act::Close(self.file()?),
            "map" => {
                let (file, map, len) = (self.file()?, self.map()?, self.number()?);
                let offset = if self.take("at") { self.number()? } else { 0 };
                let writable = !self.take("read-only");
                Act::Map {
                    file,
                    map,
                    len,
                    offset,
                    writable,
                }
            }
            "unmap" => Act::Unmap(self.map()?),
            "read" => Act::Read {
                map: self.map()?,
                first: self.number()?,
                count: self.number()?,
            },
            "poke" => Act::Poke {
                map: self.map()?,
                word: self.number()?,
                value: self.number()?,
            },
            "watch" => Act::Watch(self.map()?),
            "run" => Act::Run(self.steps()?),
            verb => {
                let (file, call) = self.call(verb)?;
                Act::Ioctl(file, call)
            }
        })
    }

    fn call(&mut self, verb: &str) -> Result<(File, Call), String> {
        type Rest<'a> = fn(&mut Words<'a>) -> Result<Call, String>;
        let rest: Rest<'a> = match verb {
            "init" => |w| Ok(Call::Init(w.number()?)),
            "enable" => |w| Ok(Call::Enable(w.mode()?)),
            "disable" => |w| Ok(Call::Disable(w.argument()?)),
            "remote" => |w| Ok(Call::Remote(w.remote()?)),
            "unique" => |w| Ok(Call::Unique(w.number()?)),
            "reset" => |w| Ok(Call::Reset(w.argument()?)),
            "ioctl" => |w| {
                Ok(Call::Raw {
                    number: w.u32()?,
                    arg: w.number()?,
                })
            },
            _ => return Err(format!("nobody can `{verb}`")),
        };
        let file = self.file()?;
        Ok((file, rest(self)?))
    }

    fn remote(&mut self) -> Result<RemoteCall, String> {
        let mode = self.mode()?;
        let mut call = RemoteCall {
            mode: u32::try_from(mode).map_err(|_| "a mode has 32 bits")?,
            ..RemoteCall::default()
        };
        loop {
            if self.take("area") {
                call.area = self.u32()?;
            } else if self.take("common") {
                call.common = self.handle()?;
            } else if self.take("handles") {
                self.literal("[")?;
                while !self.take("]") {
                    call.handles.push(self.handle()?);
                }
            } else if self.take("claim") {
                call.claim = Some(self.u32()?);
            } else if self.take("then") {
                call.then = Some(self.u32()?);
            } else if self.take("readable") {
                call.readable = Some(self.number()?);
            } else {
                return Ok(call);
            }
        }
    }

    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        while let Some(&word) = self.rest.peek() {
            if matches!(word, ";" | "}") {
                break;
            }
            self.next();
            steps.push(self.step(word)?);
        }
        Ok(steps)
    }

    fn step(&mut self, word: &str) -> Result<Step, String> {
        let context = [Context::Softirq, Context::Hardirq, Context::Signal]
            .into_iter()
            .find(|c| c.word() == word);
        if let Some(context) = context {
            self.literal("{")?;
            let steps = self.steps()?;
            self.literal("}")?;
            return Ok(Step::Interrupt(context, steps));
        }
        let compared = word
            .strip_prefix("cmp")
            .map(|bytes| (bytes, false))
            .or_else(|| word.strip_prefix("const").map(|bytes| (bytes, true)));
        if let Some((bytes, constant)) = compared {
            let log2 = match bytes {
                "1" => 0,
                "2" => 1,
                "4" => 2,
                "8" => 3,
                _ => return Err(format!("no comparison is `{word}`")),
            };
            return Ok(Step::Compare {
                log2,
                constant,
                arg1: self.number()?,
                arg2: self.number()?,
            });
        }
        Ok(match word {
            "start" => Step::Start(self.handle()?),
            "stop" => Step::Stop,
            "common" => Step::CommonHandle,
            "pcs" => Step::Pcs {
                first: self.u32()?,
                count: self.u32()?,
            },
            "switch" => {
                let (bits, value) = (self.number()?, self.number()?);
                self.literal("[")?;
                let mut cases = Vec::new();
                while !self.take("]") {
                    cases.push(self.number()?);
                }
                Step::Switch { bits, value, cases }
            }
            _ => return Err(format!("no code is `{word}`")),
        })
    }
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

fn handle(word: &str) -> Option<u64> {
    let of = |subsystem: Subsystem, instance: &str| {
        let instance: u32 = instance.parse().ok()?;
        Handle::new(subsystem, instance).map(Handle::raw)
    };
    match word.split_once(':') {
        Some(("common", n)) => of(Subsystem::COMMON, n),
        Some(("usb", n)) => of(Subsystem::USB, n),
        Some(_) => None,
        None => number(word),
    }
}

/// A number as scripts print it: short ones decimal.
struct Number(u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 100_000 {
            write!(f, "{}", self.0)
        } else {
            write!(f, "{:#x}", self.0)
        }
    }
}

/// A handle as scripts print it.
struct AsHandle(u64);

impl fmt::Display for AsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Handle::from_raw(self.0) {
            Some(h) if h.subsystem() == Subsystem::COMMON => write!(f, "common:{}", h.instance()),
            Some(h) if h.subsystem() == Subsystem::USB => write!(f, "usb:{}", h.instance()),
            _ => write!(f, "{:#x}", self.0),
        }
    }
}

struct AsMode(u64);

impl fmt::Display for AsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("pc"),
            1 => f.write_str("cmp"),
            n => Number(n).fmt(f),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f{}", self.0)
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn { by, how, child } => {
                let how = match how {
                    Spawn::Thread => "thread",
                    Spawn::Fork => "fork",
                    Spawn::Kernel => "kthread",
                };
                write!(f, "{by} {how} {child}")
            }
            Self::End(task) => write!(f, "{task} end"),
            Self::Kill(task) => write!(f, "{task} kill"),
            Self::Exec(task) => write!(f, "{task} exec"),
            Self::Act(task, act) => write!(f, "{task} {act}"),
            Self::Fail { task, nth } => write!(f, "{task} fail {nth}"),
            Self::Begin { task, rounds, acts } => {
                write!(f, "{task} begin {rounds} {{")?;
                for (n, act) in acts.iter().enumerate() {
                    write!(f, "{} {act}", if n == 0 { "" } else { " ;" })?;
                }
                f.write_str(" }")
            }
            Self::Join(task) => write!(f, "{task} join"),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(file) => write!(f, "open {file}"),
            Self::Close(file) => write!(f, "close {file}"),
            Self::Ioctl(file, call) => print_call(f, *file, call),
            Self::Ioctl32(file, call) => {
                f.write_str("as32 ")?;
                print_call(f, *file, call)
            }
            Self::Map {
                file,
                map,
                len,
                offset,
                writable,
            } => {
                write!(f, "map {file} {map} {}", Number(*len))?;
                if *offset != 0 {
                    write!(f, " at {}", Number(*offset))?;
                }
                if !writable {
                    f.write_str(" read-only")?;
                }
                Ok(())
            }
            Self::Unmap(map) => write!(f, "unmap {map}"),
            Self::Read { map, first, count } => {
                write!(f, "read {map} {} {}", Number(*first), Number(*count))
            }
            Self::Poke { map, word, value } => {
                write!(f, "poke {map} {} {}", Number(*word), Number(*value))
            }
            Self::Watch(map) => write!(f, "watch {map}"),
            Self::Run(steps) => {
                f.write_str("run")?;
                print_steps(f, steps)
            }
        }
    }
}

fn print_call(f: &mut fmt::Formatter<'_>, file: File, call: &Call) -> fmt::Result {
    match call {
        Call::Init(words) => write!(f, "init {file} {}", Number(*words)),
        Call::Enable(mode) => write!(f, "enable {file} {}", AsMode(*mode)),
        Call::Disable(0) => write!(f, "disable {file}"),
        Call::Disable(arg) => write!(f, "disable {file} {}", Number(*arg)),
        Call::Remote(call) => {
            let mode = AsMode(u64::from(call.mode));
            write!(f, "remote {file} {mode} area {}", call.area)?;
            if call.common != 0 {
                write!(f, " common {}", AsHandle(call.common))?;
            }
            if !call.handles.is_empty() {
                f.write_str(" handles [")?;
                for handle in &call.handles {
                    write!(f, " {}", AsHandle(*handle))?;
                }
                f.write_str(" ]")?;
            }
            if let Some(n) = call.claim {
                write!(f, " claim {n}")?;
            }
            if let Some(n) = call.then {
                write!(f, " then {n}")?;
            }
            if let Some(n) = call.readable {
                write!(f, " readable {n}")?;
            }
            Ok(())
        }
        Call::Unique(words) => write!(f, "unique {file} {}", Number(*words)),
        Call::Reset(0) => write!(f, "reset {file}"),
        Call::Reset(arg) => write!(f, "reset {file} {}", Number(*arg)),
        Call::Raw { number, arg } => write!(f, "ioctl {file} {number:#x} {}", Number(*arg)),
    }
}

fn print_steps(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    for step in steps {
        write!(f, " {step}")?;
    }
    Ok(())
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(handle) => write!(f, "start {}", AsHandle(*handle)),
            Self::Stop => f.write_str("stop"),
            Self::CommonHandle => f.write_str("common"),
            Self::Pcs { first, count } => write!(f, "pcs {first} {count}"),
            Self::Compare {
                log2,
                constant,
                arg1,
                arg2,
            } => {
                let word = if *constant { "const" } else { "cmp" };
                let (arg1, arg2) = (Number(*arg1), Number(*arg2));
                write!(f, "{word}{} {arg1} {arg2}", 1 << log2)
            }
            Self::Switch { bits, value, cases } => {
                write!(f, "switch {} {} [", Number(*bits), Number(*value))?;
                for case in cases {
                    write!(f, " {}", Number(*case))?;
                }
                f.write_str(" ]")
            }
            Self::Interrupt(context, steps) => {
                write!(f, "{} {{", context.word())?;
                print_steps(f, steps)?;
                f.write_str(" }")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(text: &str) {
        let ops = parse(text).unwrap();
        assert_eq!(print(&ops), text);
    }

    #[test]
    fn every_line_prints_as_it_was_read() {
        same("t0 thread t1\nt0 fork t2\nt0 kthread t3\nt0 end\nt0 kill\nt0 exec\nt0 join\nt0 fail 2\n");
        same("t0 open f0\nt0 close f0\nt0 init f0 64\nt0 enable f0 pc\nt0 enable f0 7\n");
        same("t0 disable f0\nt0 disable f0 1\nt0 reset f0\nt0 unique f0 3\nt0 unmap m1\n");
        same("t0 map f0 m0 512\nt0 map f0 m0 512 at 4096 read-only\nt0 watch m0\n");
        same("t0 read m0 0 4\nt0 poke m0 0 0xffffffffffffffff\nt0 as32 init f0 64\n");
        same("t0 ioctl f0 0x80046301 64\nt1 run common pcs 0 3 stop\n");
        same("t0 remote f0 cmp area 5 common common:7 handles [ usb:0 0x8000000000000001 ] claim 257 then 2 readable 24\n");
        same("t0 run start usb:3 cmp4 1 2 const8 3 0xfffffffff switch 32 5 [ 1 2 ] softirq { hardirq { stop } }\n");
        same("t1 begin 1000 { run start common:7 pcs 0 3 stop ; watch m0 ; disable f0 }\n");
    }

    #[test]
    fn remarks_and_empty_lines_are_nothing() {
        let ops = parse("# all\n\n  t0 end  # it ends\n").unwrap();
        assert_eq!(ops, [Op::End(Task(0))]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let bad = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(bad("t0 end\nt0 fly"), "line 2: nobody can `fly`");
        assert_eq!(bad("x0 end"), "line 1: `x0` is not a task such as t0");
        assert_eq!(bad("t0 init f0"), "line 1: a number is missing");
        assert_eq!(bad("t0 end now"), "line 1: `now` stands behind the end");
        assert_eq!(bad("t0 run start usb:"), "line 1: `usb:` is not a handle");
        assert_eq!(bad("t0 begin 3 { end }"), "line 1: nobody can `end`");
        assert_eq!(
            bad("t0 run softirq stop"),
            "line 1: `{` is missing before stop"
        );
    }
}
