// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clients' buffers: memory that processes of the family have mapped, or have not.
//!
//! Whoever drops the last reference to a buffer may be a process that does not have it, or one of
//! several that have. So each buffer has a name, which stands in the family's memory as long as the
//! buffer lives, and each process knows the names of those that it has mapped: what has no name any
//! more is unmapped when the process looks next.

use super::family::family;
use crate::{lock, sys};
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use rkcov_abi::Words;
use rkcov_core::sync::Word;
use rkcov_core::Buffer;

/// Most buffers that a family can have at once, a power of two.
const BUFFERS: usize = 1 << 14;
/// No buffer's name. Zeroed memory is a table of free places.
const NOBODY: u64 = 0;

/// The names of the buffers that live. A name is given once, and its place is in its low bits.
pub(crate) struct Names {
    given: AtomicU64,
    places: [AtomicU64; BUFFERS],
}

/// Where a name stands.
fn place_of(name: u64) -> usize {
    name as usize % BUFFERS
}

impl Names {
    /// A new name, if there is a place for it.
    fn give(&self) -> Option<u64> {
        let given = self.given.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.places.iter().enumerate().find_map(|(at, place)| {
            let name = given.wrapping_mul(BUFFERS as u64) | at as u64;
            let is_free = place.load(Ordering::Relaxed) == NOBODY;
            let take =
                || place.compare_exchange(NOBODY, name, Ordering::Acquire, Ordering::Relaxed);
            (is_free && take().is_ok()).then_some(name)
        })
    }

    /// The buffer is gone.
    fn forget(&self, name: u64) {
        if let Some(place) = self.places.get(place_of(name)) {
            place.store(NOBODY, Ordering::Release);
        }
    }

    fn has(&self, name: u64) -> bool {
        self.places
            .get(place_of(name))
            .is_some_and(|place| place.load(Ordering::Acquire) == name)
    }
}

/// What a process has mapped in one place. Zeroed memory is nothing.
struct Mapped {
    name: AtomicU64,
    base: AtomicPtr<u8>,
    bytes: AtomicUsize,
    /// Its file if it has one (see [`sys::can_map_again`]), which is never number 0.
    file: AtomicI32,
}

/// What this process has mapped; a forked child inherits both. Changed under [`lock`], which is held
/// across forks, so that a child never has one without the other.
struct Here {
    places: [Mapped; BUFFERS],
    /// Nothing was ever in a place from here on.
    end: AtomicUsize,
}

static HERE: Here = Here::new();

impl Here {
    const fn new() -> Self {
        Self {
            places: [const { Mapped::nothing() }; BUFFERS],
            end: AtomicUsize::new(0),
        }
    }

    /// The place of the buffer of this name, if this process has it.
    fn find(&self, name: u64) -> Option<&Mapped> {
        let place = self.places.get(place_of(name))?;
        (place.name.load(Ordering::Relaxed) == name).then_some(place)
    }

    /// Maps a new buffer. What another process let go of in its place is unmapped.
    fn map(&self, name: u64, bytes: usize) -> Option<*mut u8> {
        let can_map_again = sys::can_map_again();
        let lock = lock::take();
        let place = self.places.get(place_of(name))?;
        place.unmap(&lock);
        let (base, file) = if can_map_again {
            (sys::map_shared_anonymous(bytes).ok()?, 0)
        } else {
            let file = sys::memory_file(c"kcov buffer").ok()?;
            let file = sys::duplicate(file.raw(), sys::FD_FLOOR).unwrap_or(file);
            sys::set_size(file.raw(), bytes).ok()?;
            sys::seal_size(file.raw()).ok()?;
            let base = sys::map_shared(file.raw(), 0, bytes).ok()?;
            (base, file.into_raw())
        };
        place.base.store(base, Ordering::Relaxed);
        place.bytes.store(bytes, Ordering::Relaxed);
        place.file.store(file, Ordering::Relaxed);
        place.name.store(name, Ordering::Relaxed);
        let end = place_of(name).wrapping_add(1);
        self.end.fetch_max(end, Ordering::Relaxed);
        Some(base)
    }

    /// Unmaps a buffer that is gone, if this process has it.
    fn forget(&self, name: u64) {
        let lock = lock::take();
        if let Some(place) = self.find(name) {
            place.unmap(&lock);
        }
    }

    /// Unmaps what other processes let go of.
    fn forget_all_but(&self, names: &Names) {
        let end = self.end.load(Ordering::Relaxed);
        for place in self.places.get(..end).unwrap_or(&self.places) {
            let name = place.name.load(Ordering::Relaxed);
            if name != NOBODY && !names.has(name) {
                self.forget(name);
            }
        }
    }
}

impl Mapped {
    const fn nothing() -> Self {
        Self {
            name: AtomicU64::new(NOBODY),
            base: AtomicPtr::new(ptr::null_mut()),
            bytes: AtomicUsize::new(0),
            file: AtomicI32::new(0),
        }
    }

