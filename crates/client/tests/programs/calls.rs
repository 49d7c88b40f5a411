// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every call of `rkcov::kcov`, on the kcov of this process, which is built instrumented.

use rkcov::kcov::{
    common_handle, cover, instrument, section, Buffer, CommonHandle, Errno, Error, Handle, Kcov,
    RemoteOptions, Subsystem, TraceMode, Words,
};
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

static SINK: AtomicU64 = AtomicU64::new(0);

/// At least `n` records.
#[inline(never)]
fn work(n: u64) {
    for i in 0..n {
        SINK.fetch_add(i, Ordering::Relaxed);
    }
}

fn words(n: u64) -> Words {
    Words::new(n).unwrap()
}

fn user(instance: u32) -> Handle {
    Handle::new(Subsystem::USER_FIRST, instance).unwrap()
}

fn refused<T>(result: Result<T, Error>, errno: Errno) {
    let Err(error) = result else {
        panic!("expected {errno}");
    };
    assert_eq!(error.errno(), Some(errno), "{error}");
}

fn remote(handles: Vec<Handle>, common: Option<CommonHandle>) -> RemoteOptions {
    RemoteOptions {
        mode: TraceMode::Pc,
        area: words(1024),
        handles,
        common,
    }
}

fn opened() -> (Kcov, Buffer) {
    Kcov::with_buffer(words(1024)).unwrap()
}

fn errors_come_in_the_interfaces_order() {
    let kcov = Kcov::open().unwrap();
    refused(kcov.enable(TraceMode::Pc), Errno::Inval);
    refused(kcov.map(), Errno::Inval);
    refused(kcov.init(words(1)), Errno::Inval);
    kcov.init(words(1024)).unwrap();
    refused(kcov.init(words(1024)), Errno::Busy);
    refused(kcov.reset(), Errno::Inval);
    let collecting = kcov.enable(TraceMode::Pc).unwrap();
    refused(kcov.enable(TraceMode::Pc), Errno::Inval);
    let (other, _) = opened();
    refused(other.enable(TraceMode::Pc), Errno::Busy);
    refused(
        other.remote_enable(&remote(vec![user(1); 2], None)),
        Errno::Exist,
    );
    refused(
        other.remote_enable(&remote(vec![user(1); 257], None)),
        Errno::Inval,
    );
    // One of each sort at once.
    other
        .remote_enable(&remote(vec![user(1)], None))
        .unwrap()
        .disable()
        .unwrap();
    collecting.disable().unwrap();
}

fn a_thread_collects_from_itself() {
    let (kcov, buffer) = opened();
    let collecting = kcov.enable(TraceMode::Pc).unwrap();
    work(5);
    drop(collecting);
    let count = buffer.pcs().count();
    assert!(count >= 5 && buffer.pcs().all(|pc| pc != 0));
    work(5);
    assert_eq!(buffer.pcs().count(), count, "nothing after the end");
    let collecting = kcov.enable(TraceMode::Pc).unwrap();
    kcov.reset().unwrap();
    assert!(buffer.pcs().count() < count);
    for _ in 0..300 {
        work(5);
    }
    collecting.disable().unwrap();
    assert_eq!(buffer.pcs().count(), 1023);
    assert!(kcov.drops().unwrap().unwrap().full > 0);
}

fn each_pc_once() {
    let (kcov, buffer) = opened();
    let bitmap = words(512);
    refused(kcov.unique(words(1023)), Errno::Inval);
    let collecting = kcov.unique(bitmap).unwrap();
    let record = || {
        work(5);
        buffer.bits(bitmap).count() + buffer.pcs_behind(bitmap).count()
    };
    let (first, second) = (record(), record());
    collecting.disable().unwrap();
    assert!(
        first > 0 && buffer.words().len() == 1024,
        "{first} {second}"
    );
}

