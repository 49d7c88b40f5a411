// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Models of the rules' concurrency, on the code that ships.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release -p rkcov-core --test loom`. Every model
//! has two or three threads and sections of one or two records; under loom merges go record by
//! record, tables begin with one bucket, and there is one shard. That is small enough for no bound
//! on preemptions: all interleavings are run that loom tells apart.
#![cfg(loom)]

use loom::thread;
use rkcov_core::abi::ioctl::{KCOV_DISABLE, KCOV_INIT_TRACE, KCOV_REMOTE_ENABLE, KCOV_RESET_TRACE};
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
}

// SAFETY: memory from the standard allocator; each task is one loom thread's.
unsafe impl Host for LoomHost {
    type Lock = LoomLock;
    type Mutex = LoomLock;
    type Buffer = LoomBuffer;
    type Owner = ();
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
        // SAFETY: the caller's contract.
        unsafe { std::alloc::dealloc(block.as_ptr(), layout) };
    }

    fn take_softirq_area(&self) -> Option<NonNull<u8>> {
        None
    }

    fn put_softirq_area(&self, _: NonNull<u8>) {}

    fn warn_once(&self, _: Warning) {}

    fn owner(&self) {}

    fn is_gone(&self, (): ()) -> bool {
        false
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
        self.kcov
            .ioctl(&file, self.task().task, KCOV_INIT_TRACE, WORDS)
            .unwrap();
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
}

impl LoomTask {
    fn listen(&self, device: &Device, handles: &[u64]) -> Result<(), Errno> {
        let head: [u32; 4] = [0, 4, handles.len() as u32, 0];
        let mut bytes: Vec<u8> = head.iter().flat_map(|n| n.to_ne_bytes()).collect();
        bytes.extend(0_u64.to_ne_bytes());
        bytes.extend(handles.iter().flat_map(|h| h.to_ne_bytes()));
        let mut requests = self.kcov.host().requests.lock().unwrap();
        requests.push(bytes);
        let address = (requests.len() - 1) << 16;
        drop(requests);
        self.kcov
            .ioctl(device, self.task, KCOV_REMOTE_ENABLE, address)
    }

    fn disable(&self, device: &Device) {
        self.kcov.ioctl(device, self.task, KCOV_DISABLE, 0).unwrap();
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
        assert_eq!(world.live(), 1, "the shard's first table and nothing else");
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
        client.kcov.exit(client.task);
        section.join().unwrap();
        assert_eq!((world.kcov.handles(), world.live()), (0, 1));
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
        assert!(world.live() <= 1);
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
        world
            .kcov
            .ioctl(&device, client.task, KCOV_RESET_TRACE, 0)
            .unwrap();
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
        assert!(world.live() <= 1);
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
