// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run has recorded so far, for `rkcov report --watch` in another process.
//!
//! While a program runs, a Unix socket stands beside the trace that will be written: `.NAME.watch`. Whoever
//! connects to it and sends [`ASK`] gets [`SNAPSHOT`] and a descriptor of a memory file: a whole trace of what
//! was recorded until then. When the trace is in its place, all who are connected get [`SAVED`]. A connection
//! that ends without it is that of a run which left no trace.
//!
//! Nothing is sent or written unless somebody asks. The socket is made at the first tick, so a run that is
//! over sooner has none.

use rustix::fs::MemfdFlags;
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Asks for a snapshot. Another way of talking would have another byte.
const ASK: u8 = b'1';
/// A snapshot comes with it.
const SNAPSHOT: u8 = b'p';
/// There is no snapshot this time.
const FAILED: u8 = b'f';
/// The trace is in its place.
const SAVED: u8 = b's';

/// Of so much time, one part at most is spent on snapshots.
const PARTS: u32 = 10;

/// Where the socket of a trace is.
struct Place {
    folder: PathBuf,
    name: OsString,
}

impl Place {
    /// Beside `trace`, or beside what a symbolic link of this name leads to, as the trace itself.
    fn of(trace: &Path) -> io::Result<Self> {
        let trace = fs::canonicalize(trace).unwrap_or_else(|_| trace.to_owned());
        let file = trace.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let mut name = OsString::from(".");
        name.push(file);
        name.push(".watch");
        let folder = match trace.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok(Self {
            folder: fs::canonicalize(folder)?,
            name,
        })
    }

    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Does something with a path of the socket. The path of a socket has room for 107 bytes, so it goes
    /// through a descriptor of the folder.
    fn at<T>(&self, what: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        let folder = File::open(&self.folder)?;
        let short = format!("/proc/self/fd/{}", folder.as_raw_fd());
        what(&Path::new(&short).join(&self.name))
    }
}

/// The side of a run.
pub(crate) struct Server {
    trace: PathBuf,
    /// What a tick has not begun yet.
    waiting: bool,
    socket: Option<Socket>,
    watchers: Vec<UnixStream>,
    /// No snapshot is made before.
    rest: Option<Instant>,
}

/// A socket, and its file, which goes with it.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A file that stays is replaced by the next run.
        let _ = fs::remove_file(&self.path);
    }
}

impl Server {
    /// For the run that writes `trace`.
    pub(crate) fn new(trace: &Path) -> Self {
        Self {
            trace: trace.to_owned(),
            waiting: true,
            socket: None,
            watchers: Vec::new(),
            rest: None,
        }
    }

    /// Answers those who ask: `snapshot` writes a trace of what was recorded until now. Call it periodically.
    pub(crate) fn tick(&mut self, snapshot: impl FnOnce(&File) -> io::Result<()>) {
        if std::mem::take(&mut self.waiting) {
            // Where there can be no socket, the run cannot be watched, and goes on all the same.
            self.socket = listen(&self.trace).ok().flatten();
        }
        self.accept();
        if self.rest.is_some_and(|rest| Instant::now() < rest) {
            return;
        }
        let mut asking = Vec::new();
        for mut watcher in std::mem::take(&mut self.watchers) {
            let mut byte = [0];
            match watcher.read(&mut byte) {
                Ok(1) if byte[0] == ASK => asking.push(watcher),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.watchers.push(watcher);
                }
                // It has gone, or says what we do not understand.
                _ => {}
            }
        }
        if asking.is_empty() {
            return;
        }
        let began = Instant::now();
        let file = rustix::fs::memfd_create("rkcov-snapshot", MemfdFlags::CLOEXEC);
        let file = file.map_err(io::Error::from).map(File::from);
        let file = file.and_then(|file| snapshot(&file).map(|()| file));
        asking.retain(|watcher| match &file {
            Ok(file) => send(watcher, SNAPSHOT, Some(file)),
            Err(_) => send(watcher, FAILED, None),
        });
        self.watchers.append(&mut asking);
        self.rest = Some(Instant::now() + began.elapsed() * PARTS);
    }

    fn accept(&mut self) {
        let Some(socket) = &self.socket else { return };
        while let Ok((watcher, _)) = socket.listener.accept() {
            if watcher.set_nonblocking(true).is_ok() {
                self.watchers.push(watcher);
            }
        }
    }

    /// Says that the trace is in its place.
    pub(crate) fn saved(mut self) {
        self.accept();
        for watcher in &self.watchers {
            send(watcher, SAVED, None);
        }
    }
}

/// The socket of a run; none if the trace is no file, or if another run of this trace goes on.
fn listen(trace: &Path) -> io::Result<Option<Socket>> {
    if fs::metadata(trace).is_ok_and(|meta| !meta.is_file()) {
        return Ok(None);
    }
    let place = Place::of(trace)?;
    let bind = || place.at(|path| UnixListener::bind(path));
    let listener = match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match place.at(|path| UnixStream::connect(path)) {
                // It is of a run that was killed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(place.path())?;
                    bind()?
                }
                _ => return Ok(None),
            }
        }
        bound => bound?,
    };
    let path = place.path();
    let socket = Socket { listener, path };
    // Records are for who runs the program.
    fs::set_permissions(&socket.path, Permissions::from_mode(0o600))?;
    socket.listener.set_nonblocking(true)?;
    Ok(Some(socket))
}

