// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Models of the rules' concurrency, on the code that ships.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release -p rkcov-core --test loom`. Every model
//! has two or three threads and sections of one or two records; under loom merges go record by
//! record, tables begin with one bucket, and there is one shard. That is small enough for no bound
//! on preemptions: all interleavings are run that loom tells apart. Which pair of operations meets
//! in which model is a table in docs/reliability.md.
#![cfg(loom)]

use loom::thread::{self, ThreadId};
use rkcov_core::abi::ioctl::{
    KCOV_DISABLE, KCOV_ENABLE, KCOV_INIT_TRACE, KCOV_REMOTE_ENABLE, KCOV_RESET_TRACE,
    KCOV_UNIQUE_ENABLE,
};
use rkcov_core::abi::{Errno, Words};
use rkcov_core::append::append_pc;
use rkcov_core::sync::{AtomicU64, Ordering, Word};
use rkcov_core::*;
use std::alloc::Layout;
use std::collections::HashMap;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

const USB1: u64 = 0x0100_0000_0000_0001;
const USB2: u64 = 0x0100_0000_0000_0002;
/// Words of every buffer, the count word included.
const WORDS: usize = 8;

struct LoomLock(loom::sync::Mutex<()>);

type LoomGuard = loom::sync::MutexGuard<'static, ()>;

// SAFETY: loom's mutex is one; its guard waits in a box between lock and unlock.
unsafe impl RawLock for LoomLock {
    type Saved = *mut LoomGuard;

    unsafe fn init(slot: *mut Self) {
        // SAFETY: the caller's contract.
        unsafe { slot.write(Self(loom::sync::Mutex::new(()))) };
    }

    fn lock(&self) -> *mut LoomGuard {
        let guard = self.0.lock().unwrap();
        // SAFETY: the guard is dropped in `unlock`, while the lock lives.
        Box::into_raw(Box::new(unsafe {
            std::mem::transmute::<loom::sync::MutexGuard<'_, ()>, LoomGuard>(guard)
        }))
    }

    unsafe fn unlock(&self, guard: *mut LoomGuard) {
        // SAFETY: from `lock`.
        drop(unsafe { Box::from_raw(guard) });
    }
}

struct LoomBuffer {
    words: Vec<Word>,
    live: &'static AtomicI64,
}

// SAFETY: the vector is not resized.
unsafe impl Buffer for LoomBuffer {
    fn base(&self) -> *mut Word {
        self.words.as_ptr().cast_mut()
    }
}

impl Drop for LoomBuffer {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What loom need not see is kept in std's types.
struct LoomHost {
    live: &'static AtomicI64,
    hots: Mutex<HashMap<usize, usize>>,
    requests: Mutex<Vec<Vec<u8>>>,
    /// A thread that was killed: the rules did not hear of its end.
    killed: Mutex<Option<ThreadId>>,
}

// SAFETY: memory from the standard allocator; each task is one loom thread's.
unsafe impl Host for LoomHost {
    type Lock = LoomLock;
    type Mutex = LoomLock;
    type Buffer = LoomBuffer;
    type Owner = ThreadId;
    type Frames = [Recording<Self>; 2];
    type Pin = ();

    const NESTING: Nesting = Nesting::Suspend;
    const COMPARISONS: bool = true;
    const UNIQUE: bool = true;
    const USER_SUBSYSTEMS: bool = true;
    const SOFTIRQ_AREA: Words = Words::MIN;

    fn context(&self) -> Context {
        Context::Task
    }

    fn pin(&self) {}

