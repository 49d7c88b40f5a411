// SPDX-License-Identifier: MIT OR Apache-2.0
//! The collector as this process sees it: its memory, and what the process puts into its tables.

use crate::lock::Guarded;
use crate::modules::{self, Moment};
use crate::sys::{self, Fd};
use crate::{lock, stores};
use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicU8, Ordering};
use rkcov_region::{
    Directory, Geometry, Guards, ImageKey, Lost, Piece, Process, Recording, LINES_OFFSET,
};

/// Longest path in an invitation.
pub(super) const PATH_MAX: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum State {
    /// [`super::start`] has not run yet.
    New = 0,
    /// There is no collector.
    Alone = 1,
    /// There is one.
    Active = 2,
}

/// The collector, as this process sees it. Written by [`super::start`] before `state` says so.
pub(super) struct Run {
    pub(super) state: AtomicU32,
    pub(super) directory: AtomicPtr<Directory>,
    pub(super) fd: AtomicI32,
    pub(super) device: AtomicU64,
    pub(super) inode: AtomicU64,
    /// Path of the region, a C string.
    pub(super) path: [AtomicU8; PATH_MAX],
    /// 1 + our index in the table of processes, 0 if a fork has made it void. Under the lock.
    pub(super) process: AtomicU32,
    /// 1 + the index of the process that we were forked from. Under the lock.
    pub(super) forked_from: AtomicU32,
    /// Modules in the table when we were forked. Under the lock.
    pub(super) inherited_modules: AtomicU32,
    /// The context of threads that are in no other: 1 + its index, or 0.
    pub(super) context: AtomicU32,
}

pub(super) static RUN: Run = Run {
    state: AtomicU32::new(State::New as u32),
    directory: AtomicPtr::new(ptr::null_mut()),
    fd: AtomicI32::new(-1),
    device: AtomicU64::new(0),
    inode: AtomicU64::new(0),
    path: [const { AtomicU8::new(0) }; PATH_MAX],
    process: AtomicU32::new(0),
    forked_from: AtomicU32::new(0),
    inherited_modules: AtomicU32::new(0),
    context: AtomicU32::new(0),
};

pub(super) fn state() -> State {
    match RUN.state.load(Ordering::Acquire) {
        0 => State::New,
        2 => State::Active,
        _ => State::Alone,
    }
}

pub(crate) fn is_active() -> bool {
    state() == State::Active
}

pub(super) fn directory() -> Option<&'static Directory> {
    // SAFETY: null, or the mapping that `start()` made, which is never taken away.
    unsafe { RUN.directory.load(Ordering::Relaxed).as_ref() }
}

/// Longest path that is written down.
const LONGEST: usize = 4096;

/// Where paths and command lines are put together: callbacks come here on small stacks, too.
static SCRATCH: Guarded<[u8; LONGEST]> = Guarded::new([0; LONGEST]);

/// The folder that the process started in.
pub(super) struct Folder {
    pub(super) bytes: [u8; LONGEST],
    pub(super) len: usize,
}
pub(super) static FOLDER: Guarded<Folder> = Guarded::new(Folder {
    bytes: [0; LONGEST],
    len: 0,
});

pub(super) fn open_region() -> Result<Fd, sys::Error> {
    // SAFETY: whoever sets the path checks that it leaves room for a zero; no other thread runs then.
    let path = unsafe { CStr::from_ptr(RUN.path.as_ptr().cast()) };
    let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
    Fd::open(path, flags)
}

/// Maps a slot. The file descriptor that we kept is used if it is still ours: programs close
/// descriptors that they do not know. Otherwise the region is opened again.
pub(super) fn map_slot(offset: u64, len: usize) -> Option<*mut u8> {
    with_region(|fd| sys::map_shared(fd, offset, len).ok())
}

fn with_region<T>(f: impl FnOnce(i32) -> Option<T>) -> Option<T> {
    let is_region = |fd: i32| {
        sys::identity(fd).is_ok_and(|(device, inode, _)| {
            (device, inode)
                == (
                    RUN.device.load(Ordering::Relaxed),
                    RUN.inode.load(Ordering::Relaxed),
                )
        })
    };
    let kept = RUN.fd.load(Ordering::Relaxed);
    if is_region(kept) {
        return f(kept);
    }
    let fd = open_region().ok()?;
    if !is_region(fd.raw()) {
        return None;
    }
    f(fd.raw())
}

