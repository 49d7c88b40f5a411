// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of a trace file: numbers, section headers, and fields of a payload.
//!
//! What `docs/trace-format.md` says stands here once, for the writer and the reader.

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{BuildId, DropReason, Drops, Loss, Mode, ProcessId, Scope};

/// The first eight bytes. A change of line ends or a cut eighth bit breaks it.
pub const MAGIC: [u8; 8] = *b"\x89rkcov\r\n";
/// The version of the format that is written, and the newest that is read.
pub const VERSION: u32 = 2;
/// The oldest version that is read.
pub const OLDEST: u32 = 1;

/// Bytes of the file header: magic, version, checksum of both.
pub(super) const FILE_HEADER: usize = 16;
/// Bytes of a section header.
pub(super) const SECTION_HEADER: usize = 24;
/// Payloads are padded with zeros to a multiple of this.
pub(super) const ALIGN: usize = 8;
/// Words of a chunk, but for the last of a stream: half a MiB.
pub(super) const CHUNK_WORDS: usize = 1 << 16;
/// A section with this bit may be skipped by readers that do not know its kind.
pub(super) const OPTIONAL: u32 = 1 << 31;
/// No one process, where otherwise the number of a process stands.
pub(super) const NO_PROCESS: u32 = u32::MAX;
/// No context, where otherwise the number of a context stands.
pub(super) const NO_CONTEXT: u32 = u32::MAX;

/// What a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    Info = 1,
    Process = 2,
    Module = 3,
    Stream = 4,
    Words = 5,
    StreamEnd = 6,
    Drops = 7,
    End = 8,
    Context = 9,
    ContextEnd = 10,
    Sites = 11,
    Set = 12,
    Loss = OPTIONAL | 1,
}

impl Kind {
    /// The kind with this number in files of `version`.
    pub(super) const fn from_raw(raw: u32, version: u32) -> Option<Self> {
        Some(match raw {
            9..=12 if version < 2 => return None,
            1 => Self::Info,
            2 => Self::Process,
            3 => Self::Module,
            4 => Self::Stream,
            5 => Self::Words,
            6 => Self::StreamEnd,
            7 => Self::Drops,
            8 => Self::End,
            9 => Self::Context,
            10 => Self::ContextEnd,
            11 => Self::Sites,
            12 => Self::Set,
            raw if raw == Self::Loss as u32 => Self::Loss,
            _ => return None,
        })
    }
}

pub(super) fn file_header() -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let sum = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// The header of a section, its own checksum apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SectionHeader {
    /// A [`Kind`], if it is known.
    pub(super) kind: u32,
    /// How many sections stand before it.
    pub(super) number: u32,
    /// Bytes of the payload, padding not included.
    pub(super) len: u64,
    /// Checksum of the payload.
    pub(super) sum: u32,
}

impl SectionHeader {
    pub(super) fn encode(self) -> [u8; SECTION_HEADER] {
        let mut bytes = [0; SECTION_HEADER];
        bytes[..4].copy_from_slice(&self.kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.sum.to_le_bytes());
        let own = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// The header that these bytes are, or `None` if its checksum is wrong.
    pub(super) fn decode(bytes: &[u8; SECTION_HEADER]) -> Option<Self> {
        let mut fields = Decoder::new(bytes);
        let header = Self {
            kind: fields.u32().ok()?,
            number: fields.u32().ok()?,
            len: fields.u64().ok()?,
            sum: fields.u32().ok()?,
        };
        let own = fields.u32().ok()?;
        (own == crc32fast::hash(&bytes[..20])).then_some(header)
    }
}

/// Zeros between a payload of `len` bytes and the next section.
pub(super) const fn padding(len: u64) -> usize {
    (len.wrapping_neg() % ALIGN as u64) as usize
}

/// Puts the fields of a payload together.
#[derive(Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A length and as many bytes. Nothing that is written so comes near 4 GiB; a longer one is
    /// cut there.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.u32(len);
        self.0.extend_from_slice(&bytes[..len as usize]);
        self
    }

    pub(super) fn os(&mut self, text: impl AsRef<OsStr>) -> &mut Self {
        self.bytes(text.as_ref().as_bytes())
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        let len = u32::try_from(items.len()).unwrap_or(u32::MAX);
        self.u32(len);
        for item in &items[..len as usize] {
            each(self, item);
        }
    }

    pub(super) fn command(&mut self, command: &[OsString]) {
        self.list(command, |to, arg| {
            to.os(arg);
        });
    }

    pub(super) fn drops(&mut self, drops: &[Drops]) {
        self.list(drops, |to, d| {
            to.u32(d.reason.raw()).u64(d.count);
        });
    }

    /// A loss that is not of one stream.
    pub(super) fn loss(&mut self, loss: &Loss) {
        let (kind, process) = match &loss.scope {
            Scope::Process(id) => (1, id.0),
            Scope::Module { .. } => (2, NO_PROCESS),
            Scope::Trace | Scope::Stream(_) => (0, NO_PROCESS),
        };
        self.u32(loss.reason.raw()).u64(loss.count);
        self.u32(kind).u32(process);
        match &loss.scope {
            Scope::Module { path, build_id } => self.bytes(&build_id.0).os(path),
            _ => self.bytes(&[]).bytes(&[]),
        };
        self.bytes(loss.note.as_bytes());
    }

    pub(super) fn range(&mut self, range: &Range<u64>) -> &mut Self {
        self.u64(range.start).u64(range.end)
    }

    pub(super) fn time(&mut self, time: SystemTime) -> &mut Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.u64(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// A time, or 0 if it is not known.
    pub(super) fn maybe_time(&mut self, time: Option<SystemTime>) -> &mut Self {
        match time {
            Some(time) => self.time(time),
            None => self.u64(0),
        }
    }

    pub(super) fn mode(&mut self, mode: Mode) -> &mut Self {
        self.u32(match mode {
            Mode::Trace => 1,
            Mode::Unique => 2,
            Mode::Cmp => 3,
        })
    }
}

