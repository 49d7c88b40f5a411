// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a trace where it lies.
//!
//! Whatever the bytes are, reading them ends in a [`Trace`] or a [`TraceError`]: no panic, and no
//! memory but in proportion to them.

use std::time::SystemTime;

use rkcov_abi::words::WORD_BYTES;
use rkcov_abi::{Comparison, CMP_WORDS};

use super::format::{
    padding, Decoder, Kind, Nonsense, SectionHeader, FILE_HEADER, NO_PROCESS, OPTIONAL,
    SECTION_HEADER,
};
use super::{
    BuildId, Drops, Exit, Info, Loss, Mode, Module, Process, ProcessId, Scope, StreamInfo,
    TraceError, MAGIC, VERSION,
};

/// A trace, its words still in the bytes that it was read from.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    info: Info,
    ended: Option<SystemTime>,
    processes: Vec<Process>,
    modules: Vec<Module>,
    streams: Vec<Stream<'a>>,
    drops: Vec<(Option<ProcessId>, Vec<Drops>)>,
    losses: Vec<Loss>,
}

/// One stream of a trace.
#[derive(Clone, Debug)]
pub struct Stream<'a> {
    info: StreamInfo,
    mode: Mode,
    /// Words in little-endian bytes, whole words each.
    chunks: Vec<&'a [u8]>,
    whole: bool,
}

impl<'a> Trace<'a> {
    /// Reads a whole trace and checks every byte of it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TraceError> {
        match Self::salvage(bytes)? {
            (trace, None) => Ok(trace),
            (_, Some(wrong)) => Err(wrong),
        }
    }

    /// Reads what stands before the first thing that is wrong, and says what that is. The last
    /// stream may then not be [`Stream::whole`]; what it has is sound.
    ///
    /// # Errors
    /// If not even the first section, which says what the trace is, can be read.
    pub fn salvage(bytes: &'a [u8]) -> Result<(Self, Option<TraceError>), TraceError> {
        check_file_header(bytes)?;
        let mut sections = Sections {
            bytes,
            at: FILE_HEADER,
            number: 0,
        };
        let (at, kind, payload) = sections.next_section()?;
        if kind != Kind::Info as u32 {
            let what = "it does not begin with its own description";
            return Err(TraceError::Malformed { at, what });
        }
        let info = info(payload).map_err(|what| TraceError::Malformed { at, what })?;
        let mut trace = Self {
            info,
            ended: None,
            processes: Vec::new(),
            modules: Vec::new(),
            streams: Vec::new(),
            drops: Vec::new(),
            losses: Vec::new(),
        };
        let wrong = trace.rest(sections).err();
        Ok((trace, wrong))
    }

    /// How the trace came to be.
    #[must_use]
    pub const fn info(&self) -> &Info {
        &self.info
    }

    /// When recording ended; `None` if the trace is unfinished.
    #[must_use]
    pub const fn ended(&self) -> Option<SystemTime> {
        self.ended
    }

    /// The processes; a [`ProcessId`] is an index.
    #[must_use]
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The process with this id, if it is of this trace.
    #[must_use]
    pub fn process(&self, id: ProcessId) -> Option<&Process> {
        self.processes.get(id.index())
    }

    /// The modules of all processes.
    #[must_use]
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The streams.
    #[must_use]
    pub fn streams(&self) -> &[Stream<'a>] {
        &self.streams
    }

    /// Drops that belong to no stream.
    pub fn drops(&self) -> impl Iterator<Item = (Option<ProcessId>, &[Drops])> {
        self.drops.iter().map(|(id, drops)| (*id, drops.as_slice()))
    }

    /// All that is not in the trace: [`Trace::drops`], the drops of the streams, and what else was
    /// lost.
    pub fn losses(&self) -> impl Iterator<Item = Loss> + '_ {
        let of = |scope: Scope, drops: &'_ Drops| Loss {
            scope,
            ..Loss::new(drops.reason, drops.count)
        };
        let streams = self
            .streams
            .iter()
            .enumerate()
            .flat_map(move |(at, stream)| {
                let drops = stream.info.drops.iter();
                drops.map(move |drops| of(Scope::Stream(at), drops))
            });
        let drops = self.drops.iter().flat_map(move |(process, drops)| {
            let scope = process.map_or(Scope::Trace, Scope::Process);
            drops.iter().map(move |drops| of(scope.clone(), drops))
        });
        let losses = self.losses.iter().cloned().chain(drops).chain(streams);
        losses.filter(|loss| loss.count > 0)
    }

    fn rest(&mut self, mut sections: Sections<'a>) -> Result<(), TraceError> {
        while self.ended.is_none() {
            let (at, raw, payload) = sections.next_section()?;
            match Kind::from_raw(raw) {
                Some(kind) => self
                    .section(kind, payload)
                    .map_err(|what| TraceError::Malformed { at, what })?,
                None if raw & OPTIONAL != 0 => {}
                None => return Err(TraceError::UnknownSection { kind: raw, at }),
            }
        }
        sections.end()
    }

    fn section(&mut self, kind: Kind, payload: &'a [u8]) -> Result<(), Nonsense> {
        let open = self.streams.last().is_some_and(|stream| !stream.whole);
        if open != matches!(kind, Kind::Words | Kind::StreamEnd) {
            return Err("words outside of a stream, or a stream without its end");
        }
        let mut from = Decoder::new(payload);
        match kind {
            Kind::Info => return Err("it describes itself twice"),
            Kind::Process => {
                let process = process(&mut from)?;
                if self.processes.len() >= NO_PROCESS as usize {
                    return Err("too many processes");
                }
                self.processes.push(process);
            }
            Kind::Module => {
                let module = self.module(&mut from)?;
                self.modules.push(module);
            }
            Kind::Stream => {
                let info = self.stream(&mut from)?;
                self.streams.push(Stream {
                    info,
                    mode: self.info.mode,
                    chunks: Vec::new(),
                    whole: false,
                });
            }
            Kind::Words => {
                let words = from.words()?;
                if let Some(stream) = self.streams.last_mut() {
                    stream.chunks.push(words);
                }
                return Ok(());
            }
            Kind::StreamEnd => {
                let words = from.u64()?;
                if let Some(stream) = self.streams.last_mut() {
                    if stream.stored_words() != words {
                        return Err("a stream has not as many words as it says");
                    }
                    stream.whole = true;
                }
            }
            Kind::Drops => {
                let process = self.process_id(from.u32()?)?;
                self.drops.push((process, from.drops()?));
            }
            Kind::Loss => {
                let loss = from.loss()?;
                if let Scope::Process(id) = loss.scope {
                    self.process_id(id.0)?.ok_or("a loss of no process")?;
                }
                self.losses.push(loss);
            }
            Kind::End => self.ended = Some(from.time()?),
        }
        from.end()
    }

    fn module(&self, from: &mut Decoder<'a>) -> Result<Module, Nonsense> {
        let process = self.process_id(from.u32()?)?;
        let bias = from.u64()?;
        let range = from.range()?;
        let build_id = BuildId(from.bytes()?.to_vec());
        let path = from.os()?.into();
        let text = from.list(Decoder::range)?;
        if text
            .iter()
            .any(|t| t.start < range.start || t.end > range.end)
        {
            return Err("a module's text lies outside of the module");
        }
        Ok(Module {
            process,
            path,
            build_id,
            bias,
            range,
            text,
        })
    }

    fn stream(&self, from: &mut Decoder<'a>) -> Result<StreamInfo, Nonsense> {
        let process = self
            .process_id(from.u32()?)?
            .ok_or("a stream without a process")?;
        let tid = from.u32()?;
        let flags = from.u32()?;
        if flags & !3 != 0 {
            return Err("unknown flags of a stream");
        }
        Ok(StreamInfo {
            process,
            tid,
            main: flags & 1 != 0,
            finished: flags & 2 != 0,
            handle: from.u64()?,
            count: from.u64()?,
            capacity: from.u64()?,
            name: from.text()?,
            label: from.text()?,
            drops: from.drops()?,
        })
    }

    fn process_id(&self, raw: u32) -> Result<Option<ProcessId>, Nonsense> {
        if raw == NO_PROCESS {
            Ok(None)
        } else if (raw as usize) < self.processes.len() {
            Ok(Some(ProcessId(raw)))
        } else {
            Err("a process that was not named before")
        }
    }
}

