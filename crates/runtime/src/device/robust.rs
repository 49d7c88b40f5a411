// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks that lie in the arena and outlive whoever is killed with one in hand.

use crate::tls;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use rkcov_core::RawLock;

/// A process-shared, robust mutex. While a thread holds one, a signal handler on top of it is in
/// [`Context::Other`](rkcov_core::Context::Other): it does not come here.
#[repr(transparent)]
pub(crate) struct Robust(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: it is what threads share.
unsafe impl Send for Robust {}
// SAFETY: as above.
unsafe impl Sync for Robust {}

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

    fn lock(&self) {
        tls::current().enter();
        // SAFETY: an initialised mutex; it is not held by this thread, see above.
        unsafe {
            if libc::pthread_mutex_lock(self.0.get()) == libc::EOWNERDEAD {
                libc::pthread_mutex_consistent(self.0.get());
            }
        }
    }

    unsafe fn unlock(&self, (): ()) {
        // SAFETY: this thread holds it.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) };
        tls::current().leave();
    }
}