    fn hot<'t>(&self, task: &'t Task<Self>) -> &'t Hot {
        let hot = self.hots.lock().unwrap()[&std::ptr::from_ref(task).addr()];
        // SAFETY: a leaked `Hot`, registered for this task.
        unsafe { &*(hot as *const Hot) }
    }

    fn buffer(&self, words: Words) -> Option<LoomBuffer> {
        self.live.fetch_add(1, Ordering::Relaxed);
        let words = (0..words.get()).map(|_| Word::new(0)).collect();
        Some(LoomBuffer {
            words,
            live: self.live,
        })
    }

    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.live.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the rules ask for no empty block.
        NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })
    }

    unsafe fn free(&self, block: NonNull<u8>, layout: Layout) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        // Not given back: who uses it all the same does not get far.
        // SAFETY: the caller's contract.
        unsafe { block.write_bytes(0xdd, layout.size()) };
    }

    fn take_softirq_area(&self) -> Option<NonNull<u8>> {
        None
    }

    fn put_softirq_area(&self, _: NonNull<u8>) {}

    fn warn_once(&self, _: Warning) {}

    fn owner(&self) -> ThreadId {
        thread::current().id()
    }

    fn is_gone(&self, owner: ThreadId) -> bool {
        *self.killed.lock().unwrap() == Some(owner)
    }

    fn read_client(&self, address: usize, into: &mut [u8]) -> Result<(), Fault> {
        let requests = self.requests.lock().unwrap();
        let request = requests.get(address >> 16).ok_or(Fault)?;
        let bytes = request
            .get(address & 0xffff..)
            .and_then(|b| b.get(..into.len()));
        into.copy_from_slice(bytes.ok_or(Fault)?);
        Ok(())
    }

    fn seed(&self) -> u64 {
        1
    }
}

#[derive(Clone, Copy)]
struct World {
    kcov: &'static Kcov<LoomHost>,
    live: &'static AtomicI64,
}

/// A task; it moves into the thread that is it.
struct LoomTask {
    task: &'static Task<LoomHost>,
    hot: &'static Hot,
    kcov: &'static Kcov<LoomHost>,
}

// SAFETY: used by the thread that it moved to only.
unsafe impl Send for LoomTask {}

/// A descriptor whose buffer the client has mapped.
#[derive(Clone)]
struct Device {
    file: Ref<LoomHost>,
    base: usize,
}

impl Deref for Device {
    type Target = Ref<LoomHost>;

    fn deref(&self) -> &Self::Target {
        &self.file
    }
}

impl Device {
    fn word(&self, i: usize) -> &Word {
        assert!(i < WORDS);
        // SAFETY: one of the buffer's words, which `file` keeps.
        unsafe { &*(self.base as *const Word).wrapping_add(i) }
    }

    fn pcs(&self) -> Vec<u64> {
        // A compare-exchange that fails is a load; but while loom never tries to put a plain load
        // between the load and the store of another thread, it does so with this one.
        let never = u64::MAX;
        let seen = self
            .word(0)
            .compare_exchange(never, 0, Ordering::Acquire, Ordering::Acquire);
        let count = seen.expect_err("a count in reason") as usize;
        (1..=count)
            .map(|i| self.word(i).load(Ordering::Relaxed))
            .collect()
    }
}

impl World {
    fn new() -> Self {
        let live = Box::leak(Box::new(AtomicI64::new(0)));
        let host = LoomHost {
            live,
            hots: Mutex::default(),
            requests: Mutex::default(),
            killed: Mutex::default(),
        };
        let slot = Box::leak(Box::<Kcov<LoomHost>>::new_uninit());
        // SAFETY: a new place that is never moved.
        let kcov = unsafe {
            Kcov::init(slot.as_mut_ptr(), host);
            slot.assume_init_ref()
        };
        Self { kcov, live }
    }

    fn task(self) -> LoomTask {
        let task = Box::leak(Box::new(Task::new()));
        let hot = Box::leak(Box::new(Hot::new()));
        let (key, place) = (
            std::ptr::from_ref(task).addr(),
            std::ptr::from_ref(hot).expose_provenance(),
        );
        self.kcov.host().hots.lock().unwrap().insert(key, place);
        LoomTask {
            task,
            hot,
            kcov: self.kcov,
        }
    }

    fn device(self) -> Device {
        let file = self.kcov.open().unwrap();
        self.task().init(&file).unwrap();
        let base = self
            .kcov
            .map(&file, WORDS * 8, 0, 8)
            .unwrap()
            .base()
            .expose_provenance();
        Device { file, base }
    }

