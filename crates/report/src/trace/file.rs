// SPDX-License-Identifier: MIT OR Apache-2.0
//! Traces in files: mapped for reading, put in place whole when written.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;
use tempfile::NamedTempFile;

use super::{list, Info, OpenError, Trace, TraceError, Writer};

/// The bytes of a trace file, or of a list of PCs, which is read as a trace.
#[derive(Debug)]
pub struct TraceFile {
    path: PathBuf,
    bytes: Bytes,
    /// What is wrong with a list.
    wrong: Option<TraceError>,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Read(Vec<u8>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(bytes) => bytes,
        }
    }
}

impl TraceFile {
    /// Opens the file `path` and maps it; what cannot be mapped (a pipe) is read.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let read = || {
            let bytes = bytes_of(&path)?;
            if !list::is_list(bytes.get()) {
                return Ok((bytes, None));
            }
            let (trace, wrong) = list::trace_of(bytes.get())?;
            Ok((Bytes::Read(trace), wrong))
        };
        match read() {
            Ok((bytes, wrong)) => Ok(Self { path, bytes, wrong }),
            Err(source) => Err(OpenError::Io { path, source }),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The trace in it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn trace(&self) -> Result<Trace<'_>, OpenError> {
        match &self.wrong {
            Some(wrong) => Err(self.wrong(wrong.clone())),
            None => Trace::parse(self.bytes.get()).map_err(|source| self.wrong(source)),
        }
    }

    /// How the trace in it came to be; nothing else of it is read.
    ///
    /// # Errors
    /// It does not begin as a trace does.
    pub fn info(&self) -> Result<Info, OpenError> {
        Trace::describe(self.bytes.get()).map_err(|source| self.wrong(source))
    }

    /// What of the trace stands before the first thing that is wrong, and what that is.
    ///
    /// # Errors
    /// If nothing of it can be read.
    pub fn salvage(&self) -> Result<(Trace<'_>, Option<OpenError>), OpenError> {
        match Trace::salvage(self.bytes.get()) {
            Ok((trace, wrong)) => {
                let wrong = self.wrong.clone().or(wrong);
                Ok((trace, wrong.map(|source| self.wrong(source))))
            }
            Err(source) => Err(self.wrong(source)),
        }
    }

    fn wrong(&self, source: TraceError) -> OpenError {
        OpenError::Trace {
            path: self.path.clone(),
            source,
        }
    }
}

fn bytes_of(path: &Path) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if kind.is_file() {
        // SAFETY: rkcov never changes a trace file, it puts a new one in its place. Were another
        // program to change it, we would see other bytes, all of which the reader stands, or get
        // SIGBUS if it became shorter.
        if let Ok(map) = unsafe { Mmap::map(&file) } {
            return Ok(Bytes::Mapped(map));
        }
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Bytes::Read(bytes))
}

/// Where a trace is written to.
///
/// A regular file is written beside its final place, as `.NAME.XXXXXX.unfinished`, and renamed
/// when it is whole, so nobody ever sees half a trace under its name, and of two runs with the
/// same name the later one to end wins. Anything else (a pipe, a device) is written to directly.
#[derive(Debug)]
pub struct Output {
    to: Sink,
}

#[derive(Debug)]
enum Sink {
    Beside {
        temporary: NamedTempFile,
        path: PathBuf,
    },
    Direct(File),
}

impl Output {
    fn create(path: &Path) -> io::Result<Self> {
        // Through a symbolic link, the file that it leads to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let special = fs::metadata(&path).is_ok_and(|meta| !meta.is_file());
        let to = if special {
            Sink::Direct(OpenOptions::new().write(true).open(&path)?)
        } else {
            let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
            let mut prefix = std::ffi::OsString::from(".");
            prefix.push(name);
            prefix.push(".");
            let folder = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let temporary = tempfile::Builder::new()
                .prefix(&prefix)
                .suffix(".unfinished")
                // As any file that is made: what the umask leaves.
                .permissions(Permissions::from_mode(0o666))
                .tempfile_in(folder)?;
            Sink::Beside { temporary, path }
        };
        Ok(Self { to })
    }

    fn put_in_place(self) -> io::Result<()> {
        match self.to {
            Sink::Beside { temporary, path } => {
                temporary.persist(path)?;
            }
            Sink::Direct(_) => {}
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.to {
            Sink::Beside { temporary, .. } => temporary.write(bytes),
            Sink::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            Sink::Beside { temporary, .. } => temporary.flush(),
            Sink::Direct(file) => file.flush(),
        }
    }
}

impl Writer<io::BufWriter<Output>> {
    /// Begins a trace that will stand at `path` once it is [saved](Self::save). If it is dropped
    /// before, `path` is as it was.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: impl AsRef<Path>, info: &Info) -> io::Result<Self> {
        Self::new(io::BufWriter::new(Output::create(path.as_ref())?), info)
    }

    /// Ends the trace and puts it in its place.
    ///
    /// # Errors
    /// What the system says: no space, no reader at the other end of a pipe. A regular file is
    /// then as it was before.
    pub fn save(self) -> io::Result<()> {
        self.save_at(SystemTime::now())
    }

    /// Ends the trace, of which recording ended at `ended`, and puts it in its place.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_at(self, ended: SystemTime) -> io::Result<()> {
        let output = self.finish_at(ended)?.into_inner();
        let output = output.map_err(|e| e.into_error())?;
        output.put_in_place()
    }
}
