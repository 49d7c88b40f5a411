// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov run`: a collector outside of the process owns the memory that threads record into.
//!
//! A process finds the collector by its environment when it starts. Its threads take a slot each
//! when they first run instrumented code; see [`attach`]. A forked child does so anew.

pub(crate) mod contexts;

use crate::lock::Guarded;
use crate::mark::Mark;
use crate::modules::{self, Moment};
use crate::sys::{self, Fd};
use crate::tls::{self, Tls, UNATTACHED};
use crate::{lock, maps, record, stores, threads};
use core::ffi::{c_char, CStr};
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicU8, Ordering};
use rkcov_abi::Words;
use rkcov_core::hot::Mode;
use rkcov_core::sync::{interrupt_fence, Word};
use rkcov_core::Sink;
use rkcov_region::{
    Directory, Geometry, Guards, Header, ImageKey, Invitation, Kind, Lost, Maker, Piece, Process,
    Recording, Refusal, Slot, SlotState, CONTEXT_ENVIRONMENT, ENVIRONMENT, INHERITED_FD,
    LINES_OFFSET, LINK, MAKER_ENVIRONMENT, REFUSAL, VERSION,
};

/// Longest path in an invitation.
const PATH_MAX: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum State {
    /// [`start`] has not run yet.
    New = 0,
    /// There is no collector.
    Alone = 1,
    /// There is one.
    Active = 2,
}

/// The collector, as this process sees it. Written by [`start`] before `state` says so.
struct Run {
    state: AtomicU32,
    directory: AtomicPtr<Directory>,
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
    /// Path of the region, a C string.
    path: [AtomicU8; PATH_MAX],
    /// 1 + our index in the table of processes, 0 if a fork has made it void. Under the lock.
    process: AtomicU32,
    /// 1 + the index of the process that we were forked from. Under the lock.
    forked_from: AtomicU32,
    /// Modules in the table when we were forked. Under the lock.
    inherited_modules: AtomicU32,
    /// The context of threads that are in no other: 1 + its index, or 0.
    context: AtomicU32,
}

static RUN: Run = Run {
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

fn state() -> State {
    match RUN.state.load(Ordering::Acquire) {
        0 => State::New,
        2 => State::Active,
        _ => State::Alone,
    }
}

pub(crate) fn is_active() -> bool {
    state() == State::Active
}

fn directory() -> Option<&'static Directory> {
    // SAFETY: null, or the mapping that `start()` made, which is never taken away.
    unsafe { RUN.directory.load(Ordering::Relaxed).as_ref() }
}

/// Starts the runtime in a new process image. Runs before all constructors of an executable that
/// has the runtime in it; a second call does nothing.
///
/// # Safety
/// `envp` is null or a null-terminated array of C strings.
pub(crate) unsafe fn start(envp: *const *const c_char) {
    if state() != State::New {
        return;
    }
    // SAFETY: the caller's contract.
    let active = match unsafe { invitation(envp) } {
        Asked::Nobody => come_unasked(),
        Asked::By(invitation) => join(&invitation),
        Asked::Wrongly => false,
        Asked::Secure => {
            decline();
            false
        }
    };
    let state = if active { State::Active } else { State::Alone };
    RUN.state.store(state as u32, Ordering::Release);
    if active {
        // SAFETY: the caller's contract.
        contexts::come(unsafe { variable(envp, CONTEXT_ENVIRONMENT) });
        // SAFETY: the caller's contract.
        made_by(unsafe { variable(envp, MAKER_ENVIRONMENT) });
        threads::watch();
        let mut lock = lock::take();
        Mark::Run.make(&lock);
        let folder = FOLDER.get(&mut lock);
        folder.len = sys::read_link(c"/proc/self/cwd", &mut folder.bytes).len();
        ensure_process(&mut lock);
        maps::wake(&lock);
        drop(lock);
        modules::scan();
        maps::begin();
    }
}

/// Longest path that is written down.
const LONGEST: usize = 4096;

/// Where paths and command lines are put together: callbacks come here on small stacks, too.
static SCRATCH: Guarded<[u8; LONGEST]> = Guarded::new([0; LONGEST]);

/// The folder that the process started in.
struct Folder {
    bytes: [u8; LONGEST],
    len: usize,
}
static FOLDER: Guarded<Folder> = Guarded::new(Folder {
    bytes: [0; LONGEST],
    len: 0,
});

