// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Every error, in the interface's order, and that a failure leaves no trace.

extern crate std;

use crate::abi::ioctl::*;
use crate::abi::Errno;
use crate::rules::sync::Ordering;
use crate::rules::testing::*;
use std::vec::Vec;

const USB1: u64 = 0x0100_0000_0000_0001;
const INT_MAX_8: usize = i32::MAX as usize / 8;

#[test]
fn init_trace() {
    let world = World::<false>::new();
    let (task, device) = (world.task(), world.kcov.open().unwrap());
    let init = |size| task.ioctl(&device, KCOV_INIT_TRACE, size);
    for bad in [0, 1, INT_MAX_8 + 1, usize::MAX] {
        assert_eq!(init(bad), Err(Errno::Inval));
    }
    world.kcov.host().fail_in.store(1, Ordering::Relaxed);
    assert_eq!(init(2), Err(Errno::NoMem));
    assert_eq!(init(2), Ok(()));
    let live = world.live();
    assert_eq!(init(2), Err(Errno::Busy));
    assert_eq!(init(1), Err(Errno::Inval));
    assert_eq!(world.live(), live);
    assert_eq!(task.ioctl(&device, KCOV_INIT_TRACE_32, 2), Err(Errno::Busy));
    assert_eq!(task.ioctl(&device, 0x6305, 0), Err(Errno::NoTty));
}

#[test]
fn enable_and_disable() {
    let world = World::<false>::new();
    let (task, other) = (world.task(), world.task());
    let (empty, device, second) = (world.kcov.open().unwrap(), world.device(8), world.device(8));
    assert_eq!(task.enable(&empty, 0), Err(Errno::Inval));
    assert_eq!(task.enable(&device, 2), Err(Errno::Inval));
    assert_eq!(task.enable(&device, 1 << 32), Err(Errno::Inval));
    assert_eq!(task.disable(&device), Err(Errno::Inval));
    assert_eq!(task.enable(&device, 0), Ok(()));
    // The descriptor is looked at before the task, the task before the mode.
    assert_eq!(task.enable(&device, 0), Err(Errno::Inval));
    assert_eq!(other.enable(&device, 0), Err(Errno::Inval));
    assert_eq!(task.enable(&second, 0), Err(Errno::Busy));
    assert_eq!(task.enable(&second, 9), Err(Errno::Busy));
    assert_eq!(other.disable(&device), Err(Errno::Inval));
    assert_eq!(task.ioctl(&device, KCOV_DISABLE, 1), Err(Errno::Inval));
    assert_eq!(task.disable(&device), Ok(()));
    assert_eq!(task.disable(&device), Err(Errno::Inval));
    assert_eq!(other.enable(&device, 1), Ok(()));
}

#[test]
fn local_and_remote_at_once_two_of_a_sort_not() {
    let world = World::<false>::new();
    let task = world.task();
    let [a, b, c, d] = [(); 4].map(|()| world.device(16));
    task.enable(&a, 0).unwrap();
    task.listen(&b, 16, &[USB1], 0).unwrap();
    assert_eq!(task.enable(&c, 0), Err(Errno::Busy));
    assert_eq!(task.listen(&d, 16, &[USB1 + 1], 0), Err(Errno::Busy));
    assert_eq!(task.listen(&a, 16, &[USB1 + 1], 0), Err(Errno::Inval));
    task.disable(&b).unwrap();
    task.trace(1);
    assert_eq!(pcs(&a), [1]);
    task.listen(&d, 16, &[USB1], 0).unwrap();
    task.disable(&a).unwrap();
    world.task().section(USB1, [2]);
    assert_eq!(pcs(&d), [2]);
}

#[test]
fn unique_enable() {
    let linux = World::<false>::new();
    let (task, device) = (linux.task(), linux.kcov.open().unwrap());
    assert_eq!(
        task.ioctl(&device, KCOV_UNIQUE_ENABLE, 1),
        Err(Errno::NotSupp)
    );

    let world = World::<true>::new();
    let (task, device) = (world.task(), world.kcov.open().unwrap());
    let unique = |device, words| task.ioctl(device, KCOV_UNIQUE_ENABLE, words);
    assert_eq!(unique(&device, 1), Err(Errno::Inval));
    task.ioctl(&device, KCOV_INIT_TRACE, 8).unwrap();
    for bad in [0, 7, 8, usize::MAX] {
        assert_eq!(unique(&device, bad), Err(Errno::Inval));
    }
    assert_eq!(unique(&device, 6), Ok(()));
    assert_eq!(unique(&device, 6), Err(Errno::Inval));
    let second = world.device(8);
    assert_eq!(unique(&second, 0), Err(Errno::Busy));
    assert_eq!(task.task.bitmap_bits.load(Ordering::Relaxed), 6 * 64);
    assert_eq!(task.hot.limit.load(Ordering::Relaxed), 1);
}

