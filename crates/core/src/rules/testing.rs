// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A host for tests: simulated tasks in one thread or several, allocations that fail on demand,
//! and a count of everything that lives.

extern crate std;

use crate::abi::ioctl::{KCOV_DISABLE, KCOV_ENABLE, KCOV_INIT_TRACE, KCOV_REMOTE_ENABLE};
use crate::abi::{Errno, Words};
use crate::rules::append::append_pc;
use crate::rules::hot::{MODE_BITS, SOFTIRQ};
use crate::rules::lock::Locked;
use crate::rules::sync::{AtomicU32, AtomicU64, Ordering, Word};
use crate::rules::*;
use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::NonNull;
use std::boxed::Box;
use std::collections::{HashMap, HashSet};
use std::vec::Vec;

/// A spin lock: tests hold it briefly.
pub(crate) struct Spin(AtomicU32);

// SAFETY: one exchange from 0 to 1 wins; acquire and release hand the data on.
unsafe impl RawLock for Spin {
    type Saved = ();

    unsafe fn init(slot: *mut Self) {
        // SAFETY: the caller's contract.
        unsafe { slot.write(Self(AtomicU32::new(0))) };
    }

    fn lock(&self) {
        while self
            .0
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            std::thread::yield_now();
        }
    }

    unsafe fn unlock(&self, (): ()) {
        self.0.store(0, Ordering::Release);
    }
}

/// An empty value behind a lock of ours: the thread sanitizer sees into it, unlike into std's.
fn unlocked<T: Default>() -> Locked<Spin, T> {
    let mut place = core::mem::MaybeUninit::zeroed();
    // SAFETY: a zeroed place; a spin lock may move.
    unsafe {
        Locked::init(place.as_mut_ptr(), T::default());
        place.assume_init()
    }
}

/// Words with a guard behind them, checked when they go.
pub(crate) struct TestBuffer {
    words: Vec<Word>,
    live: &'static AtomicU64,
}

const GUARD: u64 = 0x6775_6172_6477_6f72;

// SAFETY: the vector's place is fixed, and it is not resized.
unsafe impl Buffer for TestBuffer {
    fn base(&self) -> *mut Word {
        self.words.as_ptr().cast_mut()
    }
}

impl Drop for TestBuffer {
    fn drop(&mut self) {
        let guard = self.words.last().unwrap().load(Ordering::Relaxed);
        assert_eq!(guard, GUARD, "something wrote behind the buffer");
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

std::thread_local! {
    static CONTEXT: Cell<Context> = const { Cell::new(Context::Task) };
    static OWNER: Cell<u64> = const { Cell::new(0) };
}

/// The host. `SUSPEND` chooses how sections nest.
pub(crate) struct TestHost<const SUSPEND: bool> {
    /// Blocks and buffers that live.
    pub(crate) live: &'static AtomicU64,
    /// Allocations until one fails; 0 for never.
    pub(crate) fail_in: AtomicU64,
    pub(crate) warnings: Locked<Spin, Vec<Warning>>,
    pub(crate) gone: Locked<Spin, HashSet<u64>>,
    hots: Locked<Spin, HashMap<usize, &'static Hot>>,
    /// The client's memory, from address 0x1000 on.
    pub(crate) client: Locked<Spin, Vec<u8>>,
}

pub(crate) const CLIENT: usize = 0x1000;

impl<const SUSPEND: bool> TestHost<SUSPEND> {
    fn may_alloc(&self) -> bool {
        let left = self.fail_in.load(Ordering::Relaxed);
        if left > 0 {
            self.fail_in.store(left - 1, Ordering::Relaxed);
        }
        left != 1
    }
}

// SAFETY: memory from the standard allocator; contexts and tasks as the tests set them up, one
// task per thread at a time.
unsafe impl<const SUSPEND: bool> Host for TestHost<SUSPEND> {
    type Lock = Spin;
    type Mutex = Spin;
    type Buffer = TestBuffer;
    type Owner = u64;
    type Frames = [Recording<Self>; 8];
    type Pin = ();

    const NESTING: Nesting = if SUSPEND {
        Nesting::Suspend
    } else {
        Nesting::Refuse
    };
    const COMPARISONS: bool = true;
    const UNIQUE: bool = SUSPEND;
    const USER_SUBSYSTEMS: bool = SUSPEND;
    const SOFTIRQ_AREA: Words = match Words::new(64) {
        Some(words) => words,
        None => Words::MIN,
    };

    fn context(&self) -> Context {
        CONTEXT.get()
    }

    fn pin(&self) {}

    fn hot<'t>(&self, task: &'t Task<Self>) -> &'t Hot {
        self.hots.lock()[&core::ptr::from_ref(task).addr()]
    }

