// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks that lie in the arena and outlive whoever is killed with one in hand.
//!
//! They are libc's robust mutexes. A section takes three, and libc's functions are a third of what a
//! section costs, so a free one is taken here, as libc would: the thread's number goes into its
//! word, and the mutex into the list that the kernel goes through when the thread dies. Whatever else
//! there is to do (to wait, to go on after a dead holder) libc does. What libc locked it unlocks; so
//! tools that watch its functions see pairs.
//!
//! Where libc keeps what in a mutex is looked at before it is relied on, see [`learn`].

use crate::mark::Mark;
use crate::sys;
use crate::tls::{self, Tls};
use core::cell::UnsafeCell;
use core::mem::{size_of, MaybeUninit};
use core::num::NonZeroU32;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use rkcov_core::sync::interrupt_fence;
use rkcov_core::RawLock;

/// A process-shared, robust mutex. While a thread holds one, a signal handler on top of it is in
/// [`Context::Other`](rkcov_core::Context::Other): it does not come here.
#[repr(transparent)]
pub(crate) struct Robust(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: it is what threads share.
unsafe impl Send for Robust {}
// SAFETY: as above.
unsafe impl Sync for Robust {}

/// A mutex as glibc has it on 64-bit machines.
#[repr(C)]
struct Mutex {
    /// The number of the thread that holds it, and [`WAITERS`].
    word: AtomicU32,
    _count: u32,
    /// The same number if libc's function took the mutex; 0 if we did.
    owner: AtomicU32,
    _users: u32,
    _kind: u32,
    _spins: u32,
    node: Node,
}

// It is the beginning of libc's, which has more behind it on some machines.
const _: () = assert!(size_of::<Mutex>() <= size_of::<libc::pthread_mutex_t>());

/// A mutex in the list of what a thread holds. The kernel's list leads from one `next` to another.
#[repr(C)]
struct Node {
    /// The `next` that leads here.
    previous: AtomicUsize,
    next: AtomicUsize,
}

/// Where the list begins: what the kernel knows of a thread.
#[repr(C)]
struct Head {
    next: AtomicUsize,
    /// From a `next` to the word of its mutex.
    offset: isize,
    /// What is about to be put into the list, or taken out of it.
    pending: AtomicUsize,
}

/// Bit of a mutex's word: somebody waits.
const WAITERS: u32 = 1 << 31;
/// Bits of a mutex's word that are a thread's number.
const NUMBER: u32 = (1 << 30) - 1;
/// Bit of a `next` with another meaning, which our mutexes do not have.
const OTHER: usize = 1;

/// How far a thread's [`Head`] is from its block; 0 if it is not known, and libc does everything.
static DISTANCE: AtomicUsize = AtomicUsize::new(0);

impl Mutex {
    /// What leads to this one in a list.
    fn link(&self) -> usize {
        ptr::from_ref(&self.node.next).expose_provenance()
    }
}

/// The node that is reached by this `next`.
///
/// # Safety
/// The `next` is of the calling thread's list, or its head's.
unsafe fn node<'a>(link: usize) -> &'a Node {
    let at = (link & !OTHER).wrapping_sub(size_of::<usize>());
    // SAFETY: the caller's contract: libc has the same pair of words before the head.
    unsafe { &*ptr::with_exposed_provenance(at) }
}

/// The calling thread's number, if its head is known, too.
#[inline(always)]
fn own_number(tls: &Tls) -> Option<NonZeroU32> {
    // It is stored only where the distance is known.
    let number = NonZeroU32::new(tls.number.load(Ordering::Relaxed))?;
    // A child that libc knows nothing of would use its parent's number.
    (!Mark::Device.is_wiped()).then_some(number)
}

/// The head of a thread whose number is known.
#[inline(always)]
fn own_list(tls: &Tls) -> &'static Head {
    let distance = DISTANCE.load(Ordering::Relaxed);
    let at = ptr::from_ref(tls)
        .expose_provenance()
        .wrapping_add(distance);
    // SAFETY: `learn()` found it at this distance, which is the same in every thread.
    unsafe { &*ptr::with_exposed_provenance(at) }
}

impl Robust {
    fn mutex(&self) -> &Mutex {
        // SAFETY: as large, and all that is used of it is atomic.
        unsafe { &*self.0.get().cast() }
    }