#[test]
fn reset_trace() {
    let world = World::<true>::new();
    let (task, other, device) = (world.task(), world.task(), world.device(8));
    let reset = |task: &TestTask<true>, arg| task.ioctl(&device, KCOV_RESET_TRACE, arg);
    assert_eq!(reset(&task, 0), Err(Errno::Inval));
    task.enable(&device, 0).unwrap();
    task.trace(1);
    assert_eq!(reset(&task, 1), Err(Errno::Inval));
    assert_eq!(pcs(&device), [1]);
    assert_eq!(reset(&other, 0), Ok(()));
    task.trace(2);
    assert_eq!(pcs(&device), [2]);
    task.disable(&device).unwrap();
    assert_eq!(reset(&task, 0), Err(Errno::Inval));

    task.ioctl(&device, KCOV_UNIQUE_ENABLE, 3).unwrap();
    for i in 0..8 {
        poke(&device, i, 77);
    }
    assert_eq!(reset(&task, 0), Ok(()));
    let words: Vec<u64> = (0..8).map(|i| peek(&device, i)).collect();
    assert_eq!(words, [0, 0, 0, 0, 77, 77, 77, 77]);
}

#[test]
fn map() {
    let world = World::<false>::new();
    let (empty, device) = (world.kcov.open().unwrap(), world.device(513));
    let map = |device, bytes, offset| world.kcov.map(device, bytes, offset, 4096).err();
    assert_eq!(map(&empty, 4096, 0), Some(Errno::Inval));
    assert_eq!(map(&device, 513 * 8, 0), Some(Errno::Inval));
    assert_eq!(map(&device, 4096, 0), Some(Errno::Inval));
    assert_eq!(map(&device, 8192, 4096), Some(Errno::Inval));
    assert_eq!(map(&device, 8192, 0), None);
    assert_eq!(map(&device, 8192, 0), None);
}

/// The errors of `KCOV_REMOTE_ENABLE`, from the last check to the first: each case has every later
/// fault as well, so that only the order of the checks gives the answer.
#[test]
fn remote_enable_checks_in_order() {
    let world = World::<false>::new();
    let (task, other) = (world.task(), world.task());
    let (device, taken, empty) = (
        world.device(16),
        world.device(16),
        world.kcov.open().unwrap(),
    );
    other.listen(&taken, 16, &[USB1], 0).unwrap();
    let remote = |task: &TestTask<false>, d, head: [u32; 4], common, handles: &[u64]| {
        task.put_request(head, common, handles);
        task.ioctl(d, KCOV_REMOTE_ENABLE, CLIENT)
    };
    let bad_handle = 0x0200_0000_0000_0001;
    let head = |mode, area, num| [mode, area, num, 0];
    // Handles in order, the common one last.
    assert_eq!(
        remote(&task, &device, head(0, 2, 1), bad_handle, &[USB1]),
        Err(Errno::Exist)
    );
    assert_eq!(
        remote(
            &task,
            &device,
            head(0, 2, 2),
            bad_handle,
            &[bad_handle, USB1]
        ),
        Err(Errno::Inval)
    );
    for bad in [
        0,
        7,
        bad_handle,
        0x0100_0001_0000_0000,
        0x8000_0000_0000_0001,
    ] {
        assert_eq!(
            remote(&task, &device, head(0, 2, 1), 0, &[bad]),
            Err(Errno::Inval),
            "{bad:#x}"
        );
    }
    assert_eq!(
        remote(&task, &device, head(0, 2, 1), USB1 + 2, &[USB1 + 1]),
        Err(Errno::Inval)
    );
    assert_eq!(
        remote(&task, &device, head(0, 2, 2), 0, &[USB1 + 1, USB1 + 1]),
        Err(Errno::Exist),
        "twice in one call"
    );
    // The area before the handles, the mode before the area.
    for (mode, area) in [
        (0, 0),
        (0, 1),
        (1, 4),
        (0, INT_MAX_8 as u32 + 1),
        (0, u32::MAX),
    ] {
        assert_eq!(
            remote(&task, &device, head(mode, area, 1), 0, &[USB1]),
            Err(Errno::Inval)
        );
    }
    assert_eq!(
        remote(&task, &device, head(2, 16, 1), 0, &[USB1]),
        Err(Errno::Inval)
    );
    // The task before the mode, the descriptor before the task.
    assert_eq!(
        remote(&other, &device, head(2, 0, 1), 0, &[USB1]),
        Err(Errno::Busy)
    );
    assert_eq!(
        remote(&other, &taken, head(2, 0, 1), 0, &[USB1]),
        Err(Errno::Inval)
    );
    assert_eq!(
        remote(&other, &empty, head(2, 0, 1), 0, &[USB1]),
        Err(Errno::Inval)
    );
    // The copy before all.
    assert_eq!(
        remote(&other, &taken, head(2, 0, 2), 0, &[USB1]),
        Err(Errno::Fault)
    );
    assert_eq!(
        remote(&other, &taken, head(2, 0, 257), 0, &[]),
        Err(Errno::Inval)
    );
    assert_eq!(
        remote(&other, &taken, head(2, 0, u32::MAX), 0, &[]),
        Err(Errno::Inval)
    );
    for address in [0, CLIENT + 24, usize::MAX, usize::MAX - 7] {
        assert_eq!(
            task.ioctl(&device, KCOV_REMOTE_ENABLE, address),
            Err(Errno::Fault)
        );
    }
    assert_eq!(world.kcov.handles(), 1);
    assert_eq!(remote(&task, &device, head(1, 5, 0), 0, &[]), Ok(()));
}