/// What the environment says.
enum Asked {
    /// Nothing.
    Nobody,
    /// Whom to join.
    By(Invitation<'static>),
    /// Nonsense.
    Wrongly,
    /// Whatever it says, this process has rights that its caller has not.
    Secure,
}

/// # Safety
/// `envp` is null or a null-terminated array of C strings.
unsafe fn invitation(envp: *const *const c_char) -> Asked {
    // SAFETY: a plain question.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return Asked::Secure;
    }
    // SAFETY: the caller's contract.
    match unsafe { variable(envp, ENVIRONMENT) } {
        None => Asked::Nobody,
        Some(value) => Invitation::parse(value).map_or(Asked::Wrongly, Asked::By),
    }
}

/// The value of a variable of the environment.
///
/// # Safety
/// `envp` is null or a null-terminated array of C strings.
unsafe fn variable(envp: *const *const c_char, name: &str) -> Option<&'static [u8]> {
    if envp.is_null() {
        return None;
    }
    let mut at = envp;
    loop {
        // SAFETY: the array ends with a null pointer, which was not met yet.
        let entry = unsafe { at.read() };
        if entry.is_null() {
            return None;
        }
        // SAFETY: an entry is a C string, and the environment block is never freed.
        let entry: &'static CStr = unsafe { CStr::from_ptr(entry) };
        let value = entry
            .to_bytes()
            .strip_prefix(name.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"="));
        if value.is_some() {
            return value;
        }
        at = at.wrapping_add(1);
    }
}

/// A region's file, open.
enum Way {
    /// As [`INHERITED_FD`], which stays as it is.
    Inherited,
    Opened(Fd),
}

impl Way {
    fn raw(&self) -> i32 {
        match self {
            Self::Inherited => INHERITED_FD,
            Self::Opened(fd) => fd.raw(),
        }
    }
}

/// Joins the collector of the invitation. Says why if that cannot be done though somebody collects.
fn join(invitation: &Invitation<'_>) -> bool {
    if invitation.path.len() >= PATH_MAX {
        return false;
    }
    set_path(invitation.path);
    let token = Some(invitation.token);
    if sys::is_sealed(INHERITED_FD) {
        match enter(Way::Inherited, token) {
            Entered::Joined => return true,
            Entered::Refused => return false,
            // It is that of a run around ours.
            Entered::Foreign => set_path(invitation.path),
        }
    }
    match open_region() {
        Ok(fd) => matches!(enter(Way::Opened(fd), token), Entered::Joined),
        Err(_) => match from_a_parent() {
            Some(fd) => matches!(enter(Way::Opened(fd), token), Entered::Joined),
            None => refuse(b"it cannot open the memory of rkcov run"),
        },
    }
}

/// Joins the collector of whoever started us, if there is one: the environment says nothing, since
/// somebody has cleared it. Nobody has asked, so nobody is told if there is none.
fn come_unasked() -> bool {
    if sys::is_sealed(INHERITED_FD) {
        return matches!(enter(Way::Inherited, None), Entered::Joined);
    }
    from_a_parent().is_some_and(|fd| matches!(enter(Way::Opened(fd), None), Entered::Joined))
}

/// Parents that are asked at most.
const ANCESTORS: usize = 32;

/// The region's file, as one of our parents has it: who starts programs often closes what they would
/// inherit, but seldom in itself.
#[inline(never)]
fn from_a_parent() -> Option<Fd> {
    let mut pid = sys::parent_pid();
    for _ in 0..ANCESTORS {
        if pid == 0 {
            return None;
        }
        let fd = sys::open_of_process(pid, INHERITED_FD, LINK);
        if let Some(fd) = fd.filter(|fd| sys::is_sealed(fd.raw())) {
            return Some(fd);
        }
        pid = sys::parent_of(pid)?;
    }
    None
}

/// Tells the collector, if there is one, that this process does not come. It maps nothing but what
/// cannot be cut, and adds 1 to one number there.
fn decline() {
    if !sys::is_sealed(INHERITED_FD) {
        return;
    }
    let bytes = size_of::<Header>();
    let size = sys::identity(INHERITED_FD).map_or(0, |(_, _, size)| size);
    if size < size_of::<Directory>() as u64 {
        return;
    }
    let Ok(at) = sys::map_shared(INHERITED_FD, 0, bytes) else {
        return;
    };
    // SAFETY: at least as many bytes are mapped, on a page's start, and all of it is atomics.
    let header = unsafe { &*at.cast::<Header>() };
    if header.prefix.kind() == Kind::Known {
        count_refusal(header, Refusal::Secure);
    }
    // SAFETY: `header` is not used any more.
    unsafe { sys::unmap(at, bytes) };
}