    fn buffer(&self, words: Words) -> Option<TestBuffer> {
        if !self.may_alloc() {
            return None;
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        let values = core::iter::repeat_n(0, words.get() as usize).chain([GUARD]);
        Some(TestBuffer {
            words: values.map(Word::new).collect(),
            live: self.live,
        })
    }

    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        assert_ne!(layout.size(), 0);
        if !self.may_alloc() {
            return None;
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        // SAFETY: not of size 0.
        NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })
    }

    unsafe fn free(&self, block: NonNull<u8>, layout: Layout) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { std::alloc::dealloc(block.as_ptr(), layout) };
    }

    fn take_softirq_area(&self) -> Option<NonNull<u8>> {
        self.alloc(Area::layout(Self::SOFTIRQ_AREA))
    }

    fn put_softirq_area(&self, block: NonNull<u8>) {
        // SAFETY: from `take_softirq_area`.
        unsafe { self.free(block, Area::layout(Self::SOFTIRQ_AREA)) };
    }

    fn warn_once(&self, warning: Warning) {
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    fn owner(&self) -> u64 {
        OWNER.get()
    }

    fn is_gone(&self, owner: u64) -> bool {
        self.gone.lock().contains(&owner)
    }

    fn read_client(&self, address: usize, into: &mut [u8]) -> Result<(), Fault> {
        let client = self.client.lock();
        let from = address.checked_sub(CLIENT).ok_or(Fault)?;
        let bytes = client
            .get(from..)
            .and_then(|rest| rest.get(..into.len()))
            .ok_or(Fault)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn seed(&self) -> u64 {
        0x1234_5678_9abc_def1
    }
}

/// A kcov and its simulated tasks.
pub(crate) struct World<const SUSPEND: bool> {
    pub(crate) kcov: &'static Kcov<TestHost<SUSPEND>>,
}

pub(crate) type Device<const SUSPEND: bool> = Ref<TestHost<SUSPEND>>;

/// A simulated task. The last thing that happens to it is [`Kcov::exit`].
pub(crate) struct TestTask<const SUSPEND: bool> {
    pub(crate) task: &'static Task<TestHost<SUSPEND>>,
    pub(crate) hot: &'static Hot,
    pub(crate) kcov: &'static Kcov<TestHost<SUSPEND>>,
    owner: u64,
}

impl<const SUSPEND: bool> World<SUSPEND> {
    pub(crate) fn new() -> Self {
        let host = TestHost {
            live: Box::leak(Box::new(AtomicU64::new(0))),
            fail_in: AtomicU64::new(0),
            warnings: unlocked(),
            gone: unlocked(),
            hots: unlocked(),
            client: unlocked(),
        };
        let slot = Box::leak(Box::<Kcov<TestHost<SUSPEND>>>::new_uninit());
        // SAFETY: a new place that is never moved; the locks do not need zeroes here.
        unsafe {
            Kcov::init(slot.as_mut_ptr(), host);
            Self {
                kcov: slot.assume_init_ref(),
            }
        }
    }

    pub(crate) fn task(&self) -> TestTask<SUSPEND> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let task = Box::leak(Box::new(Task::new()));
        let hot: &'static Hot = Box::leak(Box::new(Hot::new()));
        let address = core::ptr::from_ref(task).addr();
        self.kcov.host().hots.lock().insert(address, hot);
        let owner = NEXT.fetch_add(1, Ordering::Relaxed);
        OWNER.set(owner);
        TestTask {
            task,
            hot,
            kcov: self.kcov,
            owner,
        }
    }

    /// A descriptor with a buffer of `words` words.
    pub(crate) fn device(&self, words: usize) -> Device<SUSPEND> {
        let device = self.kcov.open().unwrap();
        let task = self.task();
        task.ioctl(&device, KCOV_INIT_TRACE, words).unwrap();
        device
    }

    pub(crate) fn live(&self) -> u64 {
        self.kcov.host().live.load(Ordering::Relaxed)
    }

    pub(crate) fn warnings(&self) -> Vec<Warning> {
        self.kcov.host().warnings.lock().clone()
    }
}

impl<const SUSPEND: bool> TestTask<SUSPEND> {
    pub(crate) fn ioctl(
        &self,
        device: &Device<SUSPEND>,
        number: u32,
        argument: usize,
    ) -> Result<(), Errno> {
        OWNER.set(self.owner);
        self.kcov.ioctl(device, self.task, number, argument)
    }

    pub(crate) fn enable(&self, device: &Device<SUSPEND>, mode: usize) -> Result<(), Errno> {
        self.ioctl(device, KCOV_ENABLE, mode)
    }

    pub(crate) fn disable(&self, device: &Device<SUSPEND>) -> Result<(), Errno> {
        self.ioctl(device, KCOV_DISABLE, 0)
    }