    fn live(self) -> i64 {
        self.live.load(Ordering::Relaxed)
    }

    /// Nothing is left but, perhaps, a shard's table.
    fn is_empty(self) {
        let (handles, live) = (self.kcov.handles(), self.live());
        assert!(
            handles == 0 && live <= 1,
            "{handles} handles, {live} blocks"
        );
    }
}

impl LoomTask {
    fn call(&self, file: &Ref<LoomHost>, number: u32, argument: usize) -> Result<(), Errno> {
        self.kcov.ioctl(file, self.task, number, argument)
    }

    fn init(&self, file: &Ref<LoomHost>) -> Result<(), Errno> {
        self.call(file, KCOV_INIT_TRACE, WORDS)
    }

    fn enable(&self, device: &Device) -> Result<(), Errno> {
        self.call(device, KCOV_ENABLE, 0)
    }

    fn listen(&self, device: &Device, handles: &[u64]) -> Result<(), Errno> {
        self.listen_as(device, 0, handles)
    }

    fn listen_as(&self, device: &Device, common: u64, handles: &[u64]) -> Result<(), Errno> {
        let head: [u32; 4] = [0, 4, handles.len() as u32, 0];
        let mut bytes: Vec<u8> = head.iter().flat_map(|n| n.to_ne_bytes()).collect();
        bytes.extend(common.to_ne_bytes());
        bytes.extend(handles.iter().flat_map(|h| h.to_ne_bytes()));
        let mut requests = self.kcov.host().requests.lock().unwrap();
        requests.push(bytes);
        let address = (requests.len() - 1) << 16;
        drop(requests);
        self.call(device, KCOV_REMOTE_ENABLE, address)
    }

    fn disable(&self, device: &Device) {
        self.call(device, KCOV_DISABLE, 0).unwrap();
    }

    fn reset(&self, device: &Device) -> Result<(), Errno> {
        self.call(device, KCOV_RESET_TRACE, 0)
    }

    fn exit(&self) {
        self.kcov.exit(self.task);
    }

    /// What this thread has enabled is left as it is, by a process that is no more.
    fn is_killed(&self) {
        *self.kcov.host().killed.lock().unwrap() = Some(thread::current().id());
    }

    fn trace(&self, pc: u64) {
        if self.hot.mode.load(Ordering::Relaxed) == Mode::Pc as u32 {
            let area = self.hot.area.load(Ordering::Relaxed);
            // SAFETY: set together by the rules.
            let _ = unsafe { append_pc(area, self.hot.limit.load(Ordering::Relaxed), pc) };
        }
    }

    fn section(&self, handle: u64, pcs: &[u64]) {
        self.kcov.start(self.task, handle);
        pcs.iter().for_each(|pc| self.trace(*pc));
        self.kcov.stop(self.task);
    }
}

fn model(f: impl Fn(World) + Send + Sync + 'static) {
    loom::model(move || f(World::new()));
}

#[test]
fn a_section_against_disable_is_delivered_or_dropped() {
    model(|world| {
        let (client, device) = (world.task(), world.device());
        client.listen(&device, &[USB1]).unwrap();
        let (worker, watch) = (world.task(), device.clone());
        let section = thread::spawn(move || worker.section(USB1, &[5]));
        client.disable(&device);
        let delivered = watch.pcs();
        section.join().unwrap();
        assert_eq!(watch.pcs(), delivered, "nothing arrives after the disable");
        let [full, stale, ..] = watch.drops().read();
        assert_eq!(full, 0);
        assert!(delivered.len() as u64 + stale <= 1);
        drop((device, watch));
        world.is_empty();
    });
}

#[test]
fn a_section_against_the_end_of_the_client() {
    model(|world| {
        let (client, device) = (world.task(), world.device());
        client.listen(&device, &[USB1]).unwrap();
        let worker = world.task();
        let section = thread::spawn(move || worker.section(USB1, &[5]));
        drop(device); // closed while enabled
        client.exit();
        section.join().unwrap();
        world.is_empty();
    });
}