fn set_path(path: &[u8]) {
    let path = path.iter().copied().chain([0]);
    for (to, from) in RUN.path.iter().zip(path) {
        to.store(from, Ordering::Relaxed);
    }
}

fn refuse(why: &[u8]) -> bool {
    sys::complain(&[REFUSAL, why, b"\n"]);
    false
}

/// What became of a region that was found.
enum Entered {
    Joined,
    /// Somebody collects, but we cannot come.
    Refused,
    /// It is nobody's, or that of somebody else.
    Foreign,
}

/// Maps the collector's directory. `token` is that of the collector, if it is known.
fn enter(fd: Way, token: Option<u64>) -> Entered {
    let Ok((device, inode, size)) = sys::identity(fd.raw()) else {
        return Entered::Foreign;
    };
    let header_bytes = size_of::<Header>();
    if size < header_bytes as u64 {
        return Entered::Foreign;
    }
    let no_room = || {
        refuse(b"it cannot map the memory of rkcov run");
        Entered::Refused
    };
    let Ok(header_at) = sys::map_shared(fd.raw(), 0, header_bytes) else {
        return no_room();
    };
    // SAFETY: at least as many bytes are mapped, on a page's start, and all of it is atomics. Of
    // another version only the prefix is looked at.
    let header = unsafe { &*header_at.cast::<Header>() };
    let prefix = &header.prefix;
    let kind = prefix.kind();
    let ours = token.is_none_or(|token| prefix.token.load(Ordering::Relaxed) == token);
    if let (Kind::Version(_), true) = (kind, ours) {
        prefix.stranger_version.store(VERSION, Ordering::Relaxed);
        prefix.strangers.fetch_add(1, Ordering::Relaxed);
    }
    // A process that outlived its collector finds nothing, or somebody else's file: no reason
    // to complain. One of another version is reported by the collector.
    let welcome = kind == Kind::Known && ours && size >= size_of::<Directory>() as u64;
    let mapped = welcome.then(|| {
        let bytes = size_of::<Directory>();
        let mapped = match sys::has_room(bytes) {
            true => sys::map_shared(fd.raw(), 0, bytes),
            false => Err(sys::Error(libc::ENOMEM)),
        };
        if mapped.is_err() {
            count_refusal(header, Refusal::NoRoom);
        }
        mapped
    });
    // SAFETY: `header` is not used any more.
    unsafe { sys::unmap(header_at, header_bytes) };
    let at = match mapped {
        None => return Entered::Foreign,
        Some(Err(_)) => return no_room(),
        Some(Ok(at)) => at,
    };
    RUN.device.store(device, Ordering::Relaxed);
    RUN.inode.store(inode, Ordering::Relaxed);
    RUN.directory.store(at.cast(), Ordering::Relaxed);
    match fd {
        Way::Inherited => RUN.fd.store(INHERITED_FD, Ordering::Relaxed),
        Way::Opened(fd) => {
            if let Ok(kept) =
                sys::duplicate(fd.raw(), sys::FD_FLOOR).or_else(|_| sys::duplicate(fd.raw(), 3))
            {
                RUN.fd.store(kept.into_raw(), Ordering::Relaxed);
            }
        }
    }
    let Some(directory) = directory() else {
        return Entered::Foreign;
    };
    let path = directory.header.path();
    if let Some(path) = path
        .split(|byte| *byte == 0)
        .next()
        .filter(|path| !path.is_empty())
    {
        set_path(path);
    }
    if directory.header.closed.load(Ordering::Relaxed) == 0 {
        Entered::Joined
    } else {
        Entered::Foreign
    }
}