    /// `KCOV_REMOTE_ENABLE` in PC mode.
    pub(crate) fn listen(
        &self,
        device: &Device<SUSPEND>,
        area: u32,
        handles: &[u64],
        common: u64,
    ) -> Result<(), Errno> {
        self.put_request([0, area, handles.len() as u32, 0], common, handles);
        self.ioctl(device, KCOV_REMOTE_ENABLE, CLIENT)
    }

    /// Like [`TestTask::listen`], for one of several threads: the request lies in a slot of its own.
    pub(crate) fn listen_at(
        &self,
        slot: u64,
        device: &Device<SUSPEND>,
        area: u32,
        handles: &[u64],
    ) {
        let at = slot as usize * 256;
        {
            let mut client = self.kcov.host().client.lock();
            let room = client.len().max(at + 256);
            client.resize(room, 0);
            let bytes = Self::request([0, area, handles.len() as u32, 0], 0, handles);
            client[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        self.ioctl(device, KCOV_REMOTE_ENABLE, CLIENT + at).unwrap();
    }

    fn request(head: [u32; 4], common: u64, handles: &[u64]) -> Vec<u8> {
        let head = head.iter().flat_map(|n| n.to_ne_bytes());
        let handles = handles.iter().flat_map(|h| h.to_ne_bytes());
        head.chain(common.to_ne_bytes()).chain(handles).collect()
    }

    pub(crate) fn put_request(&self, head: [u32; 4], common: u64, handles: &[u64]) {
        let bytes = Self::request(head, common, handles);
        *self.kcov.host().client.lock() = bytes;
    }

    pub(crate) fn start(&self, handle: u64) {
        self.kcov.start(self.task, handle);
    }

    pub(crate) fn stop(&self) {
        self.kcov.stop(self.task);
    }

    /// Runs `f` as an interrupt of this sort on top of the task.
    pub(crate) fn interrupt<R>(&self, context: Context, f: impl FnOnce() -> R) -> R {
        let outer = CONTEXT.replace(context);
        let result = f();
        CONTEXT.set(outer);
        result
    }

    /// The callback, as a host has it.
    pub(crate) fn trace(&self, pc: u64) {
        let mode = self.hot.mode.load(Ordering::Relaxed);
        let wanted = match CONTEXT.get() {
            Context::Softirq => Mode::Pc as u32 | SOFTIRQ,
            _ => Mode::Pc as u32,
        };
        if mode != wanted {
            return;
        }
        let area = self.hot.area.load(Ordering::Relaxed);
        let limit = self.hot.limit.load(Ordering::Relaxed);
        // SAFETY: set together by the rules.
        if unsafe { append_pc(area, limit, pc) } == append::Appended::Full {
            // SAFETY: it just tried to record, and every sink here has a counter.
            unsafe { self.task.count_full() };
        }
    }

    /// A section around these PCs.
    pub(crate) fn section(&self, handle: u64, pcs: impl IntoIterator<Item = u64>) {
        self.start(handle);
        pcs.into_iter().for_each(|pc| self.trace(pc));
        self.stop();
    }

    pub(crate) fn exit(self) {
        OWNER.set(self.owner);
        self.kcov.exit(self.task);
        let bits = self.hot.mode.load(Ordering::Relaxed) & MODE_BITS;
        assert_eq!(bits, 0, "an ended task records");
    }

    /// Killed with its process: the rules hear nothing of it.
    pub(crate) fn kill(self) {
        self.kcov.host().gone.lock().insert(self.owner);
    }
}

/// The records of a PC buffer, as its count claims them.
pub(crate) fn pcs<const SUSPEND: bool>(device: &Device<SUSPEND>) -> Vec<u64> {
    let memory = device.memory().unwrap();
    let word = |i| {
        // SAFETY: within the buffer, by the caller's `min`.
        unsafe { (*memory.buffer.base().wrapping_add(i)).load(Ordering::Relaxed) }
    };
    let most = u64::from(memory.words.get()) - 1;
    (1..=word(0).min(most) as usize).map(word).collect()
}

/// Writes a client's word.
pub(crate) fn poke<const SUSPEND: bool>(device: &Device<SUSPEND>, i: usize, value: u64) {
    let memory = device.memory().unwrap();
    assert!(i < memory.words.get() as usize);
    // SAFETY: within the buffer.
    unsafe { (*memory.buffer.base().wrapping_add(i)).store(value, Ordering::Relaxed) };
}

/// A client's word.
pub(crate) fn peek<const SUSPEND: bool>(device: &Device<SUSPEND>, i: usize) -> u64 {
    let memory = device.memory().unwrap();
    assert!(i < memory.words.get() as usize);
    // SAFETY: within the buffer.
    unsafe { (*memory.buffer.base().wrapping_add(i)).load(Ordering::Relaxed) }
}