fn sections_of_a_handle() {
    let (kcov, buffer) = opened();
    let collecting = kcov.remote_enable(&remote(vec![user(7)], None)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            drop(section(user(8)));
            assert_eq!(buffer.pcs().count(), 0, "of another handle");
            let ours = section(user(7));
            work(3);
            drop(ours);
        });
    });
    let count = buffer.pcs().count();
    assert!(count >= 3);

    // A panic ends the section, and so do nested ones, from the inside out.
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _outer = section(user(7));
        work(3);
        let _inner = section(user(8));
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(panicked.is_err());
    let after = buffer.pcs().count();
    assert!(after >= count + 3);
    work(3);
    assert_eq!(buffer.pcs().count(), after);
    collecting.disable().unwrap();
}

fn a_future_is_polled_in_sections() {
    let (kcov, buffer) = opened();
    let collecting = kcov.remote_enable(&remote(vec![user(7)], None)).unwrap();
    let mut polls = 0;
    let future = std::future::poll_fn(move |_| {
        work(3);
        polls += 1;
        if polls == 2 {
            Poll::Ready(polls)
        } else {
            Poll::Pending
        }
    });
    let mut future = Box::pin(instrument(user(7), future));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    let first = buffer.pcs().count();
    assert!(first >= 3);
    work(3);
    assert_eq!(buffer.pcs().count(), first, "nothing between polls");
    let elsewhere = std::thread::spawn(move || {
        let mut cx = Context::from_waker(Waker::noop());
        future.as_mut().poll(&mut cx)
    });
    assert_eq!(elsewhere.join().unwrap(), Poll::Ready(2));
    assert!(buffer.pcs().count() >= first + 3);
    collecting.disable().unwrap();
}

fn a_closure_is_covered() {
    let cover_work = |n| {
        let covered = cover(words(1024), || {
            work(n);
            7
        });
        let (result, pcs) = covered.unwrap();
        assert_eq!(result, 7);
        pcs.len()
    };
    let (few, more) = (cover_work(5), cover_work(25));
    assert!(few >= 5 && more >= few + 20, "{few} {more}");
}

fn children_inherit_the_common_handle() {
    let (kcov, buffer) = opened();
    let common = CommonHandle::new(Handle::new(Subsystem::COMMON, 9).unwrap());
    let before = std::thread::spawn(common_handle).join().unwrap();
    let collecting = kcov.remote_enable(&remote(Vec::new(), common)).unwrap();
    let child = std::thread::spawn(|| {
        let grandchild = std::thread::spawn(common_handle).join().unwrap();
        let _section = common_handle().map(section);
        work(3);
        grandchild
    });
    assert_eq!((before, child.join().unwrap()), (None, common));
    assert!(buffer.pcs().count() >= 3);
    drop(collecting);
    assert_eq!(common_handle(), None);
}

fn a_buffer_outlives_its_descriptor() {
    let (kcov, buffer) = opened();
    let collecting = kcov.enable(TraceMode::Pc).unwrap();
    work(5);
    drop(collecting);
    drop(kcov);
    assert!(buffer.pcs().count() >= 5);
    buffer.clear();
    assert_eq!(buffer.pcs().count(), 0);
}

fn rounds_leave_nothing_behind() {
    let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open_files();
    for _ in 0..10_000 {
        let (kcov, buffer) = opened();
        let collecting = kcov.remote_enable(&remote(vec![user(1)], None)).unwrap();
        let ours = section(user(1));
        work(1);
        drop((ours, collecting));
        assert!(buffer.pcs().count() >= 1);
    }
    assert_eq!(open_files(), before);
}

fn main() {
    errors_come_in_the_interfaces_order();
    a_thread_collects_from_itself();
    each_pc_once();
    sections_of_a_handle();
    a_future_is_polled_in_sections();
    a_closure_is_covered();
    children_inherit_the_common_handle();
    a_buffer_outlives_its_descriptor();
    rounds_leave_nothing_behind();
    println!("all calls");
}