impl<'a> Stream<'a> {
    /// What is known of it.
    #[must_use]
    pub const fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// Whether all of its words are there; `false` only for the last stream of a salvaged trace.
    #[must_use]
    pub const fn whole(&self) -> bool {
        self.whole
    }

    /// Whether the count word cannot be right: the program wrote over it. All words that are
    /// there are then taken for records.
    #[must_use]
    pub const fn count_lost(&self) -> bool {
        self.info.count > self.info.capacity
    }

    /// The words behind the count word as they stood in the buffer, records or not, but for zeros
    /// at the end.
    pub fn words(&self) -> impl Iterator<Item = u64> + use<'a, '_> {
        self.chunks.iter().flat_map(|chunk| {
            chunk
                .as_chunks::<WORD_BYTES>()
                .0
                .iter()
                .map(|word| u64::from_le_bytes(*word))
        })
    }

    /// How many records were recorded, written or not.
    #[must_use]
    pub fn records(&self) -> u64 {
        if self.count_lost() {
            self.stored_words() / u64::from(self.mode.record_words())
        } else {
            self.info.count
        }
    }

    /// How many records were announced but never written: the task was killed between the two, or
    /// (if the stream is finished) something overwrote them with zeros.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        let there = match self.mode {
            Mode::Trace | Mode::Unique => self.pcs().count(),
            Mode::Cmp => self.comparisons().count(),
        };
        self.records().saturating_sub(there as u64)
    }

    /// The PCs of all records, in order. Records that were never written are left out.
    pub fn pcs(&self) -> impl Iterator<Item = u64> + use<'a, '_> {
        let record = self.mode.record_words() as usize;
        let words = self.record_words();
        self.words()
            .take(words)
            .skip(record - 1)
            .step_by(record)
            .filter(|pc| *pc != 0)
    }

    /// The comparisons, in order, if that is what was recorded. Records that were never written,
    /// or not to their end, are left out.
    pub fn comparisons(&self) -> impl Iterator<Item = Comparison> + use<'a, '_> {
        let words = match self.mode {
            Mode::Cmp => self.record_words(),
            Mode::Trace | Mode::Unique => 0,
        };
        let mut words = self.words().take(words);
        std::iter::from_fn(move || {
            let mut record = [0; CMP_WORDS as usize];
            for word in &mut record {
                *word = words.next()?;
            }
            Some(Comparison::from_words(record))
        })
        .filter(|cmp| cmp.pc != 0)
    }

    /// Words from the first that belong to a record, whether they are there or not.
    fn record_words(&self) -> usize {
        let words = self
            .records()
            .saturating_mul(u64::from(self.mode.record_words()));
        usize::try_from(words).unwrap_or(usize::MAX)
    }

    fn stored_words(&self) -> u64 {
        let bytes: usize = self.chunks.iter().map(|chunk| chunk.len()).sum();
        (bytes / WORD_BYTES) as u64
    }
}

