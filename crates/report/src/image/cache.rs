// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a report derives of an image, kept in a folder for the next report.
//!
//! A file holds the control flow of one image and the answers of a [`Symbolizer`](super::Symbolizer). It counts
//! only if the files that it was derived from are unchanged, and if the same build of rkcov wrote it. A file that
//! is damaged counts as none, and so does one whose parts do not fit together.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::answers::Answers;
use super::debug::DebugFile;
use super::folded::StoredFolded;
use super::{Flow, Image, Rows};

/// The first bytes of each file. The digits change with what follows.
const MAGIC: &[u8; 8] = b"rkcovi01";

/// Before the parts: the magic bytes and the checksum.
const HEAD: usize = MAGIC.len() + 4;

/// The share of the whole that one file may have.
const SHARE: u64 = 2;

/// A folder for what reports derive of images.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The folder. It need not exist.
    pub folder: PathBuf,
    /// The build of the program that writes and reads: what another build wrote does not count.
    pub build: String,
    /// How many bytes the files may have together. The files that were not used for the longest time are removed.
    pub limit: u64,
}

/// What is kept of an image.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) flow: Flow,
    pub(crate) rows: Rows,
    pub(crate) answers: Answers,
}

/// Tells whether a file has changed; nothing if there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    path: Vec<u8>,
    file: Option<State>,
}

/// What changes with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let of = |file: &Metadata| State {
            device: file.dev(),
            inode: file.ino(),
            size: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        };
        Self {
            path: path.as_os_str().as_bytes().to_vec(),
            file: path.metadata().as_ref().ok().map(of),
        }
    }

    fn holds(&self) -> bool {
        let path = OsString::from_vec(self.path.clone());
        Self::of(Path::new(&path)) == *self
    }
}

/// Of what the rest of a file was derived.
#[derive(Debug, Serialize, Deserialize)]
struct Source {
    build: String,
    /// The files of the image.
    files: Vec<Stamp>,
    /// Files that its debug information names, and that hold more of it.
    split: Vec<Stamp>,
}

/// Rows as they are stored.
#[derive(Serialize, Deserialize)]
struct StoredRows {
    of_callbacks_alone: Vec<u64>,
    folded: StoredFolded,
}

/// The place of one image in a cache.
pub(crate) struct Slot<'a> {
    cache: &'a Cache,
    path: PathBuf,
    files: Vec<Stamp>,
}

impl Cache {
    /// The place of an image. `None` if it has no build id or is not there.
    pub(super) fn slot(&self, image: &Image) -> Option<Slot<'_>> {
        let binary = image.binary.as_ref()?;
        if image.build_id.is_empty() {
            return None;
        }
        let [debug, rest] =
            [&image.debug, &image.supplementary].map(|file| file.as_ref().map(DebugFile::path));
        let files = [Some(binary.path()), debug, rest];
        let files: Vec<Stamp> = files.into_iter().flatten().map(Stamp::of).collect();
        let key = postcard::to_stdvec(&(&self.build, &files)).ok()?;
        // Different builds of rkcov, and copies of an image, have files of their own.
        let name = format!("{}-{:08x}", image.build_id, crc32fast::hash(&key));
        Some(Slot {
            cache: self,
            path: self.folder.join(name),
            files,
        })
    }

    /// Removes the files that were not used for the longest time, until the others are within the limit.
    fn shrink(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_file() {
                files.push((about.modified()?, about.len(), entry.path()));
            }
        }
        let mut sum: u64 = files.iter().map(|(_, size, _)| size).sum();
        files.sort();
        for (_, size, path) in files {
            if sum <= self.limit {
                break;
            }
            fs::remove_file(path)?;
            sum -= size;
        }
        Ok(())
    }
}