#[test]
fn a_cut_argument_faults_at_every_byte() {
    let world = World::<false>::new();
    let (task, device) = (world.task(), world.device(16));
    task.put_request([0, 16, 3, 0], 9, &[USB1, USB1 + 1, USB1 + 2]);
    let whole = world.kcov.host().client.lock().clone();
    let live = world.live();
    for len in 0..whole.len() {
        *world.kcov.host().client.lock() = whole[..len].to_vec();
        assert_eq!(
            task.ioctl(&device, KCOV_REMOTE_ENABLE, CLIENT),
            Err(Errno::Fault)
        );
        assert_eq!((world.live(), world.kcov.handles()), (live, 0));
    }
    *world.kcov.host().client.lock() = whole;
    assert_eq!(task.ioctl(&device, KCOV_REMOTE_ENABLE, CLIENT), Ok(()));
    assert_eq!(world.kcov.handles(), 4);
}

#[test]
fn every_allocation_may_fail_without_a_trace() {
    let world = World::<false>::new();
    let (task, other) = (world.task(), world.task());
    let (device, taken) = (world.device(16), world.device(16));
    let handles: Vec<u64> = (0..256).map(|i| USB1 + i).collect();
    other.listen(&taken, 16, &[handles[255]], 0).unwrap();
    let live = world.live();
    let listen = || task.listen(&device, 16, &handles[..255], 7);
    let mut failures = 0;
    loop {
        world
            .kcov
            .host()
            .fail_in
            .store(failures + 1, Ordering::Relaxed);
        let result = listen();
        if result == Ok(()) {
            break;
        }
        assert_eq!(result, Err(Errno::NoMem));
        assert_eq!(world.kcov.handles(), 1);
        assert_eq!(world.kcov.common_handle(task.task), 0);
        failures += 1;
    }
    world.kcov.host().fail_in.store(0, Ordering::Relaxed);
    assert!(failures >= 2, "the nodes and a first table at least");
    assert_eq!(world.kcov.handles(), 257);
    task.disable(&device).unwrap();
    // EEXIST on the last of 256, then the same without it.
    assert_eq!(task.listen(&device, 16, &handles, 7), Err(Errno::Exist));
    assert_eq!(world.kcov.handles(), 1);
    listen().unwrap();
    task.disable(&device).unwrap();
    other.disable(&taken).unwrap();
    assert!(
        world.live() <= live + 16,
        "nothing but first tables is kept"
    );
}