#[test]
fn a_section_is_never_delivered_to_the_next_client() {
    model(|world| {
        let (a, b, device) = (world.task(), world.task(), world.device());
        a.listen(&device, &[USB1]).unwrap();
        let (worker, told) = (world.task(), Arc::new(AtomicU64::new(1)));
        let section = {
            let told = told.clone();
            thread::spawn(move || {
                // The record says under which client the section was over with its start.
                worker.kcov.start(worker.task, USB1);
                worker.trace(told.load(Ordering::SeqCst));
                worker.kcov.stop(worker.task);
            })
        };
        a.disable(&device);
        device.word(0).store(0, Ordering::Relaxed);
        told.store(2, Ordering::SeqCst);
        b.listen(&device, &[USB1]).unwrap();
        section.join().unwrap();
        assert!(
            !device.pcs().contains(&1),
            "the first client's section reached the second"
        );
        b.disable(&device);
    });
}

#[test]
fn a_section_of_one_handle_is_never_delivered_to_who_enables_for_another() {
    model(|world| {
        let (a, b, device) = (world.task(), world.task(), world.device());
        a.listen(&device, &[USB1]).unwrap();
        let worker = world.task();
        let section = thread::spawn(move || worker.section(USB1, &[7]));
        a.disable(&device);
        device.word(0).store(0, Ordering::Relaxed);
        b.listen(&device, &[USB2]).unwrap();
        section.join().unwrap();
        assert_eq!(device.pcs(), [], "of a handle that nobody listens to");
        b.disable(&device);
    });
}

#[test]
fn merged_records_are_written_before_they_are_counted() {
    model(|world| {
        let (client, device) = (world.task(), world.device());
        client.listen(&device, &[USB1]).unwrap();
        let worker = world.task();
        let section = thread::spawn(move || worker.section(USB1, &[5, 6]));
        for (i, pc) in device.pcs().into_iter().enumerate() {
            assert_eq!(pc, 5 + i as u64, "counted before it was written");
        }
        section.join().unwrap();
        assert_eq!(device.pcs(), [5, 6]);
        client.disable(&device);
    });
}

#[test]
fn two_merges_lose_nothing() {
    model(|world| {
        let (client, device) = (world.task(), world.device());
        client.listen(&device, &[USB1, USB2]).unwrap();
        let (v, w) = (world.task(), world.task());
        let one = thread::spawn(move || v.section(USB1, &[5, 6]));
        w.section(USB2, &[7]);
        one.join().unwrap();
        let mut all = device.pcs();
        all.sort_unstable();
        assert_eq!(all, [5, 6, 7]);
        client.disable(&device);
        drop(device);
        world.is_empty();
    });
}

#[test]
fn a_reset_is_not_undone_by_a_merge() {
    model(|world| {
        let (client, device) = (world.task(), world.device());
        client.listen(&device, &[USB1]).unwrap();
        world.task().section(USB1, &[5]);
        let worker = world.task();
        let section = thread::spawn(move || worker.section(USB1, &[6]));
        client.reset(&device).unwrap();
        section.join().unwrap();
        assert!(
            matches!(device.pcs()[..], [] | [6]),
            "the first record is back"
        );
        client.disable(&device);
    });
}

#[test]
fn a_handle_is_found_while_the_table_grows() {
    model(|world| {
        let (a, b) = (world.task(), world.task());
        let (da, db) = (world.device(), world.device());
        a.listen(&da, &[USB1]).unwrap();
        let worker = world.task();
        let section = thread::spawn(move || worker.section(USB1, &[5]));
        b.listen(&db, &[USB2, USB2 + 1]).unwrap();
        section.join().unwrap();
        assert_eq!(da.pcs(), [5], "the handle was registered all the time");
        b.disable(&db);
        a.disable(&da);
        drop((da, db));
        world.is_empty();
    });
}

