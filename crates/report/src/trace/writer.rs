// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a trace front to back.

use std::io::{self, Write};
use std::time::SystemTime;

use roaring::RoaringBitmap;

use super::format::{
    file_header, padding, Encoder, Kind, SectionHeader, ALIGN, CHUNK_WORDS, NO_CONTEXT, NO_PROCESS,
};
use super::sites::Growing;
use super::{
    Context, ContextId, Drops, Ended, Info, Loss, Mode, Module, Process, ProcessId, Scope,
    StreamInfo,
};

/// Writes a trace, section by section, without seeking.
///
/// The first error stands for the whole file: what was written until then is an unfinished trace,
/// and readers say so. [`Writer::create`](super::Writer::create) writes to a file that appears
/// under its name only when it is whole.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    sections: u32,
    processes: u32,
    contexts: u32,
    /// The contexts that have ended.
    over: RoaringBitmap,
    sites: Growing,
    mode: Mode,
    /// Bytes of words that wait to become a chunk; empty between streams.
    chunk: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a trace. `to` need not be buffered.
    ///
    /// # Errors
    /// What `to` says.
    pub fn new(mut to: W, info: &Info) -> io::Result<Self> {
        to.write_all(&file_header())?;
        let mut writer = Self {
            to,
            sections: 0,
            processes: 0,
            contexts: 0,
            over: RoaringBitmap::new(),
            sites: Growing::default(),
            mode: info.mode,
            chunk: Vec::new(),
        };
        let mut fields = Encoder::default();
        fields.bytes(info.tool.as_bytes()).mode(info.mode);
        fields.time(info.started).os(&info.directory);
        fields.command(&info.command);
        writer.section(Kind::Info, &fields.0)?;
        Ok(writer)
    }

    /// Adds a process. Modules and streams name it by the id that is returned.
    ///
    /// # Errors
    /// What the output says.
    pub fn process(&mut self, process: &Process) -> io::Result<ProcessId> {
        let (how, status) = match process.exit {
            super::Exit::Unknown => (0, 0),
            super::Exit::Code(code) => (1, code),
            super::Exit::Signal(signal) => (2, signal),
        };
        let mut fields = Encoder::default();
        fields.u32(process.pid).u32(process.parent);
        fields.u32(how).u32(status.cast_unsigned());
        fields.command(&process.command);
        self.section(Kind::Process, &fields.0)?;
        let id = ProcessId(self.processes);
        self.processes += 1;
        Ok(id)
    }

    /// Adds a module.
    ///
    /// # Errors
    /// What the output says, or `InvalidInput` if the module's process is of another trace.
    pub fn module(&mut self, module: &Module) -> io::Result<()> {
        let process = match module.process {
            Some(id) => self.known(id)?,
            None => NO_PROCESS,
        };
        let mut fields = Encoder::default();
        fields.u32(process).u64(module.bias).range(&module.range);
        fields.bytes(&module.build_id.0).os(&module.path);
        fields.list(&module.text, |to, range| {
            to.range(range);
        });
        self.section(Kind::Module, &fields.0)?;
        self.sites.module(module);
        Ok(())
    }

    /// Begins a context, and ends it if it says that it has. Streams and contexts inside of it name
    /// it by the id that is returned.
    ///
    /// # Errors
    /// What the output says, or `InvalidInput` if its process or its parent is of another trace.
    pub fn context(&mut self, context: &Context) -> io::Result<ContextId> {
        let mut fields = Encoder::default();
        fields.u32(context.kind.raw());
        fields.u32(self.known_context(context.parent)?);
        fields.u32(match context.process {
            Some(id) => self.known(id)?,
            None => NO_PROCESS,
        });
        fields.maybe_time(context.began).bytes(&context.name);
        self.section(Kind::Context, &fields.0)?;
        let id = ContextId(self.contexts);
        self.contexts += 1;
        match context.ended {
            Ended::No => {}
            Ended::Yes => self.end_context(id, None)?,
            Ended::At(time) => self.end_context(id, Some(time))?,
        }
        Ok(id)
    }

    /// Ends a context that had not ended. Its streams may come before or after.
    ///
    /// # Errors
    /// What the output says, or `InvalidInput` if the context has ended, or is of another trace.
    pub fn end_context(&mut self, id: ContextId, at: Option<SystemTime>) -> io::Result<()> {
        let mut fields = Encoder::default();
        fields.u32(self.known_context(Some(id))?).maybe_time(at);
        if !self.over.insert(id.0) {
            return Err(invalid("the context has ended before"));
        }
        self.section(Kind::ContextEnd, &fields.0)
    }

    /// Adds a stream: its words as they stood in the buffer behind the count word, which is
    /// `stream.count`. Zeros at the end are left out, so `words` may be the whole buffer.
    ///
    /// # Errors
    /// What the output says, or `InvalidInput` if the stream's process is of another trace.
    pub fn stream(
        &mut self,
        stream: &StreamInfo,
        words: impl IntoIterator<Item = u64>,
    ) -> io::Result<()> {
        self.begin_stream(stream, stream.count)?;

        let mut written = 0_u64;
        let mut zeros = 0_u64;
        for word in words {
            if word == 0 {
                zeros += 1;
                continue;
            }
            written += zeros + 1;
            for _ in 0..std::mem::take(&mut zeros) {
                self.word(0)?;
            }
            self.word(word)?;
        }
        self.end_chunk()?;
        self.end_stream(written)
    }

    /// Adds a stream whose order says nothing: the words of its records, once each, in little room. Of
    /// comparisons it writes what [`Writer::stream`] does.
    ///
    /// # Errors
    /// What the output says, or `InvalidInput` if the stream's process or context is of another
    /// trace.
    pub fn set(
        &mut self,
        stream: &StreamInfo,
        words: impl IntoIterator<Item = u64>,
    ) -> io::Result<()> {
        if self.mode == Mode::Cmp {
            return self.stream(stream, words);
        }
        self.known(stream.process)?;
        let mut given = 0_u64;
        let words = words.into_iter().filter(|word| *word != 0);
        let words = words.inspect(|_| given += 1);
        let sections = self.sites.stream(stream.process, words)?;
        for table in &sections.tables {
            self.section(Kind::Sites, &table.0)?;
        }
        let count = if stream.count > stream.capacity {
            stream.count
        } else {
            // What was recorded twice is there once.
            stream.count.saturating_sub(given - sections.words)
        };
        self.begin_stream(stream, count)?;
        for set in &sections.sets {
            self.section(Kind::Set, &set.0)?;
        }
        self.end_stream(sections.words)
    }

    fn begin_stream(&mut self, stream: &StreamInfo, count: u64) -> io::Result<()> {
        let mut fields = Encoder::default();
        fields.u32(self.known(stream.process)?).u32(stream.tid);
        fields.u32(u32::from(stream.main) | u32::from(stream.finished) << 1);
        fields.u64(stream.handle);
        fields.u64(count).u64(stream.capacity);
        fields.bytes(stream.name.as_bytes());
        fields.bytes(stream.label.as_bytes());
        fields.drops(&stream.drops);
        fields.u32(self.known_context(stream.context)?);
        fields.u32(stream.creator);
        self.section(Kind::Stream, &fields.0)
    }

    fn end_stream(&mut self, words: u64) -> io::Result<()> {
        let mut fields = Encoder::default();
        fields.u64(words);
        self.section(Kind::StreamEnd, &fields.0)
    }

    /// Adds drops that belong to no stream; `process` if it is known.
    ///
    /// # Errors
    /// What the output says, or `InvalidInput` if the process is of another trace.
    pub fn drops(&mut self, process: Option<ProcessId>, drops: &[Drops]) -> io::Result<()> {
        let process = match process {
            Some(id) => self.known(id)?,
            None => NO_PROCESS,
        };
        let mut fields = Encoder::default();
        fields.u32(process).drops(drops);
        self.section(Kind::Drops, &fields.0)
    }

    /// Adds a loss. One of a single stream belongs to [`StreamInfo::drops`]; here it is taken for one
    /// of the whole trace. Readers that do not know of losses pass over it.
    ///
    /// # Errors
    /// What the output says, or `InvalidInput` if the process is of another trace.
    pub fn loss(&mut self, loss: &Loss) -> io::Result<()> {
        if let Scope::Process(id) = loss.scope {
            self.known(id)?;
        }
        let mut fields = Encoder::default();
        fields.loss(loss);
        self.section(Kind::Loss, &fields.0)
    }

    /// Ends the trace now and gives the output back.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(self) -> io::Result<W> {
        self.finish_at(SystemTime::now())
    }

    /// Ends the trace; recording ended at `ended`.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish_at(mut self, ended: SystemTime) -> io::Result<W> {
        let mut fields = Encoder::default();
        fields.time(ended);
        self.section(Kind::End, &fields.0)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn known(&self, id: ProcessId) -> io::Result<u32> {
        if id.0 < self.processes {
            Ok(id.0)
        } else {
            Err(invalid("the process is not one of this trace"))
        }
    }

    fn known_context(&self, id: Option<ContextId>) -> io::Result<u32> {
        match id {
            None => Ok(NO_CONTEXT),
            Some(id) if id.0 < self.contexts => Ok(id.0),
            Some(_) => Err(invalid("the context is not one of this trace")),
        }
    }

    fn word(&mut self, word: u64) -> io::Result<()> {
        self.chunk.extend_from_slice(&word.to_le_bytes());
        if self.chunk.len() == CHUNK_WORDS * size_of::<u64>() {
            self.end_chunk()?;
        }
        Ok(())
    }

    fn end_chunk(&mut self) -> io::Result<()> {
        let mut chunk = std::mem::take(&mut self.chunk);
        if !chunk.is_empty() {
            self.section(Kind::Words, &chunk)?;
            chunk.clear();
        }
        self.chunk = chunk;
        Ok(())
    }

    fn section(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let header = SectionHeader {
            kind: kind as u32,
            number: self.sections,
            len: payload.len() as u64,
            sum: crc32fast::hash(payload),
        };
        self.to.write_all(&header.encode())?;
        self.to.write_all(payload)?;
        self.to.write_all(&[0; ALIGN][..padding(header.len)])?;
        self.sections = self
            .sections
            .checked_add(1)
            .ok_or_else(|| io::Error::other("more than 2^32 sections in one trace"))?;
        Ok(())
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