impl Slot<'_> {
    /// What is kept of the image, if all of it is to be trusted.
    pub(crate) fn load(&self) -> Option<Kept> {
        let file = File::open(&self.path).ok()?;
        let about = file.metadata().ok()?;
        let size = about.len();
        if !about.is_file() || size > self.cache.limit / SHARE {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).ok()?);
        file.take(size).read_to_end(&mut bytes).ok()?;
        let kept = self.parse(&bytes)?;
        // It is used: others are removed before it.
        let _ = File::open(&self.path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(kept)
    }

    fn parse(&self, bytes: &[u8]) -> Option<Kept> {
        let (head, parts) = bytes.split_at_checked(HEAD)?;
        let (magic, sum) = head.split_at(MAGIC.len());
        if magic != MAGIC || sum != crc32fast::hash(parts).to_le_bytes() {
            return None;
        }
        let parts = split(parts)?;
        let [source, rows, answers, flow @ ..] = &parts[..] else {
            return None;
        };
        let source: Source = postcard::from_bytes(source).ok()?;
        let mut split = source.split.iter();
        if source.build != self.cache.build
            || source.files != self.files
            || !split.all(Stamp::holds)
        {
            return None;
        }
        let rows: StoredRows = postcard::from_bytes(rows).ok()?;
        let (flow, answers) =
            rayon::join(|| Flow::from_parts(flow), || Answers::from_bytes(answers));
        Some(Kept {
            flow: flow?,
            rows: Rows {
                of_callbacks_alone: rows.of_callbacks_alone.into_iter().collect(),
                folded: rows.folded.into_folded()?,
                split: source
                    .split
                    .into_iter()
                    .map(|stamp| path_of(stamp.path))
                    .collect(),
            },
            answers: answers?,
        })
    }

    /// Keeps it for the next report. Whether that is possible changes nothing for this one.
    pub(crate) fn store(&self, flow: &Flow, rows: &Rows, answers: &Answers) {
        if let Some(parts) = self.parts(flow, rows, answers) {
            let _ = self.write(&parts);
        }
    }

    fn parts(&self, flow: &Flow, rows: &Rows, answers: &Answers) -> Option<Vec<Vec<u8>>> {
        let source = Source {
            build: self.cache.build.clone(),
            files: self.files.clone(),
            split: rows.split.iter().map(|path| Stamp::of(path)).collect(),
        };
        let mut of_callbacks_alone: Vec<u64> = rows.of_callbacks_alone.iter().copied().collect();
        of_callbacks_alone.sort_unstable();
        let rows = StoredRows {
            of_callbacks_alone,
            folded: StoredFolded::of(&rows.folded),
        };
        let mut parts = vec![
            postcard::to_stdvec(&source).ok()?,
            postcard::to_stdvec(&rows).ok()?,
            answers.to_bytes()?,
        ];
        parts.append(&mut flow.parts()?);
        Some(parts)
    }

    fn write(&self, parts: &[Vec<u8>]) -> io::Result<()> {
        let cache = self.cache;
        let mut sum = crc32fast::Hasher::new();
        let mut size = HEAD as u64;
        let sizes: Vec<[u8; 8]> = parts
            .iter()
            .map(|part| (part.len() as u64).to_le_bytes())
            .collect();
        for (length, part) in sizes.iter().zip(parts) {
            sum.update(length);
            sum.update(part);
            size += (length.len() + part.len()) as u64;
        }
        if size > cache.limit / SHARE {
            return Ok(());
        }
        fs::create_dir_all(&cache.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&cache.folder)?;
        file.write_all(MAGIC)?;
        file.write_all(&sum.finalize().to_le_bytes())?;
        for (length, part) in sizes.iter().zip(parts) {
            file.write_all(length)?;
            file.write_all(part)?;
        }
        file.persist(&self.path)?;
        cache.shrink()
    }
}

/// Parts, each behind its length.
pub(super) fn split(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (part, rest) = rest.split_at_checked(length)?;
        parts.push(part);
        bytes = rest;
    }
    Some(parts)
}

pub(super) fn path_of(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

pub(super) fn shared_path(bytes: &[u8]) -> Arc<OsStr> {
    OsStr::from_bytes(bytes).into()
}

/// Offsets from `base`, as files and tables have them.
pub(super) fn offset(address: u64, base: u64) -> Option<u32> {
    u32::try_from(address.checked_sub(base)?).ok()
}

/// A range of addresses as its offset and its length.
pub(super) fn short(range: &Range<u64>, base: u64) -> Option<(u32, u32)> {
    Some((offset(range.start, base)?, offset(range.end, range.start)?))
}