#[test]
fn of_two_clients_who_want_the_same_handles_one_gets_them_all() {
    model(|world| {
        let (a, b) = (world.task(), world.task());
        let (da, db) = (world.device(), world.device());
        let device = db.clone();
        let other = thread::spawn(move || (b.listen(&device, &[USB2, USB1]), b));
        let mine = a.listen(&da, &[USB1, USB2]);
        let (theirs, b) = other.join().unwrap();
        assert!(
            matches!(
                (mine, theirs),
                (Ok(()), Err(Errno::Exist)) | (Err(Errno::Exist), Ok(()))
            ),
            "{mine:?} {theirs:?}"
        );
        assert_eq!(world.kcov.handles(), 2);
        match mine {
            Ok(()) => a.disable(&da),
            Err(_) => b.disable(&db),
        }
        assert_eq!(world.kcov.handles(), 0);
    });
}

/// The one of two clients that has a descriptor, of which there is one.
fn only_one(mine: Result<(), Errno>, theirs: Result<(), Errno>, errno: Errno) {
    assert!(
        [mine, theirs].contains(&Ok(())) && [mine, theirs].contains(&Err(errno)),
        "{mine:?} {theirs:?}"
    );
}

#[test]
fn of_two_who_make_one_buffer_one_does() {
    model(|world| {
        let file = world.kcov.open().unwrap();
        let (a, b, same) = (world.task(), world.task(), file.clone());
        let other = thread::spawn(move || b.init(&same));
        // Whoever can map it can use it.
        let mapped = world.kcov.map(&file, WORDS * 8, 0, 8).map(Buffer::base);
        if let Ok(base) = mapped {
            // SAFETY: the first word of a buffer that `file` keeps.
            assert_eq!(unsafe { (*base).load(Ordering::Relaxed) }, 0);
        }
        let mine = a.init(&file);
        only_one(mine, other.join().unwrap(), Errno::Busy);
        drop(file);
        world.is_empty();
    });
}

#[test]
fn of_two_who_enable_one_descriptor_one_does() {
    model(|world| {
        let (a, b, device) = (world.task(), world.task(), world.device());
        let same = device.clone();
        let other = thread::spawn(move || (b.listen(&same, &[USB1]), b));
        let mine = a.enable(&device);
        let (theirs, b) = other.join().unwrap();
        only_one(mine, theirs, Errno::Inval);
        (if mine.is_ok() { &a } else { &b }).disable(&device);
        drop(device);
        world.is_empty();
    });
}

#[test]
fn an_enable_meets_the_close_of_a_copy() {
    model(|world| {
        let (client, device) = (world.task(), world.device());
        let copy = device.clone();
        let close = thread::spawn(move || drop(copy));
        client.listen(&device, &[USB1]).unwrap();
        drop(device);
        // Enabled, so still there whoever was last to close it.
        assert_eq!(world.kcov.handles(), 1);
        world.task().section(USB1, &[5]);
        client.exit();
        close.join().unwrap();
        world.is_empty();
    });
}

#[test]
fn an_enable_against_the_end_of_who_has_it() {
    model(|world| {
        let (a, b, device) = (world.task(), world.task(), world.device());
        a.listen(&device, &[USB1]).unwrap();
        let end = thread::spawn(move || a.exit());
        let mine = b.listen(&device, &[USB1]);
        end.join().unwrap();
        assert!(matches!(mine, Ok(()) | Err(Errno::Inval)), "{mine:?}");
        assert_eq!(world.kcov.handles(), usize::from(mine.is_ok()));
        // Free now at the latest, and nobody else's.
        if mine.is_ok() {
            b.disable(&device);
        }
        b.listen(&device, &[USB1]).unwrap();
        b.disable(&device);
        drop(device);
        world.is_empty();
    });
}

