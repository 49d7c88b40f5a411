// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine that exists in one thread: what the rules need of the place they run in, with every
//! promise of theirs checked.

use std::alloc::Layout;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rkcov_abi::Words;
use rkcov_core::sync::Word;
use rkcov_core::{
    Area, Buffer, Context, Fault, Frames, Hot, Nesting, RawLock, Recording, Task, Warning,
};

use super::heap::Heap;

/// Words of a softirq's area: few, so that histories fill it.
pub(super) const SOFTIRQ_WORDS: u32 = 24;
/// How many of them there are.
pub(super) const SOFTIRQ_AREAS: u32 = 2;
/// Where the client's argument lies.
pub(super) const ARGUMENT: usize = 0x1000;

/// What a machine plays.
pub(super) trait Kind: Sized + Send + Sync + 'static {
    const NESTING: Nesting;
    type Frames: Frames<Machine<Self>>;
}

/// A userspace process.
pub(super) struct Userspace;

impl Kind for Userspace {
    const NESTING: Nesting = Nesting::Suspend;
    type Frames = [Recording<Machine<Self>>; 8];
}

/// A kernel.
pub(super) struct Kernel;

impl Kind for Kernel {
    const NESTING: Nesting = Nesting::Refuse;
    type Frames = [Recording<Machine<Self>>; 2];
}

/// The machine.
pub(super) struct Machine<K> {
    state: Mutex<State>,
    kind: PhantomData<K>,
}

/// What the machine knows.
pub(super) struct State {
    pub(super) heap: Heap,
    pub(super) context: Context,
    /// Who calls the rules now.
    pub(super) caller: u32,
    pub(super) warnings: u64,
    /// The argument of the call that is under way.
    pub(super) argument: Argument,
    /// Which descriptor a buffer is being made for.
    pub(super) opener: usize,
    /// The buffers, by descriptor.
    pub(super) buffers: BTreeMap<usize, (usize, u32)>,
    /// Where the hot fields of each task are.
    pub(super) hots: BTreeMap<usize, usize>,
    softirq_free: Vec<usize>,
}

/// What a client passes by address: bytes at [`ARGUMENT`], the rest of memory cannot be read.
#[derive(Default)]
pub(super) struct Argument {
    pub(super) bytes: Vec<u8>,
    /// Another thread writes this to `num_handles` as soon as that has been read.
    pub(super) then: Option<u32>,
}