    fn unmap(&self, _lock: &lock::Held) {
        if self.name.swap(NOBODY, Ordering::Relaxed) == NOBODY {
            return;
        }
        let base = self.base.load(Ordering::Relaxed);
        // SAFETY: mapped by `Here::map()`; there are no more references to the buffer.
        unsafe { sys::unmap(base, self.bytes.load(Ordering::Relaxed)) };
        let file = self.file.load(Ordering::Relaxed);
        if file != 0 {
            let _ = sys::close(file);
        }
    }
}

/// Unmaps what this process has of buffers whose last reference another one dropped.
pub(crate) fn forget_all_but(names: &Names) {
    HERE.forget_all_but(names);
}

/// A client's buffer: anonymous memory that forked children share, and that every `mmap()` of the
/// device maps once more. Where that is refused (by valgrind), a memory file that is kept open.
pub(crate) struct Shared {
    name: u64,
    base: *mut Word,
    bytes: usize,
}

// SAFETY: memory that is tied to no thread.
unsafe impl Send for Shared {}
// SAFETY: all its words are atomics.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(words: Words, names: &Names) -> Option<Self> {
        let bytes = words.bytes().next_multiple_of(sys::PAGE);
        let name = names.give()?;
        let Some(base) = HERE.map(name, bytes) else {
            names.forget(name);
            return None;
        };
        Some(Self {
            name,
            base: base.cast(),
            bytes,
        })
    }

    /// Maps the buffer once more.
    pub(crate) fn map(
        &self,
        wish: usize,
        protection: i32,
        fixed: bool,
    ) -> Result<usize, sys::Error> {
        let place = HERE.find(self.name).ok_or(sys::Error(libc::EINVAL))?;
        match place.file.load(Ordering::Relaxed) {
            0 => sys::map_again(self.base.cast(), self.bytes, wish, protection, fixed),
            file => sys::map_file(file, self.bytes, wish, protection, fixed),
        }
    }
}

// SAFETY: the mapping stays at its address until `drop()`, in this process and in those that
// inherited it.
unsafe impl Buffer for Shared {
    fn base(&self) -> *mut Word {
        self.base
    }

