// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a trace where it lies.
//!
//! Whatever the bytes are, reading them ends in a [`Trace`] or a [`TraceError`]: no panic, and no
//! memory but in proportion to them.

use std::sync::Arc;
use std::time::SystemTime;

use rkcov_abi::words::WORD_BYTES;
use rkcov_abi::{Comparison, CMP_WORDS};

use super::format::{
    padding, Decoder, Kind, Nonsense, SectionHeader, FILE_HEADER, NO_CONTEXT, NO_PROCESS, OLDEST,
    OPTIONAL, SECTION_HEADER,
};
use super::sites::{SiteSet, Tables};
use super::{
    BuildId, Context, ContextId, ContextKind, Drops, Ended, Exit, Info, Loss, Mode, Module,
    Process, ProcessId, Scope, StreamInfo, TraceError, MAGIC, VERSION,
};

/// A trace, its words still in the bytes that it was read from.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    version: u32,
    info: Info,
    ended: Option<SystemTime>,
    processes: Vec<Process>,
    modules: Vec<Module>,
    contexts: Vec<Context>,
    tables: Vec<Arc<[u64]>>,
    streams: Vec<Stream<'a>>,
    drops: Vec<(Option<ProcessId>, Vec<Drops>)>,
    losses: Vec<Loss>,
}

/// One stream of a trace.
#[derive(Clone, Debug)]
pub struct Stream<'a> {
    info: StreamInfo,
    mode: Mode,
    chunks: Vec<Chunk<'a>>,
    whole: bool,
}

/// Words of a stream.
#[derive(Clone, Debug)]
enum Chunk<'a> {
    /// Whole words in little-endian bytes.
    Words(&'a [u8]),
    Set(SiteSet),
}