    /// Takes it if it is free and libc is not needed for that.
    #[inline(always)]
    fn take(&self, tls: &Tls) -> bool {
        let Some(number) = own_number(tls) else {
            return false;
        };
        let head = own_list(tls);
        let mutex = self.mutex();
        head.pending.store(mutex.link(), Ordering::Relaxed);
        interrupt_fence();
        let taken =
            mutex
                .word
                .compare_exchange(0, number.get(), Ordering::Acquire, Ordering::Relaxed);
        if taken.is_ok() {
            let next = head.next.load(Ordering::Relaxed);
            // SAFETY: of this thread's list.
            unsafe { node(next) }
                .previous
                .store(mutex.link(), Ordering::Relaxed);
            mutex.node.next.store(next, Ordering::Relaxed);
            let begin = ptr::from_ref(&head.next).expose_provenance();
            mutex.node.previous.store(begin, Ordering::Relaxed);
            interrupt_fence();
            head.next.store(mutex.link(), Ordering::Relaxed);
        }
        interrupt_fence();
        head.pending.store(0, Ordering::Relaxed);
        taken.is_ok()
    }

    /// Gives back what [`Robust::take`] took.
    #[inline(always)]
    fn give(&self, head: &Head) {
        let mutex = self.mutex();
        head.pending.store(mutex.link(), Ordering::Relaxed);
        interrupt_fence();
        let next = mutex.node.next.load(Ordering::Relaxed);
        let previous = mutex.node.previous.load(Ordering::Relaxed);
        // SAFETY: the neighbours in this thread's list.
        unsafe {
            node(next).previous.store(previous, Ordering::Relaxed);
            node(previous).next.store(next, Ordering::Relaxed);
        }
        mutex.node.previous.store(0, Ordering::Relaxed);
        mutex.node.next.store(0, Ordering::Relaxed);
        interrupt_fence();
        if mutex.word.swap(0, Ordering::Release) & WAITERS != 0 {
            sys::wake_one(&mutex.word);
        }
        interrupt_fence();
        head.pending.store(0, Ordering::Relaxed);
    }
}

// SAFETY: a mutex lets one in at a time and hands the data on. After a holder's death the next one
// finds what it left: the rules change shared data by single stores wherever that is possible.
unsafe impl RawLock for Robust {
    type Saved = ();