/// What a payload says that makes no sense.
pub(super) type Nonsense = &'static str;

/// Takes the fields of a payload apart.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub(super) const fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Nonsense> {
        let (array, rest) = self.0.split_first_chunk().ok_or("a field is missing")?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Nonsense> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Nonsense> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Nonsense> {
        let len = self.u32()? as usize;
        let (bytes, rest) = self
            .0
            .split_at_checked(len)
            .ok_or("a text is longer than its section")?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn os(&mut self) -> Result<OsString, Nonsense> {
        Ok(OsString::from_vec(self.bytes()?.to_vec()))
    }

    /// Text for people: what is not UTF-8 is replaced.
    pub(super) fn text(&mut self) -> Result<String, Nonsense> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    /// A length and as many items. Memory grows only with items that are there.
    pub(super) fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, Nonsense>,
    ) -> Result<Vec<T>, Nonsense> {
        let len = self.u32()?;
        (0..len).map(|_| each(self)).collect()
    }

    pub(super) fn command(&mut self) -> Result<Vec<OsString>, Nonsense> {
        self.list(Self::os)
    }

    pub(super) fn drops(&mut self) -> Result<Vec<Drops>, Nonsense> {
        self.list(|from| {
            Ok(Drops {
                reason: DropReason::from_raw(from.u32()?),
                count: from.u64()?,
            })
        })
    }

    /// A loss. One with a scope of a later version may concern any code.
    pub(super) fn loss(&mut self) -> Result<Loss, Nonsense> {
        let reason = DropReason::from_raw(self.u32()?);
        let count = self.u64()?;
        let (kind, process) = (self.u32()?, self.u32()?);
        let build_id = BuildId(self.bytes()?.to_vec());
        let path = self.os()?.into();
        let scope = match kind {
            1 => Scope::Process(ProcessId(process)),
            2 => Scope::Module { path, build_id },
            _ => Scope::Trace,
        };
        Ok(Loss {
            reason,
            count,
            scope,
            note: self.text()?,
        })
    }

    pub(super) fn range(&mut self) -> Result<Range<u64>, Nonsense> {
        let range = self.u64()?..self.u64()?;
        if range.start > range.end {
            return Err("a range of addresses ends before it begins");
        }
        Ok(range)
    }

    pub(super) fn time(&mut self) -> Result<SystemTime, Nonsense> {
        UNIX_EPOCH
            .checked_add(Duration::from_nanos(self.u64()?))
            .ok_or("a time is out of range")
    }

    /// A time, or `None` for 0.
    pub(super) fn maybe_time(&mut self) -> Result<Option<SystemTime>, Nonsense> {
        Ok(Some(self.time()?).filter(|time| *time != UNIX_EPOCH))
    }

    pub(super) fn mode(&mut self) -> Result<Mode, Nonsense> {
        Ok(match self.u32()? {
            1 => Mode::Trace,
            2 => Mode::Unique,
            3 => Mode::Cmp,
            _ => return Err("unknown mode"),
        })
    }

    /// What is left, in whole words.
    pub(super) fn words(self) -> Result<&'a [u8], Nonsense> {
        if !self.0.len().is_multiple_of(rkcov_abi::words::WORD_BYTES) {
            return Err("a chunk is not of whole words");
        }
        Ok(self.0)
    }

    /// Everything has been taken.
    pub(super) fn end(self) -> Result<(), Nonsense> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err("a section is longer than its fields")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_and_every_changed_bit_shows() {
        let header = SectionHeader {
            kind: 5,
            number: 9,
            len: 1 << 40,
            sum: 0x1234_5678,
        };
        let bytes = header.encode();
        assert_eq!(SectionHeader::decode(&bytes), Some(header));
        for bit in 0..SECTION_HEADER * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SectionHeader::decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn padding_reaches_the_next_multiple_of_eight() {
        assert_eq!([0, 1, 7, 8, 9].map(padding), [0, 7, 1, 0, 7]);
    }

    #[test]
    fn kinds_and_numbers_agree() {
        for raw in 0..64 {
            if let Some(kind) = Kind::from_raw(raw, VERSION) {
                assert_eq!(kind as u32, raw);
                assert_eq!(raw & OPTIONAL, 0);
            }
        }
        let known = |version| {
            (1..64)
                .filter_map(|raw| Kind::from_raw(raw, version))
                .count()
        };
        assert_eq!([1, 2].map(known), [8, 12]);
        for version in [1, 2] {
            assert_eq!(Kind::from_raw(OPTIONAL | 1, version), Some(Kind::Loss));
            assert_eq!(Kind::from_raw(OPTIONAL | 2, version), None);
        }
    }
}