#[test]
fn what_a_killed_client_had_goes_to_one_of_two() {
    model(|world| {
        let device = world.device();
        let (dead, left) = (world.task(), device.clone());
        thread::spawn(move || {
            dead.listen(&left, &[USB1]).unwrap();
            dead.is_killed();
        })
        .join()
        .unwrap();
        let (a, b, same) = (world.task(), world.task(), device.clone());
        let other = thread::spawn(move || (b.listen(&same, &[USB1]), b));
        let mine = a.listen(&device, &[USB1]);
        let (theirs, b) = other.join().unwrap();
        only_one(mine, theirs, Errno::Inval);
        (if mine.is_ok() { &a } else { &b }).disable(&device);
        drop(device);
        world.is_empty();
    });
}

#[test]
fn a_handle_of_a_killed_client_goes_to_one_of_two() {
    model(|world| {
        let (left, da, db) = (world.device(), world.device(), world.device());
        let dead = world.task();
        thread::spawn(move || {
            dead.listen(&left, &[USB1]).unwrap();
            dead.is_killed();
        })
        .join()
        .unwrap();
        let (a, b) = (world.task(), world.task());
        let other = thread::spawn(move || {
            let theirs = b.listen(&db, &[USB1]);
            b.exit();
            theirs
        });
        let mine = a.listen(&da, &[USB1]);
        let theirs = other.join().unwrap();
        // The other one may have had it and gone already.
        assert!(mine.is_ok() || theirs.is_ok(), "{mine:?} {theirs:?}");
        for answer in [mine, theirs] {
            assert!(matches!(answer, Ok(()) | Err(Errno::Exist)), "{answer:?}");
        }
        a.exit();
        drop(da);
        world.is_empty();
    });
}

#[test]
fn tables_grow_and_shrink_under_two_clients() {
    model(|world| {
        let (da, db) = (world.device(), world.device());
        let (a, b, other) = (world.task(), world.task(), db.clone());
        a.listen(&da, &[USB1, USB1 + 2]).unwrap();
        let grows = thread::spawn(move || {
            b.listen(&other, &[USB2, USB2 + 2]).unwrap();
            b
        });
        a.disable(&da);
        let b = grows.join().unwrap();
        assert_eq!(world.kcov.handles(), 2);
        world.task().section(USB2 + 2, &[5]);
        world.task().section(USB1, &[6]);
        assert_eq!((da.pcs(), db.pcs()), (vec![], vec![5]));
        b.disable(&db);
        drop((da, db));
        world.is_empty();
    });
}

#[test]
fn a_section_against_disable_and_the_last_close() {
    model(|world| {
        let (client, device) = (world.task(), world.device());
        client.listen(&device, &[USB1]).unwrap();
        let (worker, copy) = (world.task(), device.clone());
        let section = thread::spawn(move || worker.section(USB1, &[5]));
        let close = thread::spawn(move || drop(copy));
        client.disable(&device);
        drop(device);
        section.join().unwrap();
        close.join().unwrap();
        world.is_empty();
    });
}

#[test]
fn a_task_that_ends_in_a_section_against_disable() {
    model(|world| {
        let (client, device) = (world.task(), world.device());
        client.listen(&device, &[USB1]).unwrap();
        let (worker, watch) = (world.task(), device.clone());
        let end = thread::spawn(move || {
            worker.kcov.start(worker.task, USB1);
            worker.trace(5);
            worker.exit();
        });
        client.disable(&device);
        let delivered = watch.pcs();
        end.join().unwrap();
        assert_eq!(watch.pcs(), delivered, "nothing arrives after the disable");
        drop((device, watch));
        world.is_empty();
    });
}

#[test]
fn a_child_works_on_its_parents_behalf_until_the_parent_disables() {
    model(|world| {
        const COMMON: u64 = 7;
        let (client, device) = (world.task(), world.device());
        client.listen_as(&device, COMMON, &[]).unwrap();
        let child = world.task();
        let inherited = client.task.common(world.kcov.host());
        child.task.begin(world.kcov.host(), inherited);
        let work = thread::spawn(move || {
            let handle = child.kcov.common_handle(child.task);
            child.section(handle, &[5]);
            handle
        });
        client.disable(&device);
        let delivered = device.pcs();
        let handle = work.join().unwrap();
        assert_eq!(handle, COMMON, "inherited for the child's life");
        assert_eq!(device.pcs(), delivered);
        assert_eq!(world.kcov.common_handle(client.task), 0);
        // A child that is born now inherits nothing.
        assert!(client.task.common(world.kcov.host()).is_none());
        drop(device);
        world.is_empty();
    });
}