    unsafe fn init(slot: *mut Self) {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let mut mutex = MaybeUninit::<libc::pthread_mutex_t>::uninit();
        let at = attributes.as_mut_ptr();
        // A mutex of this thread's own is moved to its place before anybody uses it. The thread
        // sanitizer does not know that the arena's memory is used anew, and would take making a
        // mutex there for a race with whoever used another one at that address.
        // SAFETY: initialised by the first call; the mutex is ours, and `slot` the caller's.
        unsafe {
            libc::pthread_mutexattr_init(at);
            libc::pthread_mutexattr_setpshared(at, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(at, libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(mutex.as_mut_ptr(), at);
            libc::pthread_mutexattr_destroy(at);
            slot.cast::<libc::pthread_mutex_t>()
                .write(mutex.assume_init_read());
            libc::pthread_mutex_destroy(mutex.as_mut_ptr());
        }
    }

    #[inline]
    fn lock(&self) {
        let tls = tls::current();
        tls.enter();
        if !self.take(tls) {
            self.lock_by_libc(tls);
        }
    }

    #[inline]
    unsafe fn unlock(&self, (): ()) {
        let tls = tls::current();
        if self.mutex().owner.load(Ordering::Relaxed) == 0 && own_number(tls).is_some() {
            self.give(own_list(tls));
        } else {
            // SAFETY: this thread holds it.
            unsafe {
                libc::pthread_mutex_unlock(self.0.get());
            }
        }
        tls.leave();
    }
}

impl Robust {
    #[cold]
    fn lock_by_libc(&self, tls: &Tls) {
        // SAFETY: an initialised mutex; it is not held by this thread, see above.
        unsafe {
            if libc::pthread_mutex_lock(self.0.get()) == libc::EOWNERDEAD {
                libc::pthread_mutex_consistent(self.0.get());
            }
        }
        if DISTANCE.load(Ordering::Relaxed) != 0 && !Mark::Device.is_wiped() {
            let number = self.mutex().word.load(Ordering::Relaxed) & NUMBER;
            tls.number.store(number, Ordering::Relaxed);
        }
    }
}

/// Looks whether libc's mutexes are as they are thought to be here, and where a thread's head is.
pub(super) fn learn() {
    let mut slot = MaybeUninit::<Robust>::uninit();
    // SAFETY: the place of one, on which this thread alone works.
    let lock = unsafe {
        Robust::init(slot.as_mut_ptr());
        slot.assume_init_ref()
    };
    let at = lock.0.get();
    let mutex = lock.mutex();
    let free = |mutex: &Mutex| {
        let words = [&mutex.word, &mutex.owner].map(|word| word.load(Ordering::Relaxed));
        let links = [&mutex.node.previous, &mutex.node.next];
        words == [0; 2] && links.map(|link| link.load(Ordering::Relaxed)) == [0; 2]
    };
    let was_free = free(mutex);
    // SAFETY: an initialised mutex.
    if unsafe { libc::pthread_mutex_lock(at) } != 0 {
        return;
    }
    let number = sys::thread_id();
    let distance = sys::robust_list().and_then(|head| {
        // SAFETY: the kernel has it from libc.
        let known: &Head = unsafe { &*ptr::with_exposed_provenance(head) };
        let from = mutex.link();
        let to = ptr::from_ref(&mutex.word).expose_provenance();
        (mutex.word.load(Ordering::Relaxed) == number
            && mutex.owner.load(Ordering::Relaxed) == number
            && known.next.load(Ordering::Relaxed) == from
            && known.offset == to.wrapping_sub(from).cast_signed()
            && known.pending.load(Ordering::Relaxed) == 0
            && mutex.node.previous.load(Ordering::Relaxed) == head)
            .then(|| head.wrapping_sub(ptr::from_ref(tls::current()).expose_provenance()))
    });
    // SAFETY: locked above, and nobody else knows of it.
    unsafe {
        libc::pthread_mutex_unlock(at);
    }
    if let (true, true, Some(distance)) = (was_free, free(mutex), distance) {
        DISTANCE.store(distance, Ordering::Relaxed);
    }
    // SAFETY: it is free.
    unsafe { libc::pthread_mutex_destroy(at) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Robust {
        let mut slot = MaybeUninit::uninit();
        // SAFETY: the place of one.
        unsafe {
            Robust::init(slot.as_mut_ptr());
            slot.assume_init()
        }
    }

    #[test]
    #[cfg(all(target_env = "gnu", not(miri)))]
    fn a_free_mutex_is_taken_without_libc_and_stands_in_the_threads_list() {
        learn();
        assert_ne!(DISTANCE.load(Ordering::Relaxed), 0);
        let locks = [new(), new(), new()];
        let listed = || {
            let head = sys::robust_list().unwrap();
            let mut found = Vec::new();
            // SAFETY: this thread's list.
            let mut link = unsafe {
                (*ptr::with_exposed_provenance::<Head>(head))
                    .next
                    .load(Ordering::Relaxed)
            };
            while link != head {
                found.push(link);
                // SAFETY: as above.
                link = unsafe { node(link) }.next.load(Ordering::Relaxed);
            }
            found
        };
        // The first one tells the thread's number.
        locks[0].lock();
        // SAFETY: taken right before.
        unsafe { locks[0].unlock(()) };
        for lock in &locks {
            lock.lock();
            let mutex = lock.mutex();
            assert_eq!(mutex.word.load(Ordering::Relaxed), sys::thread_id());
            assert_eq!(mutex.owner.load(Ordering::Relaxed), 0, "libc took it");
            assert_eq!(listed()[0], mutex.link());
        }
        // libc finds it taken, and its own list in order.
        // SAFETY: an initialised mutex.
        let tried = unsafe { libc::pthread_mutex_trylock(locks[0].0.get()) };
        assert_eq!(tried, libc::EBUSY);
        let other = new();
        // SAFETY: as above.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(other.0.get()), 0);
            locks[1].unlock(());
            assert_eq!(libc::pthread_mutex_unlock(other.0.get()), 0);
        }
        let [first, _, third] = &locks;
        assert_eq!(listed(), [third.mutex().link(), first.mutex().link()]);
        // SAFETY: taken above.
        unsafe {
            first.unlock(());
            third.unlock(());
        }
        assert_eq!(listed(), []);
    }

    #[test]
    #[cfg(not(miri))]
    fn who_waits_comes_in_after_the_holder_and_nobody_else() {
        learn();
        let lock = new();
        let count = UnsafeCell::new(0_u64);
        struct Shared<'a>(&'a Robust, &'a UnsafeCell<u64>);
        // SAFETY: the count is used under the lock.
        unsafe impl Sync for Shared<'_> {}
        let shared = Shared(&lock, &count);
        let shared = &shared;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        shared.0.lock();
                        // SAFETY: under the lock.
                        unsafe {
                            *shared.1.get() += 1;
                            shared.0.unlock(());
                        }
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 80_000);
    }
}