impl<K: Kind> Machine<K> {
    pub(super) fn new() -> Self {
        let mut heap = Heap::default();
        let words = Words::new(u64::from(SOFTIRQ_WORDS)).expect("few words");
        let areas = (0..SOFTIRQ_AREAS).map(|_| heap.alloc(Area::layout(words)).as_ptr() as usize);
        let softirq_free = areas.collect();
        Self {
            state: Mutex::new(State {
                heap,
                context: Context::Task,
                caller: 0,
                warnings: 0,
                argument: Argument::default(),
                opener: 0,
                buffers: BTreeMap::new(),
                hots: BTreeMap::new(),
                softirq_free,
            }),
            kind: PhantomData,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all softirq areas are back.
    pub(super) fn softirq_areas_free(&self) -> bool {
        self.state().softirq_free.len() == SOFTIRQ_AREAS as usize
    }
}

thread_local! {
    /// Locks held and pins that live: with any of them nothing may be allocated.
    static ATOMIC: Cell<u32> = const { Cell::new(0) };
}

fn assert_may_sleep(what: &str) {
    assert_eq!(ATOMIC.get(), 0, "{what} under a lock");
}

/// A lock. The machine has one thread, so who has to wait waits for ever.
pub(super) struct Lock {
    held: Cell<bool>,
    spins: bool,
}

impl Lock {
    fn take(&self) {
        assert!(!self.held.replace(true), "waits for a lock that it holds");
        ATOMIC.set(ATOMIC.get() + u32::from(self.spins));
    }

    fn give(&self) {
        assert!(
            self.held.replace(false),
            "gives back a lock that it has not"
        );
        ATOMIC.set(ATOMIC.get() - u32::from(self.spins));
    }
}

/// A lock under which nothing may sleep.
pub(super) struct Spin(Lock);
/// One under which it may.
pub(super) struct Sleepy(Lock);

// SAFETY: one thread, and a second taker panics.
unsafe impl RawLock for Spin {
    type Saved = ();

    unsafe fn init(slot: *mut Self) {
        let held = Cell::new(false);
        // SAFETY: the caller's contract.
        unsafe { slot.write(Self(Lock { held, spins: true })) };
    }

    fn lock(&self) {
        self.0.take();
    }

    unsafe fn unlock(&self, (): ()) {
        self.0.give();
    }
}

// SAFETY: as above.
unsafe impl RawLock for Sleepy {
    type Saved = ();

    unsafe fn init(slot: *mut Self) {
        let held = Cell::new(false);
        // SAFETY: the caller's contract.
        unsafe { slot.write(Self(Lock { held, spins: false })) };
    }

    fn lock(&self) {
        assert_may_sleep("waits for a mutex");
        self.0.take();
    }

    unsafe fn unlock(&self, (): ()) {
        self.0.give();
    }
}

/// Keeps interrupts off.
#[must_use = "interrupts come again when this is dropped"]
pub(super) struct Pin;

impl Drop for Pin {
    fn drop(&mut self) {
        ATOMIC.set(ATOMIC.get() - 1);
    }
}

/// A client's buffer, in the machine's heap.
pub(super) struct Mapped<K: Kind> {
    machine: *const Machine<K>,
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the heap zeroes a block of so many words and keeps it until it is freed, here.
unsafe impl<K: Kind> Buffer for Mapped<K> {
    fn base(&self) -> *mut Word {
        self.base.as_ptr().cast()
    }
}

impl<K: Kind> Drop for Mapped<K> {
    fn drop(&mut self) {
        // SAFETY: the machine outlives what was made in it: `Simulated` drops it last.
        let machine = unsafe { &*self.machine };
        machine.state().heap.free(self.base, self.layout);
    }
}

// SAFETY: one thread; memory comes from the heap, which gives no block out twice; the rest is told
// by who drives the machine.
unsafe impl<K: Kind> rkcov_core::Host for Machine<K> {
    type Lock = Spin;
    type Mutex = Sleepy;
    type Buffer = Mapped<K>;
    type Owner = u32;
    type Frames = K::Frames;
    type Pin = Pin;

    const NESTING: Nesting = K::NESTING;
    const COMPARISONS: bool = true;
    const UNIQUE: bool = true;
    const USER_SUBSYSTEMS: bool = matches!(K::NESTING, Nesting::Suspend);
    const SOFTIRQ_AREA: Words = match Words::new(SOFTIRQ_WORDS as u64) {
        Some(words) => words,
        None => Words::MIN,
    };

    fn context(&self) -> Context {
        self.state().context
    }

    fn pin(&self) -> Pin {
        ATOMIC.set(ATOMIC.get() + 1);
        Pin
    }

    fn hot<'t>(&self, task: &'t Task<Self>) -> &'t Hot {
        let address = self.state().hots[&(std::ptr::from_ref(task) as usize)];
        // SAFETY: who drives the machine keeps a task and its hot fields together.
        unsafe { &*(address as *const Hot) }
    }

    fn buffer(&self, words: Words) -> Option<Mapped<K>> {
        assert_may_sleep("a buffer");
        let mut state = self.state();
        if state.heap.fails() {
            return None;
        }
        let layout = Layout::array::<Word>(words.get() as usize).ok()?;
        let base = state.heap.alloc(layout);
        let opener = state.opener;
        // A second INIT_TRACE gets one too, and drops it; the first stays.
        let entry = (base.as_ptr() as usize, words.get());
        state.buffers.entry(opener).or_insert(entry);
        Some(Mapped {
            machine: self,
            base,
            layout,
        })
    }

    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        assert_may_sleep("an allocation");
        let mut state = self.state();
        (!state.heap.fails()).then(|| state.heap.alloc(layout))
    }

    unsafe fn free(&self, block: NonNull<u8>, layout: Layout) {
        assert_may_sleep("a free");
        self.state().heap.free(block, layout);
    }

    fn take_softirq_area(&self) -> Option<NonNull<u8>> {
        let mut state = self.state();
        if state.heap.fails() {
            return None;
        }
        let address = state.softirq_free.pop()?;
        NonNull::new(address as *mut u8)
    }

    fn put_softirq_area(&self, block: NonNull<u8>) {
        self.state().softirq_free.push(block.as_ptr() as usize);
    }

    fn warn_once(&self, _: Warning) {
        self.state().warnings += 1;
    }

    fn owner(&self) -> u32 {
        self.state().caller
    }

    fn is_gone(&self, _: u32) -> bool {
        // The machine tells the rules of every end.
        false
    }

    fn read_client(&self, address: usize, into: &mut [u8]) -> Result<(), Fault> {
        assert_may_sleep("a read of the client's memory");
        let argument = &mut self.state().argument;
        let from = address.checked_sub(ARGUMENT).ok_or(Fault)?;
        let bytes = argument.bytes.get(from..).ok_or(Fault)?;
        into.copy_from_slice(bytes.get(..into.len()).ok_or(Fault)?);
        if (from..from + into.len()).contains(&8) {
            if let Some(num) = argument.then.take() {
                argument.bytes[8..12].copy_from_slice(&num.to_ne_bytes());
            }
        }
        Ok(())
    }

    fn seed(&self) -> u64 {
        0x5eed
    }
}