/// The index of our entry in the table of processes, if we have one. It needs no lock.
pub(super) fn known_process() -> Option<u32> {
    RUN.process.load(Ordering::Relaxed).checked_sub(1)
}

/// The index of our entry in the table of processes, which is made if there is none. The table may
/// be full.
pub(super) fn ensure_process(lock: &mut lock::Held) -> Option<u32> {
    let directory = directory()?;
    if let Some(index) = known_process() {
        return Some(index).filter(|index| (*index as usize) < directory.processes.len());
    }
    let index = directory.header.processes.fetch_add(1, Ordering::AcqRel);
    if index >= directory.header.bounds().processes {
        return None;
    }
    RUN.process.store(index.wrapping_add(1), Ordering::Relaxed);
    let process = directory.processes.get(index as usize)?;
    process.pid.store(sys::pid(), Ordering::Relaxed);
    process.parent.store(sys::parent_pid(), Ordering::Relaxed);
    process.start.store(sys::now(), Ordering::Relaxed);
    let namespace = Fd::open(c"/proc/self/ns/pid", libc::O_RDONLY | libc::O_CLOEXEC)
        .and_then(|fd| sys::identity(fd.raw()))
        .map_or(0, |(_, inode, _)| inode);
    process.pid_namespace.store(namespace, Ordering::Relaxed);
    let forked_from = RUN.forked_from.load(Ordering::Relaxed).checked_sub(1);
    process.set_forked_from(forked_from);
    let inherited = RUN.inherited_modules.load(Ordering::Relaxed);
    process
        .inherited_modules
        .store(inherited, Ordering::Relaxed);
    match forked_from.and_then(|index| directory.processes.get(index as usize)) {
        Some(parent) => {
            process.exe.set(&parent.exe);
            process.cmdline.set(&parent.cmdline);
        }
        None => describe(directory, process, lock),
    }
    process.set_ready();
    for guards in stores::all(index) {
        publish(directory, &guards);
    }
    Some(index)
}

/// Puts an entry into the collector's table of modules with stores.
fn publish(directory: &Directory, guards: &Guards) {
    let index = directory.stores_used.fetch_add(1, Ordering::AcqRel);
    match directory.stores.get(index as usize) {
        Some(entry) => entry.set(guards),
        None => lose(Lost::Stores),
    }
}

/// Tells the collector of a module with stores; `guards` gets the index of our process.
pub(crate) fn publish_stores(lock: &mut lock::Held, guards: impl FnOnce(u32) -> Guards) {
    if let (Some(directory), Some(process)) = (directory(), ensure_process(lock)) {
        publish(directory, &guards(process));
    }
}

/// Something is lost: the collector, if there is one, counts it.
pub(crate) fn lose(what: Lost) {
    if let Some(directory) = directory().filter(|_| is_active()) {
        directory.header.lose(what);
    }
}

/// Whether threads record each PC once.
pub(crate) fn wants_each_once() -> bool {
    let recording = directory().and_then(|d| d.header.recording());
    recording.is_some_and(|(recording, _)| recording == Recording::Unique)
}

/// Maps `len` bytes of a slot in the place of a part of the zone. `false` if it cannot be done.
pub(crate) fn map_stores(slot: u32, offset: u64, to: usize, len: usize) -> bool {
    let geometry = directory().and_then(|d| d.header.recording());
    let Some((_, geometry)) = geometry else {
        return false;
    };
    let at = geometry.slot_offset(slot).wrapping_add(offset);
    // SAFETY: the part of a map for the guards of a module, which only that module's stores use.
    with_region(|fd| unsafe { sys::map_shared_at(fd, at, to, len).ok() }).is_some()
}

/// The callback that stores are made calls of.
pub(crate) fn store_callback() -> u64 {
    #[cfg(target_arch = "x86_64")]
    let at = crate::callbacks::__sanitizer_cov_trace_pc_store as *const () as u64;
    #[cfg(not(target_arch = "x86_64"))]
    let at = 0;
    at
}