fn check_file_header(bytes: &[u8]) -> Result<(), TraceError> {
    if bytes.is_empty() {
        return Err(TraceError::Empty);
    }
    let begins = bytes.len().min(MAGIC.len());
    if bytes[..begins] != MAGIC[..begins] {
        return Err(TraceError::NotATrace);
    }
    let Some(header) = bytes.first_chunk::<FILE_HEADER>() else {
        return Err(TraceError::Unfinished { at: 0 });
    };
    let mut fields = Decoder::new(&header[MAGIC.len()..]);
    let (Ok(version), Ok(sum)) = (fields.u32(), fields.u32()) else {
        return Err(TraceError::NotATrace);
    };
    if sum != crc32fast::hash(&header[..12]) {
        let what = "the checksum of the file's header is wrong";
        return Err(TraceError::Damaged { at: 0, what });
    }
    if version != VERSION {
        return Err(TraceError::Version { found: version });
    }
    Ok(())
}

/// Walks over the sections of a file and checks what is outside of their payloads.
struct Sections<'a> {
    bytes: &'a [u8],
    at: usize,
    number: u32,
}

impl<'a> Sections<'a> {
    /// The next section: where it is, its kind and its payload.
    fn next_section(&mut self) -> Result<(u64, u32, &'a [u8]), TraceError> {
        let at = self.at as u64;
        let unfinished = TraceError::Unfinished { at };
        let damaged = |what| TraceError::Damaged { at, what };
        let rest = &self.bytes[self.at..];
        let Some((header, rest)) = rest.split_first_chunk::<SECTION_HEADER>() else {
            return Err(unfinished);
        };
        let header = SectionHeader::decode(header)
            .ok_or_else(|| damaged("the checksum of a section's header is wrong"))?;
        if header.number != self.number {
            return Err(damaged("a section is missing"));
        }
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        let Some((payload, rest)) = rest.split_at_checked(len) else {
            return Err(unfinished);
        };
        if crc32fast::hash(payload) != header.sum {
            return Err(damaged("the checksum of a section is wrong"));
        }
        let Some(zeros) = rest.get(..padding(header.len)) else {
            return Err(unfinished);
        };
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(damaged("there is something between two sections"));
        }
        self.at += SECTION_HEADER + payload.len() + zeros.len();
        self.number = self.number.wrapping_add(1);
        Ok((at, header.kind, payload))
    }

    /// Nothing follows.
    fn end(self) -> Result<(), TraceError> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(TraceError::Damaged {
                at: self.at as u64,
                what: "there is something behind its end",
            })
        }
    }
}

fn info(payload: &[u8]) -> Result<Info, Nonsense> {
    let mut from = Decoder::new(payload);
    let info = Info {
        tool: from.text()?,
        mode: from.mode()?,
        started: from.time()?,
        directory: from.os()?.into(),
        command: from.command()?,
    };
    from.end()?;
    Ok(info)
}

fn process(from: &mut Decoder<'_>) -> Result<Process, Nonsense> {
    let pid = from.u32()?;
    let parent = from.u32()?;
    let how = from.u32()?;
    let status = from.u32()?.cast_signed();
    let exit = match how {
        0 => Exit::Unknown,
        1 => Exit::Code(status),
        2 => Exit::Signal(status),
        _ => return Err("a process that ended in an unknown way"),
    };
    Ok(Process {
        pid,
        parent,
        exit,
        command: from.command()?,
    })
}
