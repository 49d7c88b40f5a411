// SPDX-License-Identifier: MIT OR Apache-2.0
//! File descriptors that are kcov descriptors.

use super::arena::{changed, Arena};
use super::buffers;
use super::family::{family, found, Family, FILES};
use super::host::Userspace;
use crate::sys::{self, Fd};
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use rkcov_abi::Errno;
use rkcov_core::{Descriptor, Ref};

/// How many of the family's files are looked at, at each `open()`, for ones that nobody holds.
const SWEEP: u32 = 8;

/// The empty file that all of a process's kcov files are copies of, and what it is known by. A
/// forked child inherits it. Written once, under the lock.
static ROOT: AtomicI32 = AtomicI32::new(-1);
static DEVICE: AtomicU64 = AtomicU64::new(0);
static INODE: AtomicU64 = AtomicU64::new(0);

/// The root, which is made if there is none yet. Programs close file descriptors that they do not
/// know, so it is checked.
fn root() -> Result<i32, Errno> {
    let lock = crate::lock::take();
    let root = ROOT.load(Ordering::Relaxed);
    if is_root_file(root) {
        return Ok(root);
    }
    if root >= 0 {
        // Closed behind our back: open files can no longer be told from closed ones.
        return Err(Errno::NoMem);
    }
    let file = sys::memory_file(c"kcov").map_err(|_| Errno::NoMem)?;
    let kept = sys::duplicate(file.raw(), sys::FD_FLOOR).unwrap_or(file);
    let (device, inode, _) = sys::identity(kept.raw()).map_err(|_| Errno::NoMem)?;
    DEVICE.store(device, Ordering::Relaxed);
    INODE.store(inode, Ordering::Relaxed);
    let root = kept.into_raw();
    ROOT.store(root, Ordering::Release);
    drop(lock);
    Ok(root)
}

/// Whether `fd` is a copy of the root file, in any process of the family.
fn is_root_file(fd: i32) -> bool {
    let known = (
        DEVICE.load(Ordering::Relaxed),
        INODE.load(Ordering::Relaxed),
    );
    fd >= 0
        && known.1 != 0
        && sys::identity(fd).is_ok_and(|(device, inode, _)| (device, inode) == known)
}

/// The number of the kcov file that `fd` is, or `None`: it is some other file, or closed.
pub(crate) fn number(fd: i32) -> Option<u64> {
    (ROOT.load(Ordering::Acquire) != fd && is_root_file(fd)).then(|| sys::position(fd).ok())?
}

/// The descriptor that `fd` is, by a reference of the caller's own, which outlives a close in another
/// thread.
///
/// As with any file, whoever closes it in one thread while another uses it must know better; but
/// then the other finds a reference that is gone, where a kernel would have counted it.
pub(crate) fn file(fd: i32) -> Option<Ref<Userspace>> {
    let family = family()?;
    let place = family.files.get(number(fd)? as usize)?;
    let descriptor = place.seen(family.arena).descriptor()?;
    // SAFETY: the file's reference, which lives while `fd` holds the lock on its number.
    let kept = unsafe { ManuallyDrop::new(Ref::from_raw(descriptor.as_ptr())) };
    Some(Ref::clone(&kept))
}

/// Opens a kcov. ENOMEM: no memory, no number left, or no `/proc`, which is needed to open the
/// root file anew.
pub(crate) fn open() -> Result<i32, Errno> {
    let family = found().ok_or(Errno::NoMem)?;
    let root = root()?;
    sweep(family, root);
    buffers::forget_all_but(&family.buffers);
    let fd = sys::open_again(root).map_err(|_| Errno::NoMem)?;
    let number = claim(family, &fd).ok_or(Errno::NoMem)?;
    let place = family.files.get(number as usize).ok_or(Errno::NoMem)?;
    sys::set_position(fd.raw(), number).map_err(|_| Errno::NoMem)?;
    let descriptor = family.kcov().open()?;
    place.put(family.arena, descriptor.into_raw());
    Ok(fd.into_raw())
}

/// A number that no file has, locked by `fd`.
fn claim(family: &'static Family, fd: &Fd) -> Option<u64> {
    let is_free = |number: &u64| {
        family
            .files
            .get(*number as usize)
            .is_some_and(|place| place.seen(family.arena).descriptor().is_none())
    };
    let number = (0..FILES as u64).find(|number| {
        // The lock keeps others from the number; it may have been taken before we had it.
        is_free(number) && sys::lock_byte(fd.raw(), *number) && {
            let free = is_free(number);
            if !free {
                sys::unlock_byte(fd.raw(), *number);
            }
            free
        }
    })?;
    family
        .files_end
        .fetch_max(number as u32 + 1, Ordering::Relaxed);
    Some(number)
}

/// Closes `fd`, and the descriptor if this was the last copy of it.
pub(crate) fn close(fd: i32) -> Result<(), sys::Error> {
    let number = number(fd);
    sys::close(fd)?;
    if let (Some(family), Some(number)) = (family(), number) {
        release_unless_held(family, ROOT.load(Ordering::Relaxed), number);
    }
    Ok(())
}