impl Chunk<'_> {
    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let (bytes, set) = match self {
            Self::Words(bytes) => (*bytes, None),
            Self::Set(set) => (&[][..], Some(set)),
        };
        let words = bytes.as_chunks::<WORD_BYTES>().0.iter();
        let words = words.map(|word| u64::from_le_bytes(*word));
        words.chain(set.into_iter().flat_map(SiteSet::words))
    }

    fn len(&self) -> u64 {
        match self {
            Self::Words(bytes) => (bytes.len() / WORD_BYTES) as u64,
            Self::Set(set) => set.numbers().len(),
        }
    }
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
        let (version, info, sections) = begin(bytes)?;
        let mut trace = Self {
            version,
            info,
            ended: None,
            processes: Vec::new(),
            modules: Vec::new(),
            contexts: Vec::new(),
            tables: Vec::new(),
            streams: Vec::new(),
            drops: Vec::new(),
            losses: Vec::new(),
        };
        let mut tables = Tables::default();
        let wrong = trace.rest(sections, &mut tables).err();
        trace.tables = tables.end();
        for chunk in trace.streams.iter_mut().flat_map(|s| &mut s.chunks) {
            if let Chunk::Set(set) = chunk {
                set.settle(&trace.tables);
            }
        }
        Ok((trace, wrong))
    }

    /// How a trace came to be, by its first section alone.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn describe(bytes: &'a [u8]) -> Result<Info, TraceError> {
        begin(bytes).map(|(_, info, _)| info)
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

    /// The contexts; a [`ContextId`] is an index. Streams without one were recorded outside of all
    /// contexts.
    #[must_use]
    pub fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    /// The context with this id, if it is of this trace.
    #[must_use]
    pub fn context(&self, id: ContextId) -> Option<&Context> {
        self.contexts.get(id.index())
    }

    /// The tables that the numbers in [`Stream::sets`] are places in: addresses in a file of code,
    /// one table for each.
    #[must_use]
    pub fn site_tables(&self) -> &[Arc<[u64]>] {
        &self.tables
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

    fn rest(&mut self, mut sections: Sections<'a>, tables: &mut Tables) -> Result<(), TraceError> {
        while self.ended.is_none() {
            let (at, raw, payload) = sections.next_section()?;
            match Kind::from_raw(raw, self.version) {
                Some(kind) => self
                    .section(kind, payload, tables)
                    .map_err(|what| TraceError::Malformed { at, what })?,
                None if raw & OPTIONAL != 0 => {}
                None => return Err(TraceError::UnknownSection { kind: raw, at }),
            }
        }
        sections.end()
    }

    fn section(
        &mut self,
        kind: Kind,
        payload: &'a [u8],
        tables: &mut Tables,
    ) -> Result<(), Nonsense> {
        let open = self.streams.last().is_some_and(|stream| !stream.whole);
        if open != matches!(kind, Kind::Words | Kind::Set | Kind::StreamEnd) {
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
                    stream.chunks.push(Chunk::Words(words));
                }
                return Ok(());
            }
            Kind::Set => {
                if self.info.mode.record_words() != 1 {
                    return Err("a set of records that are more than a place");
                }
                if let Some(stream) = self.streams.last_mut() {
                    let set = tables.set(&mut from, &self.modules, stream.info.process)?;
                    stream.chunks.push(Chunk::Set(set));
                }
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
            Kind::Sites => tables.grow(&mut from)?,
            Kind::Context => {
                let context = self.begun(&mut from)?;
                self.contexts.push(context);
            }
            Kind::ContextEnd => {
                let id = self.context_id(from.u32()?)?.ok_or("no context ends")?;
                let at = from.maybe_time()?.map_or(Ended::Yes, Ended::At);
                let ended = &mut self.contexts[id.index()].ended;
                if std::mem::replace(ended, at) != Ended::No {
                    return Err("a context ends twice");
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
        let mut info = StreamInfo {
            tid,
            main: flags & 1 != 0,
            finished: flags & 2 != 0,
            handle: from.u64()?,
            count: from.u64()?,
            capacity: from.u64()?,
            name: from.text()?,
            label: from.text()?,
            drops: from.drops()?,
            ..StreamInfo::new(process)
        };
        if self.version >= 2 {
            info.context = self.context_id(from.u32()?)?;
            info.creator = from.u32()?;
        }
        Ok(info)
    }

    /// A context that begins.
    fn begun(&self, from: &mut Decoder<'a>) -> Result<Context, Nonsense> {
        if self.contexts.len() >= NO_CONTEXT as usize {
            return Err("too many contexts");
        }
        Ok(Context {
            kind: ContextKind::from_raw(from.u32()?),
            parent: self.context_id(from.u32()?)?,
            process: self.process_id(from.u32()?)?,
            began: from.maybe_time()?,
            name: from.bytes()?.to_vec(),
            ended: Ended::No,
        })
    }

    fn context_id(&self, raw: u32) -> Result<Option<ContextId>, Nonsense> {
        if raw == NO_CONTEXT {
            Ok(None)
        } else if (raw as usize) < self.contexts.len() {
            Ok(Some(ContextId(raw)))
        } else {
            Err("a context that was not named before")
        }
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
    /// at the end. Those of [`Stream::sets`] come in the order of their tables.
    pub fn words(&self) -> impl Iterator<Item = u64> + use<'a, '_> {
        self.chunks.iter().flat_map(Chunk::words)
    }

    /// The sets that the stream is of, if it was written so.
    pub fn sets(&self) -> impl Iterator<Item = &SiteSet> {
        self.chunks.iter().filter_map(|chunk| match chunk {
            Chunk::Words(_) => None,
            Chunk::Set(set) => Some(set),
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
        self.chunks.iter().map(Chunk::len).sum()
    }
}

/// The version of a file, its description, and what follows.
fn begin(bytes: &[u8]) -> Result<(u32, Info, Sections<'_>), TraceError> {
    let version = file_version(bytes)?;
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
    Ok((version, info, sections))
}

fn file_version(bytes: &[u8]) -> Result<u32, TraceError> {
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
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(TraceError::Version { found: version });
    }
    Ok(version)
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