fn count_refusal(header: &Header, why: Refusal) {
    if let Some(count) = header.refused.get(why as usize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn open_region() -> Result<Fd, sys::Error> {
    // SAFETY: whoever sets the path checks that it leaves room for a zero; no other thread runs then.
    let path = unsafe { CStr::from_ptr(RUN.path.as_ptr().cast()) };
    let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
    Fd::open(path, flags)
}

/// Maps a slot. The file descriptor that we kept is used if it is still ours: programs close
/// descriptors that they do not know. Otherwise the region is opened again.
fn map_slot(offset: u64, len: usize) -> Option<*mut u8> {
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
fn known_process() -> Option<u32> {
    RUN.process.load(Ordering::Relaxed).checked_sub(1)
}

/// The index of our entry in the table of processes, which is made if there is none. The table may
/// be full.
fn ensure_process(lock: &mut lock::Held) -> Option<u32> {
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
fn put_text(start: u64, at: u64, text: &[u8]) -> bool {
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
fn clear_bitmap(geometry: &Geometry, slot: u32) {
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

/// Decides what a thread records that has not recorded anything yet. Called by callbacks, so
/// anywhere: in signal handlers, in allocators, in threads that nobody told us of.
#[cold]
pub(crate) fn attach(tls: &Tls) {
    if state() == State::Alone {
        // No system call: the program may run in a sandbox that has no word of us.
        maps::arrive(tls);
        tls.set_idle(Sink::OFF);
        return;
    }
    let _signals = sys::SignalsBlocked::new();
    if tls.hot.mode.load(Ordering::Relaxed) & UNATTACHED == 0 {
        return;
    }
    if state() == State::New {
        // Nothing is known yet: ask again at the next callback.
        return;
    }
    // Should libc itself be instrumented, what we call of it must not come back here.
    tls.hot.mode.store(Mode::Off as u32, Ordering::Relaxed);
    maps::arrive(tls);
    let idle = match state() {
        State::New | State::Alone => Sink::OFF,
        State::Active => match directory() {
            Some(directory) => take_slot(tls, directory),
            None => Sink::OFF,
        },
    };
    tls.set_idle(idle);
}

fn take_slot(tls: &Tls, directory: &'static Directory) -> Sink {
    let header = &directory.header;
    if header.closed.load(Ordering::Relaxed) != 0 {
        return Sink::OFF;
    }
    let Some((recording, geometry)) = header.recording() else {
        return Sink::OFF;
    };
    unmap_left_slots();
    let known = known_process().filter(|index| (*index as usize) < directory.processes.len());
    let process = known.or_else(|| ensure_process(&mut lock::take()));
    let process = process.unwrap_or(u32::MAX);
    // All of the slot if there is room: a sandbox may forbid to map more later on.
    let (bits, len) = if sys::has_room(geometry.slot_bytes() as usize) {
        (geometry.bitmap_bits(), tape_bytes(&geometry))
    } else {
        (0, FIRST_BYTES.min(tape_bytes(&geometry)))
    };
    let taken = directory.tickets.take().and_then(|slot| {
        let head = directory.slots.get(slot as usize)?;
        let offset = tape_offset(&geometry, slot).wrapping_sub(bits / 8);
        let at = map_slot(offset, len.wrapping_add(bits / 8) as usize)?;
        Some((slot, head, at))
    });
    let Some((number, slot, at)) = taken else {
        header.threads_without_slot.fetch_add(1, Ordering::Relaxed);
        return no_slot(recording, &header.records_without_slot);
    };
    slot.process.store(process, Ordering::Relaxed);
    slot.tid.store(sys::thread_id(), Ordering::Relaxed);
    slot.set_name(&sys::thread_name());
    let mut serial = tls.serial.load(Ordering::Relaxed);
    if serial == 0 {
        let last = header.threads.fetch_add(1, Ordering::Relaxed);
        serial = last.wrapping_add(1);
        tls.serial.store(serial, Ordering::Relaxed);
    }
    slot.serial.store(serial, Ordering::Relaxed);
    let maker = tls.maker.load(Ordering::Relaxed);
    slot.maker.store(maker, Ordering::Relaxed);
    let [began, _] = &slot.ticks;
    began.store(rkcov_region::ticks(), Ordering::Relaxed);
    contexts::opened(tls, directory, slot);
    tls.slot
        .store(ptr::from_ref(slot).cast_mut(), Ordering::Relaxed);
    tls.slot_number.store(number, Ordering::Relaxed);
    threads::announce_end(tls);
    if recording == Recording::Unique {
        let alone = slot.context.load(Ordering::Relaxed) != 0;
        tls.map.store(maps::take(number, alone), Ordering::Relaxed);
    }
    tape(tls, (recording, geometry), at, len, bits)
}

/// Bytes of a slot that are mapped at first where room is scarce, of the count word and the records.
const FIRST_BYTES: u64 = 1 << 16;

/// Where the count word of a slot is in the region.
fn tape_offset(geometry: &Geometry, slot: u32) -> u64 {
    geometry
        .slot_offset(slot)
        .wrapping_add(geometry.count_offset())
}

/// Bytes of the count word and all records.
fn tape_bytes(geometry: &Geometry) -> u64 {
    geometry.slot_bytes().wrapping_sub(geometry.count_offset())
}

/// The thread's slot is mapped at `at`: a bitmap of `bits`, and `len` bytes of count word and records.
fn tape(tls: &Tls, what: (Recording, Geometry), at: *mut u8, len: u64, bits: u64) -> Sink {
    let (recording, geometry) = what;
    let words = |n| Words::new(n).unwrap_or_default();
    // The last page may have more words than the buffer.
    let trace = words((len / 8).min(geometry.buffer_words()));
    let bitmap = words(bits / 64);
    let mode = mode(recording);
    let record = match mode {
        Mode::Cmp => rkcov_abi::TraceMode::Cmp,
        _ => rkcov_abi::TraceMode::Pc,
    };
    tls.slot_at.store(at, Ordering::Relaxed);
    tls.slot_len
        .store(len.wrapping_add(bits / 8), Ordering::Relaxed);
    let area = at.wrapping_add((bits / 8) as usize).cast();
    tls.tape.area.store(area, Ordering::Relaxed);
    tls.tape.bits.store(bits, Ordering::Relaxed);
    let limit = trace.records(record.record_words());
    tls.tape.limit.store(limit, Ordering::Relaxed);
    tls.tape.mode.store(mode as u32, Ordering::Relaxed);
    let full = full_counter(tls);
    // SAFETY: as many words are mapped, and stay so until `leave()`, which sets another sink first,
    // or until the tape is mapped anew, likewise. The counter is the slot's, or never used.
    unsafe { Sink::new(mode, at.cast(), bitmap, trace, full) }
}

/// Where the thread's slot counts records that found no room.
fn full_counter(tls: &Tls) -> *const AtomicU64 {
    // SAFETY: null, or in the directory, which stays mapped.
    let slot = unsafe { tls.slot.load(Ordering::Relaxed).as_ref() };
    slot.map_or(ptr::null(), |slot| ptr::from_ref(&slot.dropped))
}

/// A record for the collector found no room.
pub(crate) fn count_full(tls: &Tls) {
    // SAFETY: null, or in the directory, which stays mapped.
    if let Some(full) = unsafe { full_counter(tls).as_ref() } {
        full.fetch_add(1, Ordering::Relaxed);
    }
}

/// The tape of the calling thread is full: maps more of its slot. `false` if that is all of it, or if
/// it cannot be done here.
#[cold]
pub(crate) fn grow(tls: &Tls) -> bool {
    let Some(what) = directory().and_then(|d| d.header.recording()) else {
        return false;
    };
    let (_, geometry) = what;
    if tls.is_inside() || !tls.tape.is_there() {
        return false;
    }
    let _signals = sys::SignalsBlocked::new();
    let bits = tls.tape.bits.load(Ordering::Relaxed);
    let (at, mapped) = (
        tls.slot_at.load(Ordering::Relaxed),
        tls.slot_len.load(Ordering::Relaxed),
    );
    let len = mapped.wrapping_sub(bits / 8);
    let longer = len.saturating_mul(4).min(tape_bytes(&geometry));
    if longer <= len || !sys::has_room(longer as usize) {
        return false;
    }
    tls.set_idle(Sink::OFF);
    let all = longer.wrapping_add(bits / 8) as usize;
    // SAFETY: what `tape()` was told is such a mapping, and the thread does not record there now.
    let grown = unsafe { sys::grow(at, mapped as usize, all) };
    let sink = match grown {
        Ok(at) => tape(tls, what, at, longer, bits),
        Err(_) => tape(tls, what, at, len, bits),
    };
    tls.set_idle(sink);
    grown.is_ok()
}

/// A call without a check comes to the tape of the calling thread: its bitmap is mapped now, if it was
/// not and there is room.
pub(crate) fn need_bitmap(tls: &Tls) {
    if tls.tape.bits.load(Ordering::Relaxed) == 0 {
        add_bitmap(tls);
    }
}

#[cold]
fn add_bitmap(tls: &Tls) {
    /// There was no room once.
    static NO_ROOM: AtomicU32 = AtomicU32::new(0);
    let Some(what) = directory().and_then(|d| d.header.recording()) else {
        return;
    };
    let (_, geometry) = what;
    let bits = geometry.bitmap_bits();
    if bits == 0 || tls.is_inside() || NO_ROOM.load(Ordering::Relaxed) != 0 {
        return;
    }
    let _signals = sys::SignalsBlocked::new();
    let (old, len) = (
        tls.slot_at.load(Ordering::Relaxed),
        tls.slot_len.load(Ordering::Relaxed),
    );
    let offset = geometry
        .slot_offset(tls.slot_number.load(Ordering::Relaxed))
        .wrapping_add(geometry.stores_bytes());
    let Some(at) = map_slot(offset, geometry.bitmap_bytes().wrapping_add(len) as usize) else {
        NO_ROOM.store(1, Ordering::Relaxed);
        return;
    };
    let sink = tape(tls, what, at, len, bits);
    tls.set_idle(sink);
    // SAFETY: the thread recorded there until now, and does not any more.
    unsafe { sys::unmap(old, len as usize) };
}

/// Records nothing, and counts what it does not record.
fn no_slot(recording: Recording, counter: &'static AtomicU64) -> Sink {
    static COUNT: Word = Word::new(0);
    let base = ptr::from_ref(&COUNT).cast_mut();
    let (none, one) = (Words::default(), Words::new(1).unwrap_or_default());
    // SAFETY: one word, the count word, behind which no record fits; both live for ever.
    unsafe { Sink::new(mode(recording), base, none, one, counter) }
}

fn mode(recording: Recording) -> Mode {
    match recording {
        Recording::Trace => Mode::Pc,
        Recording::Cmp => Mode::Cmp,
        Recording::Unique => Mode::Unique,
    }
}

/// The calling thread gives its slot up, in `state`, and records nothing any more. Like the exit of
/// the process, this makes no system call: a sandbox may forbid what a program does not need.
pub(crate) fn leave(tls: &Tls, state: SlotState) {
    // Whoever else has this map may store into what is in the slot.
    let shared = stores::are_there() && maps::is_shared(tls.map.load(Ordering::Relaxed));
    // From here on a handler on top of us leaves the slot alone.
    off(tls);
    interrupt_fence();
    let ours = !Mark::Run.is_wiped();
    if let Some(slot) = detach(tls).filter(|_| ours) {
        let [_, ended] = &slot.ticks;
        ended.store(rkcov_region::ticks(), Ordering::Relaxed);
        contexts::closed(slot);
        if !shared {
            slot.set_state(state);
        }
    }
}

/// The serial number that threads which this one makes have for their maker's.
pub(crate) fn maker(tls: &Tls) -> u64 {
    let own = tls.serial.load(Ordering::Relaxed);
    if own != 0 {
        own
    } else {
        tls.maker.load(Ordering::Relaxed)
    }
}

/// The process begins: it may say which thread has started it.
fn made_by(said: Option<&[u8]>) {
    let token = directory().map(|d| d.header.prefix.token.load(Ordering::Relaxed));
    let said = said.and_then(Maker::parse);
    if let Some(said) = said.filter(|said| Some(said.token) == token) {
        tls::current().maker.store(said.serial, Ordering::Relaxed);
    }
}

/// What a program is told that the calling thread starts: the collector's token, the thread's serial
/// number and the number of its context, or 0. Nothing if nobody collects.
pub(crate) fn of_child(tls: &Tls) -> Option<(u64, u64, u32)> {
    let directory = directory().filter(|_| is_active())?;
    let token = directory.header.prefix.token.load(Ordering::Relaxed);
    Some((token, maker(tls), contexts::current(tls, directory)))
}

/// The thread whose block is `tls` has another name now, a C string of at most 15 bytes.
pub(crate) fn renamed(tls: &Tls, name: &CStr) {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().zip(name.to_bytes()) {
        *to = *from;
    }
    // SAFETY: null, or in the directory, which stays mapped.
    let slot = unsafe { tls.slot.load(Ordering::Relaxed).as_ref() };
    if let Some(slot) = slot.filter(|_| !Mark::Run.is_wiped()) {
        slot.set_name(&padded);
    }
}

/// The thread records nothing any more, and its map is free.
fn off(tls: &Tls) {
    tls.tape.mode.store(Mode::Off as u32, Ordering::Relaxed);
    tls.set_idle(Sink::OFF);
    maps::put_back(tls.map.swap(0, Ordering::Relaxed));
}

/// The thread's process is exiting in order. Modules that came without a word are taken down now, if
/// they are still there.
pub(crate) fn exiting() {
    // A process that is not in the table has recorded nothing. One that is never waits for the lock
    // in a callback, so a handler may come while this has it.
    if is_active() && known_process().is_some() {
        modules::scan_at_exit();
    }
    let tls = tls::current();
    let slot = tls.slot.load(Ordering::Relaxed);
    // SAFETY: null, or in the directory, which stays mapped.
    if let Some(slot) = unsafe { slot.as_ref() }.filter(|_| !Mark::Run.is_wiped()) {
        maps::look(tls);
        // A forked child has a copy of what its parent has stored.
        if RUN.forked_from.load(Ordering::Relaxed) == 0 && tls.tape.is_there() {
            stores::stored_in_place(tls, record::stored);
        }
        slot.set_state(SlotState::Exiting);
        contexts::exiting(tls);
    }
}

/// Mappings of slots that threads have left, as [`pack`] makes them, or 0. They are taken away by the
/// next thread that takes a slot, which makes system calls anyway.
static LEFT: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// Bits of a number of pages: more than a slot has.
const LEN_BITS: u32 = 28;

/// A mapping in one word: the number of its first page, and of its pages.
fn pack(at: *mut u8, len: u64) -> u64 {
    let page = sys::PAGE as u64;
    ((at.expose_provenance() as u64 / page) << LEN_BITS) | (len / page)
}

fn unmap_left_slots() {
    for place in &LEFT {
        let left = place.swap(0, Ordering::Acquire);
        if left != 0 {
            let at = (left >> LEN_BITS) as usize * sys::PAGE;
            let len = (left & ((1 << LEN_BITS) - 1)) as usize * sys::PAGE;
            // SAFETY: whoever left it does not use it any more, and we alone have it now.
            unsafe { sys::unmap(ptr::with_exposed_provenance_mut(at), len) };
        }
    }
}

/// Takes the slot from the thread, which must not be recording into it.
fn detach(tls: &Tls) -> Option<&'static Slot> {
    let slot = tls.slot.swap(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: null, or in the directory, which stays mapped.
    let slot = unsafe { slot.as_ref() }?;
    let at = tls.slot_at.swap(ptr::null_mut(), Ordering::Relaxed);
    let len = tls.slot_len.swap(0, Ordering::Relaxed);
    let left = pack(at, len);
    let free = |place: &&AtomicU64| {
        place
            .compare_exchange(0, left, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    };
    if LEFT.iter().find(free).is_none() {
        // SAFETY: the mapping that `take_slot()` made, which nobody else uses.
        unsafe { sys::unmap(at, len as usize) };
    }
    Some(slot)
}

/// Number of modules in the collector's table, for a fork that is about to happen.
pub(crate) fn modules_now() -> u32 {
    directory().map_or(0, |d| d.header.loaded.load(Ordering::Acquire))
}

/// We are a new process: the slot that the calling thread records into is its parent's.
pub(crate) fn forked(_lock: &lock::Held, modules_before: u32) {
    if !is_active() {
        return;
    }
    Mark::Run.set();
    let parent = RUN.process.swap(0, Ordering::Relaxed);
    if parent != 0 {
        RUN.forked_from.store(parent, Ordering::Relaxed);
        RUN.inherited_modules
            .store(modules_before, Ordering::Relaxed);
    }
    let tls = tls::current();
    tls.maker.store(maker(tls), Ordering::Relaxed);
    tls.serial.store(0, Ordering::Relaxed);
    off(tls);
    maps::forked();
    // The slot itself goes on: it is the parent's. So do those of contexts that it has entered.
    detach(tls);
    contexts::forked(tls);
    tls.hot.mode.store(UNATTACHED, Ordering::Relaxed);
}