/// A copy of a kcov file went away by other means than [`close`]: by `dup2()` over it.
pub(crate) fn forget(number: u64) {
    if let Some(family) = family() {
        release_unless_held(family, ROOT.load(Ordering::Relaxed), number);
    }
}

/// Any number of kcov files may have been closed by other means than [`close`].
pub(crate) fn forget_closed() {
    if let Some(family) = family() {
        for number in 0..u64::from(family.files_end.load(Ordering::Relaxed)) {
            release_unless_held(family, ROOT.load(Ordering::Relaxed), number);
        }
        buffers::forget_all_but(&family.buffers);
    }
}

/// The root, if there is one.
pub(crate) fn kept() -> Option<i32> {
    let root = ROOT.load(Ordering::Acquire);
    is_root_file(root).then_some(root)
}

/// Gives up what files hold that were closed with their processes.
fn sweep(family: &'static Family, root: i32) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let end = u64::from(family.files_end.load(Ordering::Relaxed));
    if end == 0 {
        return;
    }
    for _ in 0..u64::from(SWEEP).min(end) {
        release_unless_held(family, root, NEXT.fetch_add(1, Ordering::Relaxed) % end);
    }
}

/// Drops a file's reference if nobody holds the lock on its number.
fn release_unless_held(family: &'static Family, root: i32, number: u64) {
    let Some(place) = family.files.get(number as usize) else {
        return;
    };
    let seen = place.seen(family.arena);
    let Some(descriptor) = seen.descriptor() else {
        return;
    };
    if !is_root_file(root) || sys::is_byte_locked(root, number) {
        return;
    }
    // Several processes may see this; one of them does it.
    if place.take(&seen) {
        // SAFETY: the file's reference, taken by us alone.
        drop(unsafe { Ref::from_raw(descriptor.as_ptr()) });
    }
}

/// What the file of one number holds: a reference that [`Ref::into_raw`] gave, or nothing.
///
/// Whoever finds that nobody has the file any more takes the reference that it saw before it looked,
/// and no other: meanwhile the number may have gone to a new file, whose descriptor may even lie
/// where the old one lay. So beside the descriptor's block in the low half there stands, in the high
/// half, how often the place has changed.
pub(crate) struct Place(AtomicU64);

/// What [`Place::seen`] saw.
struct Seen {
    word: u64,
    descriptor: Option<NonNull<Descriptor<Userspace>>>,
}

impl Seen {
    fn descriptor(&self) -> Option<NonNull<Descriptor<Userspace>>> {
        self.descriptor
    }
}

impl Place {
    fn seen(&self, arena: &Arena) -> Seen {
        let word = self.0.load(Ordering::Acquire);
        let descriptor = arena.block(word as u32).map(NonNull::cast);
        Seen { word, descriptor }
    }

    /// Puts a reference into the place, which is empty and the caller's by its number's lock.
    fn put(&self, arena: &Arena, descriptor: *const Descriptor<Userspace>) {
        let old = self.0.load(Ordering::Relaxed);
        let number = arena.number(descriptor.addr());
        self.0
            .store(changed(old) | u64::from(number), Ordering::Release);
    }

    /// Empties the place if it is as it was seen.
    fn take(&self, seen: &Seen) -> bool {
        let (old, new) = (seen.word, changed(seen.word));
        let taken = self
            .0
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
        taken.is_ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::rkcov_usage;
    use core::alloc::Layout;
    use std::sync::Mutex;

    /// Held by tests that open a kcov, of which a process has one.
    pub(crate) static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn the_last_close_gives_all_back_at_once() {
        let _alone = ALONE.lock().unwrap();
        let usage = || {
            let (mut bytes, mut handles) = (0, 0);
            // SAFETY: places of ours.
            unsafe { rkcov_usage(&mut bytes, &mut handles) };
            bytes
        };
        let other = open().unwrap();
        let before = usage();
        let fd = open().unwrap();
        // SAFETY: a file of ours.
        let copy = unsafe { libc::dup(fd) };
        assert!(usage() > before);
        close(fd).unwrap();
        assert!(usage() > before, "a copy is open");
        close(copy).unwrap();
        assert_eq!(usage(), before);
        close(other).unwrap();
    }

    #[test]
    fn a_file_that_was_closed_is_not_taken_for_the_next_one_of_its_number() {
        let arena = Arena::reserve().unwrap();
        let block = arena.alloc(Layout::new::<[u64; 8]>()).unwrap();
        let place = Place(AtomicU64::new(0));
        assert!(place.seen(arena).descriptor().is_none());
        place.put(arena, block.as_ptr().cast());
        let (mine, theirs) = (place.seen(arena), place.seen(arena));
        assert_eq!(mine.descriptor(), Some(block.cast()));
        assert!(place.take(&theirs));
        assert!(place.seen(arena).descriptor().is_none());
        // The next file's descriptor lies where the first one lay.
        place.put(arena, block.as_ptr().cast());
        assert!(!place.take(&mine));
        assert_eq!(place.seen(arena).descriptor(), Some(block.cast()));
    }
}