/// Sends a byte, perhaps with a file; whether that went well. It never waits.
fn send(to: &UnixStream, byte: u8, file: Option<&File>) -> bool {
    let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&files));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(to, &[IoSlice::new(&[byte])], &mut control, flags) == Ok(1)
}

/// The side of who watches: a run that goes on.
pub(crate) struct Run(UnixStream);

/// What a run has answered.
pub(crate) enum Answer {
    /// Nothing yet.
    None,
    /// A trace of what was recorded until now.
    Snapshot(Vec<u8>),
    /// There is no snapshot this time.
    Failed,
    /// The trace is in its place.
    Saved,
    /// The run has ended without a word.
    Gone,
}

impl Run {
    /// The run that goes on and will write `trace`, if there is one.
    ///
    /// # Errors
    /// Nobody can tell: the folder is not there, or may not be read.
    pub(crate) fn find(trace: &Path) -> io::Result<Option<Self>> {
        let place = Place::of(trace)?;
        match place.at(|path| UnixStream::connect(path)) {
            Ok(stream) => Ok(Some(Self(stream))),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Asks for a snapshot.
    pub(crate) fn ask(&mut self) {
        // That it has gone is said by the answer.
        let _ = self.0.write_all(&[ASK]);
    }

    /// The answer, within `patience`.
    pub(crate) fn answer(&mut self, patience: Duration) -> Answer {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        if self.0.set_read_timeout(Some(patience)).is_err() {
            return Answer::Gone;
        }
        let slices = &mut [IoSliceMut::new(&mut byte)];
        match recvmsg(&self.0, slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) if message.bytes == 1 => {}
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Answer::None,
            _ => return Answer::Gone,
        }
        let file = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next().map(File::from),
            _ => None,
        });
        match (byte[0], file) {
            (SNAPSHOT, Some(mut file)) => {
                let mut bytes = Vec::new();
                let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
                read.map_or(Answer::Failed, |_| Answer::Snapshot(bytes))
            }
            (SAVED, _) => Answer::Saved,
            _ => Answer::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn answered(run: &mut Run, server: &mut Server, text: &str) -> Answer {
        run.ask();
        server.tick(|mut file| file.write_all(text.as_bytes()));
        run.answer(SOON)
    }

    #[test]
    fn who_asks_gets_a_snapshot_and_is_told_of_the_end() {
        let folder = tempfile::tempdir().unwrap();
        // Longer than the path of a socket may be.
        let folder = folder.path().join("f".repeat(200));
        fs::create_dir(&folder).unwrap();
        let trace = folder.join("t.rkcov");
        assert!(Run::find(&trace).unwrap().is_none());

        let mut server = Server::new(&trace);
        server.tick(|_| panic!("nobody has asked"));
        let mode = fs::metadata(folder.join(".t.rkcov.watch")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        let mut run = Run::find(&trace).unwrap().unwrap();
        let mut other = Run::find(&trace).unwrap().unwrap();
        for text in ["first", "second"] {
            server.rest = None;
            let Answer::Snapshot(bytes) = answered(&mut run, &mut server, text) else {
                panic!("{text}");
            };
            assert_eq!(bytes, text.as_bytes());
        }
        // Not before the time that snapshots may take of all time.
        server.rest = Some(Instant::now() + SOON);
        run.ask();
        server.tick(|_| panic!("there is a rest"));
        server.rest = None;
        server.tick(|_| Err(io::ErrorKind::StorageFull.into()));
        assert!(matches!(run.answer(SOON), Answer::Failed));

        server.saved();
        for run in [&mut run, &mut other] {
            assert!(matches!(run.answer(SOON), Answer::Saved));
            assert!(matches!(run.answer(SOON), Answer::Gone));
        }
        assert!(Run::find(&trace).unwrap().is_none());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_run_that_was_killed_leaves_a_socket_that_the_next_one_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("t.rkcov");
        let mut killed = Server::new(&trace);
        killed.tick(|_| Ok(()));
        let mut run = Run::find(&trace).unwrap().unwrap();
        drop(killed);
        assert!(matches!(run.answer(SOON), Answer::Gone));
        // A listener alone leaves its file.
        drop(UnixListener::bind(folder.path().join(".t.rkcov.watch")).unwrap());
        assert!(Run::find(&trace).unwrap().is_none());

        let mut next = Server::new(&trace);
        next.tick(|_| Ok(()));
        // While it goes on, a third one of the same name is not watched, and does not take its place.
        let mut third = Server::new(&trace);
        third.tick(|_| Ok(()));
        assert!(third.socket.is_none());
        drop(third);
        let mut run = Run::find(&trace).unwrap().unwrap();
        assert!(matches!(
            answered(&mut run, &mut next, "next"),
            Answer::Snapshot(_)
        ));
    }

    #[test]
    fn what_is_not_understood_ends_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("t.rkcov");
        let mut server = Server::new(&trace);
        server.tick(|_| Ok(()));
        let mut run = Run::find(&trace).unwrap().unwrap();
        run.0.write_all(b"2").unwrap();
        server.tick(|_| panic!("it did not ask for this"));
        assert!(matches!(run.answer(SOON), Answer::Gone));
    }

    #[test]
    fn a_trace_that_is_no_file_is_not_watched() {
        let mut server = Server::new(Path::new("/dev/null"));
        server.tick(|_| Ok(()));
        assert!(server.socket.is_none());
    }
}
