// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a process finds the collector when it starts, or finds that there is none.

use super::collector::{
    directory, ensure_process, open_region, state, State, FOLDER, PATH_MAX, RUN,
};
use super::contexts;
use crate::mark::Mark;
use crate::modules;
use crate::sys::{self, Fd};
use crate::tls;
use crate::{lock, maps, threads};
use core::ffi::{c_char, CStr};
use core::sync::atomic::Ordering;
use rkcov_region::{
    Directory, Header, Invitation, Kind, Maker, Refusal, CONTEXT_ENVIRONMENT, ENVIRONMENT,
    INHERITED_FD, LINK, MAKER_ENVIRONMENT, REFUSAL, VERSION,
};

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

/// The process begins: it may say which thread has started it.
fn made_by(said: Option<&[u8]>) {
    let token = directory().map(|d| d.header.prefix.token.load(Ordering::Relaxed));
    let said = said.and_then(Maker::parse);
    if let Some(said) = said.filter(|said| Some(said.token) == token) {
        tls::current().maker.store(said.serial, Ordering::Relaxed);
    }
}