/// Writes down which program this is.
fn describe(directory: &Directory, process: &Process, lock: &mut lock::Held) {
    let buf = SCRATCH.get(lock);
    let bounds = directory.header.bounds();
    if let Some(exe) = directory
        .paths
        .put(&[sys::executable(buf)], bounds.path_bytes)
    {
        process.exe.put(exe);
    }
    let cmdline = Fd::open(c"/proc/self/cmdline", libc::O_RDONLY | libc::O_CLOEXEC);
    let n = cmdline.and_then(|fd| fd.read(buf)).unwrap_or(0);
    let cmdline = buf.get(..n).unwrap_or(&[]);
    // Without its command line a process is still known by its executable.
    if let Some(line) = put_line(directory, cmdline, bounds.line_bytes) {
        process.cmdline.put(line);
    }
}

/// Stores a command line. They are not in the directory, since each is written once, and read by
/// the collector only.
fn put_line(directory: &Directory, line: &[u8], limit: u64) -> Option<Piece> {
    let len = line.len() as u64;
    let at = directory.header.lines.fetch_add(len, Ordering::Relaxed);
    let end = at.checked_add(len);
    end.filter(|end| len > 0 && *end <= limit)?;
    put_text(LINES_OFFSET, at, line).then_some(Piece {
        at: at as u32,
        len: len as u32,
    })
}

/// Writes text at `at` in the part of the region that begins at `start`, where nobody else writes.
/// Not by `write()`, which ends a program whose files are limited (`ulimit -f`).
pub(super) fn put_text(start: u64, at: u64, text: &[u8]) -> bool {
    if text.is_empty() {
        return true;
    }
    let page = sys::PAGE as u64;
    let first = at / page * page;
    let end = at.wrapping_add(text.len() as u64);
    let bytes = end.next_multiple_of(page).wrapping_sub(first) as usize;
    let Some(map) = map_slot(start.wrapping_add(first), bytes) else {
        return false;
    };
    // SAFETY: so many bytes are mapped, the text's end among them; nobody else has this part of
    // the region, and the collector reads it by system calls.
    unsafe {
        let to = map.add(at.wrapping_sub(first) as usize);
        ptr::copy_nonoverlapping(text.as_ptr(), to, text.len());
        sys::unmap(map, bytes);
    }
    true
}

/// The bitmap of a slot is zeros again, whoever records there.
pub(super) fn clear_bitmap(geometry: &Geometry, slot: u32) {
    let at = geometry.slot_offset(slot);
    let at = at.wrapping_add(geometry.stores_bytes());
    let len = geometry.bitmap_bytes();
    with_region(|fd| sys::punch(fd, at, len).ok());
}

/// Puts a module into the collector's table. When the process exits, no system call says where its
/// file is: the dynamic linker's name has to do.
pub(crate) fn add_module(lock: &mut lock::Held, found: &modules::Found, moment: Moment) {
    if !is_active() {
        return;
    }
    let Some(directory) = directory() else { return };
    let Some(process) = ensure_process(lock) else {
        return;
    };
    let put = |path: &[&[u8]]| {
        let image = ImageKey {
            path: Piece::default(),
            build_id: found.build_id.get(..found.build_id_len).unwrap_or(&[]),
            text_start: found.text_start.wrapping_sub(found.bias),
            text_end: found.text_end.wrapping_sub(found.bias),
        };
        // What finds no room is counted there.
        let _ = directory.add_module(process, path, found.bias, image);
    };
    let name = found.name();
    if moment == Moment::Now {
        let path = sys::mapped_path(found.text_start, SCRATCH.get(lock));
        if !path.is_empty() {
            return put(&[path]);
        }
        if sys::is_kernels(found.bias) {
            return;
        }
        // Without `/proc`.
        if name.is_empty() {
            return put(&[sys::executable(SCRATCH.get(lock))]);
        }
    }
    let folder = FOLDER.get(lock);
    let folder = folder.bytes.get(..folder.len).unwrap_or(&[]);
    match name.first() {
        Some(b'/') | None => put(&[name]),
        Some(_) => put(&[folder, b"/", name]),
    }
}

/// Where the count word of a slot is in the region.
pub(super) fn tape_offset(geometry: &Geometry, slot: u32) -> u64 {
    geometry
        .slot_offset(slot)
        .wrapping_add(geometry.count_offset())
}

/// Number of modules in the collector's table, for a fork that is about to happen.
pub(crate) fn modules_now() -> u32 {
    directory().map_or(0, |d| d.header.loaded.load(Ordering::Acquire))
}