#[test]
fn a_reset_meets_a_disable_a_reset_and_the_last_section() {
    model(|world| {
        let (client, device) = (world.task(), world.device());
        client.listen(&device, &[USB1]).unwrap();
        world.task().section(USB1, &[5]);
        let (other, same) = (world.task(), device.clone());
        let reset = thread::spawn(move || other.reset(&same));
        client.disable(&device);
        let answer = reset.join().unwrap();
        match answer {
            Ok(()) => assert_eq!(device.pcs(), []),
            Err(errno) => {
                assert_eq!(errno, Errno::Inval, "too late");
                assert_eq!(device.pcs(), [5]);
            }
        }
    });
    model(|world| {
        let (client, device) = (world.task(), world.device());
        client.enable(&device).unwrap();
        let (other, same) = (world.task(), device.clone());
        let reset = thread::spawn(move || {
            other.reset(&same).unwrap();
            other
        });
        client.reset(&device).unwrap();
        let other = reset.join().unwrap();
        client.trace(5);
        assert_eq!(device.pcs(), [5]);
        client.exit();
        assert_eq!(other.reset(&device), Err(Errno::Inval));
        drop(device);
        world.is_empty();
    });
}

#[test]
fn a_reset_touches_nothing_of_the_next_collection() {
    model(|world| {
        const BITMAP: usize = 2;
        let (client, device) = (world.task(), world.device());
        client.call(&device, KCOV_UNIQUE_ENABLE, BITMAP).unwrap();
        let (other, same) = (world.task(), device.clone());
        let reset = thread::spawn(move || other.reset(&same));
        client.disable(&device);
        // What was the bitmap is the place of the count and the first record from here on.
        client.enable(&device).unwrap();
        device.word(0).store(0, Ordering::Relaxed);
        client.trace(5);
        client.trace(6);
        let answer = reset.join().unwrap();
        assert!(matches!(answer, Ok(()) | Err(Errno::Inval)), "{answer:?}");
        let pcs = device.pcs();
        assert!(
            !pcs.contains(&0),
            "a record was taken for the bitmap: {pcs:?}"
        );
        client.exit();
        drop(device);
        world.is_empty();
    });
}

#[test]
fn a_local_and_a_remote_client_of_one_task_end_apart() {
    model(|world| {
        let (client, local, remote) = (world.task(), world.device(), world.device());
        client.enable(&local).unwrap();
        client.listen(&remote, &[USB1]).unwrap();
        let worker = world.task();
        let section = thread::spawn(move || worker.section(USB1, &[5]));
        client.trace(6);
        client.disable(&local);
        client.trace(7);
        section.join().unwrap();
        assert_eq!((local.pcs(), remote.pcs()), (vec![6], vec![5]));
        client.exit();
        drop((local, remote));
        world.is_empty();
    });
}

#[test]
fn an_enable_that_fails_half_way_was_never_there() {
    model(|world| {
        let (a, b) = (world.task(), world.task());
        let (da, db) = (world.device(), world.device());
        b.listen(&db, &[USB2]).unwrap();
        let worker = world.task();
        // USB1 is registered for a moment, and may be found: the section finds nobody to hear it.
        let section = thread::spawn(move || worker.section(USB1, &[5]));
        assert_eq!(a.listen(&da, &[USB1, USB2]), Err(Errno::Exist));
        section.join().unwrap();
        assert_eq!(
            (da.pcs(), db.pcs(), world.kcov.handles()),
            (vec![], vec![], 1)
        );
        let [full, stale, no_area, _] = da.drops().read();
        assert_eq!((full, stale, no_area), (0, 0, 0));
        a.listen(&da, &[USB1]).unwrap();
        a.exit();
        b.exit();
        drop((da, db));
        world.is_empty();
    });
}