    fn is_here(&self) -> bool {
        HERE.find(self.name).is_some()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // First here: then whoever gets the place finds it empty.
        HERE.forget(self.name);
        if let Some(family) = family() {
            family.buffers.forget(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::*;
    use crate::callbacks::__sanitizer_cov_trace_pc;
    use crate::device::files::tests::ALONE;
    use crate::faults::Request;
    use core::ffi::{c_ulong, c_void};
    use rkcov_abi::ioctl::{
        KCOV_DISABLE, KCOV_ENABLE, KCOV_INIT_TRACE, KCOV_REMOTE_ENABLE, KCOV_RESET_TRACE,
        KCOV_UNIQUE_ENABLE,
    };

    fn no_names() -> Names {
        Names {
            given: AtomicU64::new(0),
            places: [const { AtomicU64::new(NOBODY) }; BUFFERS],
        }
    }

    #[test]
    fn a_buffer_that_is_gone_leaves_its_place_to_another() {
        let names = no_names();
        let first = names.give().unwrap();
        for place in names.places.get(1..).unwrap() {
            place.store(first, Ordering::Relaxed);
        }
        assert!(names.give().is_none(), "all places are taken");
        assert!(names.has(first));
        names.forget(first);
        let next = names.give().unwrap();
        assert_eq!(place_of(next), place_of(first));
        assert!(names.has(next) && !names.has(first));
    }

    #[test]
    fn what_others_let_go_of_is_unmapped() {
        static HERE: Here = Here::new();
        let names = no_names();
        let is_mapped = |at: *mut u8| {
            sys::shares_mapping(sys::pid(), sys::thread_id(), at.addr() as u64).is_ok()
        };
        let [first, second, third] = [(); 3].map(|()| names.give().unwrap());
        let [at_first, at_second, at_third] =
            [first, second, third].map(|name| HERE.map(name, sys::PAGE).unwrap());
        assert!([at_first, at_second, at_third].into_iter().all(is_mapped));
        // Another process drops the first two, and makes a buffer in the place of one.
        names.forget(first);
        names.forget(second);
        let other = names.give().unwrap();
        assert_eq!(place_of(other), place_of(first));
        assert!(HERE.find(other).is_none());
        HERE.forget_all_but(&names);
        assert!(HERE.find(first).is_none() && HERE.find(second).is_none());
        assert!(!is_mapped(at_first) && !is_mapped(at_second));
        assert!(HERE.find(third).is_some() && is_mapped(at_third));
        // And in a place where nobody has looked meanwhile.
        names.forget(third);
        let last = [(); 2].map(|()| names.give().unwrap())[1];
        assert_eq!(place_of(last), place_of(third));
        let at_last = HERE.map(last, 2 * sys::PAGE).unwrap();
        assert!(HERE.find(third).is_none() && is_mapped(at_last));
        HERE.forget(last);
        assert!(!is_mapped(at_last));
    }

    fn answer(fd: i32, number: u32, argument: usize) -> Result<(), i32> {
        match rkcov_ioctl(fd, c_ulong::from(number), argument as c_ulong) {
            0 => Ok(()),
            // SAFETY: libc's errno of this thread.
            _ => Err(unsafe { *libc::__errno_location() }),
        }
    }

    fn map(fd: i32) -> *mut c_void {
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: anywhere.
        unsafe { rkcov_mmap(ptr::null_mut(), sys::PAGE, access, shared, fd, 0) }
    }

    /// Two ends of a conversation of single bytes.
    struct Talk([i32; 2]);

    impl Talk {
        fn pair() -> [Self; 2] {
            let [mut there, mut back] = [[0; 2]; 2];
            // SAFETY: places for two files each.
            let made = unsafe {
                [
                    libc::pipe(there.as_mut_ptr()),
                    libc::pipe(back.as_mut_ptr()),
                ]
            };
            assert_eq!(made, [0, 0]);
            [Self([back[0], there[1]]), Self([there[0], back[1]])]
        }

        fn say(&self) {
            // SAFETY: a byte of a string.
            let written = unsafe { libc::write(self.0[1], c"x".as_ptr().cast(), 1) };
            assert_eq!(written, 1);
        }

        fn hear(&self) {
            let mut byte = 0_u8;
            // SAFETY: a place for a byte.
            let read = unsafe { libc::read(self.0[0], ptr::from_mut(&mut byte).cast(), 1) };
            assert_eq!(read, 1);
        }
    }

    /// Forks a child that does this and calls nothing but the runtime.
    fn child(work: impl FnOnce() -> bool) -> libc::pid_t {
        // SAFETY: the child leaves at once.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let failed = i32::from(!work());
            // SAFETY: as above.
            unsafe { libc::_exit(failed) };
        }
        child
    }

    fn wait_for(child: libc::pid_t) {
        let mut status = 0;
        // SAFETY: a place for our child's status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child came to harm");
    }

    #[test]
    fn who_was_forked_before_the_buffer_was_made_has_none() {
        const HANDLE: u64 = 0x80 << 56 | 4242;
        let _alone = ALONE.lock().unwrap();
        let section = || {
            kcov_remote_start(HANDLE);
            // SAFETY: called as compilers call it.
            unsafe { __sanitizer_cov_trace_pc() };
            kcov_remote_stop();
        };
        let request = Request {
            mode: 0,
            area: 16,
            count: 1,
            common: 0,
            handles: [HANDLE],
        };
        let argument = ptr::from_ref(&request).expose_provenance();
        let fd = rkcov_open();
        assert!(fd >= 0);
        let [parents, childs] = Talk::pair();
        let child = child(|| {
            childs.hear();
            let no_buffer = Err(libc::EINVAL);
            let refused = answer(fd, KCOV_ENABLE, 0) == no_buffer
                && answer(fd, KCOV_UNIQUE_ENABLE, 8) == no_buffer
                && answer(fd, KCOV_REMOTE_ENABLE, argument) == no_buffer
                && answer(fd, KCOV_INIT_TRACE, 64) == Err(libc::EBUSY)
                && map(fd) == libc::MAP_FAILED;
            childs.say();
            childs.hear();
            section();
            refused && answer(fd, KCOV_RESET_TRACE, 0) == no_buffer
        });
        assert_eq!(answer(fd, KCOV_INIT_TRACE, 64), Ok(()));
        parents.say();
        parents.hear();
        let words = map(fd);
        assert_ne!(words, libc::MAP_FAILED);
        let words = words.cast::<AtomicU64>();
        // SAFETY: a mapped page.
        let count = || unsafe { (*words).load(Ordering::Acquire) };
        assert_eq!(answer(fd, KCOV_REMOTE_ENABLE, argument), Ok(()));
        parents.say();
        wait_for(child);
        let mut drops = Drops::default();
        // SAFETY: a place of ours.
        assert_eq!(unsafe { rkcov_drops(fd, &mut drops) }, 0);
        assert_eq!((count(), drops.no_area), (0, 1));
        section();
        assert_eq!(count(), 1);
        assert_eq!(answer(fd, KCOV_DISABLE, 0), Ok(()));
        // SAFETY: our page.
        assert_eq!(unsafe { libc::munmap(words.cast(), sys::PAGE) }, 0);
        assert_eq!(rkcov_close(fd), 0);
    }

    /// How many buffers this process has in its memory.
    fn mapped() -> usize {
        let is_one = |place: &&Mapped| place.name.load(Ordering::Relaxed) != NOBODY;
        HERE.places.iter().filter(is_one).count()
    }

    #[test]
    fn a_buffer_whose_last_file_another_process_closes_leaves_ours_too() {
        let _alone = ALONE.lock().unwrap();
        let before = mapped();
        let fd = rkcov_open();
        assert_eq!(answer(fd, KCOV_INIT_TRACE, 64), Ok(()));
        let [parents, childs] = Talk::pair();
        let child = child(|| {
            childs.hear();
            rkcov_close(fd) == 0
        });
        assert_eq!(rkcov_close(fd), 0);
        assert_eq!(mapped(), before + 1, "the child has it open");
        parents.say();
        wait_for(child);
        let next = rkcov_open();
        assert_eq!(mapped(), before);
        assert_eq!(rkcov_close(next), 0);
    }
}
