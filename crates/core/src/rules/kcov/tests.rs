// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Sections, and the ends of tasks.

extern crate std;

use crate::rules::hot::{MODE_BITS, SOFTIRQ};
use crate::rules::sync::Ordering;
use crate::rules::testing::*;
use crate::rules::*;
use std::vec;
use std::vec::Vec;

const USB1: u64 = 0x0100_0000_0000_0001;
const USB2: u64 = 0x0100_0000_0000_0002;

#[test]
fn a_section_is_merged_when_it_stops() {
    let world = World::<false>::new();
    let (client, worker, device) = (world.task(), world.task(), world.device(16));
    client.listen(&device, 16, &[USB1], 7).unwrap();
    worker.start(USB1);
    worker.trace(0xa);
    assert_eq!(pcs(&device), []);
    worker.stop();
    worker.trace(0xb);
    worker.section(7, [0xc]);
    worker.section(USB2, [0xd]);
    worker.section(0, [0xe]);
    assert_eq!(pcs(&device), [0xa, 0xc]);
    assert_eq!(world.warnings(), []);
}

#[test]
fn two_clients_never_see_each_others() {
    let world = World::<true>::new();
    let (a, b) = (world.task(), world.task());
    let (da, db) = (world.device(64), world.device(64));
    a.listen(&da, 16, &[USB1], 0).unwrap();
    b.listen(&db, 16, &[USB2], 0).unwrap();
    let (w, x) = (world.task(), world.task());
    w.start(USB1);
    x.start(USB2);
    for pc in 0..5 {
        w.trace(100 + pc);
        x.trace(200 + pc);
        a.trace(300);
    }
    x.stop();
    w.stop();
    assert_eq!(pcs(&da), (100..105).collect::<Vec<_>>());
    assert_eq!(pcs(&db), (200..205).collect::<Vec<_>>());
}

#[test]
fn a_stale_section_is_dropped_and_counted() {
    for reenable in [false, true] {
        let world = World::<false>::new();
        let (a, b, worker, device) = (world.task(), world.task(), world.task(), world.device(16));
        a.listen(&device, 16, &[USB1], 0).unwrap();
        worker.start(USB1);
        worker.trace(0xa);
        a.disable(&device).unwrap();
        if reenable {
            b.listen(&device, 16, &[USB1], 0).unwrap();
        }
        worker.trace(0xb);
        worker.stop();
        assert_eq!(pcs(&device), []);
        assert_eq!(device.drops().read(), [0, 2, 0, 0]);
        assert_eq!(world.kcov.drops().read(), [0, 2, 0, 0]);
        if reenable {
            worker.section(USB1, [0xc]);
            assert_eq!(pcs(&device), [0xc]);
        }
    }
}

#[test]
fn full_areas_and_full_buffers_are_counted_exactly() {
    let world = World::<false>::new();
    let (client, worker, device) = (world.task(), world.task(), world.device(6));
    client.listen(&device, 5, &[USB1], 0).unwrap();
    worker.section(USB1, 0..7); // 4 fit the area, 3 do not
    assert_eq!(device.drops().read(), [3, 0, 0, 0]);
    worker.section(USB1, 10..13); // 1 fits the buffer, 2 do not
    assert_eq!(pcs(&device), [0, 1, 2, 3, 10]);
    assert_eq!(device.drops().read(), [5, 0, 0, 0]);
    poke(&device, 0, u64::MAX);
    worker.section(USB1, [20]);
    assert_eq!(peek(&device, 0), u64::MAX);
    assert_eq!(device.drops().read(), [6, 0, 0, 0]);
    poke(&device, 0, 0);
    worker.section(USB1, [21]);
    assert_eq!(pcs(&device), [21]);
}

#[test]
fn the_totals_hold_what_each_descriptor_dropped() {
    let world = World::<true>::new();
    let (task, client, own, device) =
        (world.task(), world.task(), world.device(3), world.device(3));
    for round in 1..3 {
        task.enable(&own, 0).unwrap();
        (0..5).for_each(|pc| task.trace(pc));
        task.disable(&own).unwrap();
        assert_eq!(world.kcov.drops().read(), [5 * round - 2, 0, 0, 0]);
    }
    client.listen(&device, 5, &[USB1], 0).unwrap();
    task.section(USB1, 0..5); // 4 fit the area, 2 of them the buffer
    assert_eq!(device.drops().read(), [3, 0, 0, 0]);
    assert_eq!(world.kcov.drops().read(), [8 + 3, 0, 0, 0]);
    client.disable(&device).unwrap();
    task.enable(&device, 0).unwrap();
    task.trace(8);
    assert_eq!(device.drops().read(), [4, 0, 0, 0]);
    task.disable(&device).unwrap();
    assert_eq!(world.kcov.drops().read(), [12, 0, 0, 0]);
    task.enable(&own, 0).unwrap();
    task.trace(9);
    task.exit();
    assert_eq!(world.kcov.drops().read(), [13, 0, 0, 0]);
}

#[test]
fn large_sections_merge_in_steps_without_loss() {
    let world = World::<false>::new();
    let (client, worker, device) = (world.task(), world.task(), world.device(5000));
    client.listen(&device, 4000, &[USB1], 0).unwrap();
    worker.section(USB1, 0..1000);
    worker.section(USB1, 1000..1256);
    assert_eq!(pcs(&device), (0..1256).collect::<Vec<_>>());
}

#[test]
fn areas_are_reused_and_freed_with_the_collection() {
    let world = World::<false>::new();
    let (client, worker, device) = (world.task(), world.task(), world.device(64));
    client.listen(&device, 16, &[USB1], 0).unwrap();
    let idle = world.live();
    worker.section(USB1, [1]);
    assert_eq!(world.live(), idle + 1);
    worker.section(USB1, [2]);
    assert_eq!(world.live(), idle + 1);
    let other = world.task();
    worker.start(USB1);
    other.section(USB1, [3]);
    worker.stop();
    assert_eq!(world.live(), idle + 2);
    client.disable(&device).unwrap();
    assert_eq!(world.live(), idle - 1, "areas and handles are gone");
}

#[test]
fn without_an_area_nothing_is_recorded_and_one_drop_counted() {
    let world = World::<true>::new();
    let (client, worker, device) = (world.task(), world.task(), world.device(64));
    client.listen(&device, 16, &[USB1], 0).unwrap();
    world.kcov.host().fail_in.store(1, Ordering::Relaxed);
    worker.section(USB1, [1]);
    assert_eq!(device.drops().read(), [0, 0, 1, 0]);
    worker.section(USB1, [2]);
    assert_eq!(pcs(&device), [2]);
}

#[test]
fn refusing_hosts_warn_once_and_corrupt_nothing() {
    let world = World::<false>::new();
    let (client, worker) = (world.task(), world.task());
    let (device, own) = (world.device(64), world.device(64));
    client.listen(&device, 16, &[USB1, USB2], 0).unwrap();
    worker.start(USB1);
    worker.start(USB2);
    worker.start(USB1);
    worker.trace(1);
    worker.stop();
    worker.stop();
    worker.stop();
    assert_eq!(pcs(&device), [1]);
    assert_eq!(world.warnings(), [Warning::Nested]);
    // A section in a task that collects from itself; the stop must not take the client's buffer.
    worker.enable(&own, 0).unwrap();
    worker.section(USB1, [2]);
    worker.trace(3);
    assert_eq!((pcs(&device), pcs(&own)), (vec![1], vec![2, 3]));
    worker.disable(&own).unwrap();
    worker.start(1 << 40);
    assert_eq!(world.warnings(), [Warning::Nested, Warning::BadHandle]);
}

#[test]
fn a_softirq_section_puts_the_interrupted_state_back_exactly() {
    const IN_CTXSW: u32 = 1 << 30;
    let world = World::<false>::new();
    let (client, task) = (world.task(), world.task());
    let (device, own) = (world.device(64), world.device(64));
    client.listen(&device, 16, &[USB1], 0).unwrap();
    let state = || {
        let hot = task.hot;
        let area = hot.area.load(Ordering::Relaxed);
        (
            hot.mode.load(Ordering::Relaxed),
            hot.limit.load(Ordering::Relaxed),
            area,
        )
    };
    let softirq = || {
        task.interrupt(Context::Softirq, || {
            task.trace(90); // not in the section yet
            task.start(USB1);
            task.start(USB1); // refused
            task.trace(10);
            task.interrupt(Context::Other, || {
                task.start(USB1);
                task.stop();
            });
            assert_eq!(
                task.hot.mode.load(Ordering::Relaxed),
                Mode::Pc as u32 | SOFTIRQ
            );
            task.stop();
            task.stop();
            task.trace(91);
        });
    };
    // Over a task that does nothing, one in a context switch, one in a section, one that collects.
    let before = state();
    softirq();
    assert_eq!(state(), before);
    task.hot.mode.fetch_or(IN_CTXSW, Ordering::Relaxed);
    softirq();
    assert_eq!(state().0, IN_CTXSW);
    task.hot.mode.fetch_and(!IN_CTXSW, Ordering::Relaxed);
    task.start(USB1);
    task.trace(20);
    let before = state();
    softirq();
    assert_eq!(state(), before);
    task.stop();
    task.enable(&own, 0).unwrap();
    task.trace(30);
    let before = state();
    softirq();
    // A start that fails, and a stop without a start, leave the state alone as well.
    task.interrupt(Context::Softirq, || task.section(USB2, [92]));
    task.interrupt(Context::Softirq, || task.stop());
    assert_eq!(state(), before);
    task.trace(31);
    assert_eq!(pcs(&device), [10, 10, 10, 20, 10]);
    assert_eq!(pcs(&own), [30, 31]);
    assert_eq!(world.warnings(), [Warning::Nested]);
}

#[test]
fn suspending_hosts_nest_and_fail_closed() {
    let world = World::<true>::new();
    let (a, b, task) = (world.task(), world.task(), world.task());
    let (da, db, own) = (world.device(64), world.device(64), world.device(64));
    a.listen(&da, 16, &[USB1], 0).unwrap();
    b.listen(&db, 16, &[USB2], 0).unwrap();
    task.enable(&own, 0).unwrap();
    task.trace(1);
    task.start(USB1);
    task.trace(2);
    task.start(USB2);
    task.trace(3);
    task.start(0x42); // nobody listens: nobody's
    task.trace(4);
    task.stop();
    task.trace(5);
    task.stop();
    task.trace(6);
    task.stop();
    task.trace(7);
    task.stop();
    task.trace(8);
    assert_eq!(pcs(&own), [1, 7, 8]);
    assert_eq!(pcs(&da), [2, 6]);
    assert_eq!(pcs(&db), [3, 5]);
    assert_eq!(world.warnings(), []);
}

#[test]
fn sections_beyond_the_eighth_frame_are_counted_and_unwound() {
    let world = World::<true>::new();
    let (client, task, device) = (world.task(), world.task(), world.device(64));
    client.listen(&device, 16, &[USB1], 0).unwrap();
    for depth in 0..11 {
        task.start(USB1);
        task.trace(depth);
    }
    for depth in 0..11 {
        task.stop();
        task.trace(100 + depth);
    }
    // Innermost first; each outer one goes on after its inner ones.
    let expect = [
        7, 102, 6, 103, 5, 104, 4, 105, 3, 106, 2, 107, 1, 108, 0, 109,
    ];
    assert_eq!(pcs(&device), expect);
    assert_eq!(world.kcov.drops().read(), [0, 0, 0, 3]);
}

#[test]
fn local_collection_may_begin_and_end_inside_a_section() {
    let world = World::<true>::new();
    let (client, task) = (world.task(), world.task());
    let (device, own) = (world.device(64), world.device(64));
    client.listen(&device, 16, &[USB1], 0).unwrap();
    task.start(USB1);
    task.enable(&own, 0).unwrap();
    task.trace(1);
    task.stop();
    task.trace(2);
    task.start(USB1);
    task.disable(&own).unwrap();
    task.trace(3);
    task.stop();
    task.trace(4);
    assert_eq!((pcs(&device), pcs(&own)), (vec![1, 3], vec![2]));
}

#[test]
fn a_handler_on_top_of_the_rules_records_for_nobody() {
    let world = World::<true>::new();
    let (client, task) = (world.task(), world.task());
    let (device, own) = (world.device(64), world.device(64));
    client.listen(&device, 16, &[USB1], 0).unwrap();
    task.enable(&own, 0).unwrap();
    task.interrupt(Context::Other, || {
        task.start(USB1);
        task.trace(1);
        task.start(USB1);
        task.trace(2);
        task.stop();
        task.trace(3);
        task.stop();
    });
    task.trace(4);
    assert_eq!((pcs(&device), pcs(&own)), (vec![], vec![4]));
    assert_eq!(
        task.interrupt(Context::Other, || task.disable(&own)),
        Err(crate::abi::Errno::Busy)
    );
}

#[test]
fn the_end_of_a_task_releases_everything() {
    let world = World::<false>::new();
    let start = world.live();
    let (task, worker) = (world.task(), world.task());
    let (own, device) = (world.device(64), world.device(64));
    task.enable(&own, 0).unwrap();
    task.listen(&device, 16, &[USB1], 7).unwrap();
    worker.start(USB1);
    worker.trace(1);
    task.exit();
    worker.stop();
    assert_eq!(pcs(&device), [], "the section was stale");
    assert_eq!(world.kcov.handles(), 0);
    let next = world.task();
    next.enable(&own, 0).unwrap();
    next.listen(&device, 16, &[USB1], 7).unwrap();
    next.exit();
    // A worker that ends inside a section delivers what it recorded.
    let next = world.task();
    next.listen(&device, 16, &[USB1], 7).unwrap();
    worker.start(7);
    worker.trace(2);
    worker.exit();
    assert_eq!(pcs(&device), [2]);
    assert_eq!(world.warnings(), [Warning::ExitInSection]);
    next.exit();
    drop((own, device));
    // The shards' first tables are kept.
    assert!(world.live() - start <= 2);
}

#[test]
fn closing_frees_nothing_that_is_in_use() {
    let world = World::<false>::new();
    let (client, worker) = (world.task(), world.task());
    let device = world.device(64);
    client.listen(&device, 16, &[USB1], 0).unwrap();
    worker.start(USB1);
    worker.trace(1);
    let watch = device.clone();
    drop(device);
    worker.stop();
    assert_eq!(pcs(&watch), [1]);
    drop(watch);
    worker.start(USB1);
    worker.trace(2);
    client.exit();
    let before = world.live();
    worker.stop(); // the last reference
    assert_eq!(world.live(), before - 3, "descriptor, buffer and area");
}

#[test]
fn children_inherit_the_common_handle_and_nothing_else() {
    let world = World::<true>::new();
    let (parent, child) = (world.task(), world.task());
    let (own, device, other) = (world.device(64), world.device(64), world.device(64));
    parent.enable(&own, 0).unwrap();
    parent.listen(&device, 16, &[USB1], 7).unwrap();
    assert_eq!(world.kcov.common_handle(parent.task), 7);
    let common = parent.task.common(world.kcov.host());
    child.task.begin(world.kcov.host(), common);
    child.trace(1);
    child.section(world.kcov.common_handle(child.task), [2]);
    assert_eq!((pcs(&own), pcs(&device)), (vec![], vec![2]));
    // Disabling a local descriptor leaves it; so does a remote one that did not set it.
    parent.disable(&own).unwrap();
    assert_eq!(world.kcov.common_handle(parent.task), 7);
    child.listen(&other, 16, &[], 0).unwrap();
    child.disable(&other).unwrap();
    assert_eq!(world.kcov.common_handle(child.task), 7);
    parent.disable(&device).unwrap();
    assert_eq!(world.kcov.common_handle(parent.task), 0);
    assert_eq!(world.kcov.common_handle(child.task), 7);
    child.section(7, [3]);
    assert_eq!(pcs(&device), [2]);
    let outside = child.interrupt(Context::Softirq, || world.kcov.common_handle(child.task));
    assert_eq!(outside, 0);
}

#[test]
fn a_forked_copy_forgets_what_is_the_parents() {
    let world = World::<true>::new();
    let (parent, own) = (world.task(), world.device(64));
    parent.enable(&own, 0).unwrap();
    let live = world.live();
    // A fork copies the parent's bytes; `begin` must not drop the references in them.
    let child = world.task();
    // SAFETY: what a fork does; `begin` forgets the copies.
    unsafe {
        let to = core::ptr::from_ref(child.task).cast_mut();
        core::ptr::copy_nonoverlapping(parent.task, to, 1);
    }
    child.task.begin(world.kcov.host(), None);
    child.trace(1);
    assert_eq!(child.disable(&own), Err(crate::abi::Errno::Inval));
    child.exit();
    assert_eq!(world.live(), live);
    parent.trace(2);
    assert_eq!(pcs(&own), [2]);
}

#[test]
fn what_a_task_does_while_idle_goes_where_it_was_told() {
    let world = World::<true>::new();
    let (client, task, device) = (world.task(), world.task(), world.device(64));
    let slot: Vec<sync::Word> = (0..8).map(|_| sync::Word::new(0)).collect();
    let full = sync::AtomicU64::new(0);
    let words = crate::abi::Words::new(4).unwrap();
    // SAFETY: outlives the task's recording.
    let sink = unsafe {
        let base = slot.as_ptr().cast_mut();
        Sink::new(Mode::Pc, base, crate::abi::Words::default(), words, &full)
    };
    task.task.set_idle(world.kcov.host(), sink);
    client.listen(&device, 16, &[USB1], 0).unwrap();
    task.trace(1);
    task.section(USB1, [2]);
    task.trace(3);
    task.trace(4);
    task.trace(5);
    let slot: Vec<u64> = slot.iter().map(|w| w.load(Ordering::Relaxed)).collect();
    assert_eq!(slot, [3, 1, 3, 4, 0, 0, 0, 0]);
    assert_eq!(full.load(Ordering::Relaxed), 1);
    assert_eq!(pcs(&device), [2]);
    task.task.set_idle(world.kcov.host(), Sink::OFF);
    assert_eq!(task.hot.mode.load(Ordering::Relaxed) & MODE_BITS, 0);
}

#[test]
fn a_killed_tasks_descriptor_and_handles_can_be_had_again() {
    let world = World::<true>::new();
    let (a, device, other) = (world.task(), world.device(64), world.device(64));
    a.listen(&device, 16, &[USB1, USB2], 7).unwrap();
    a.kill();
    let b = world.task();
    b.listen(&other, 16, &[USB2], 0).unwrap();
    b.section(USB2, [1]);
    b.section(USB1, [2]);
    assert_eq!((pcs(&other), pcs(&device)), (vec![1], vec![]));
    b.enable(&device, 0).unwrap();
    b.trace(3);
    assert_eq!(pcs(&device), [3]);
    b.kill();
    let c = world.task();
    c.enable(&device, 0).unwrap();
    c.exit();
    let watch = world.live();
    drop(device);
    assert_eq!(
        world.live(),
        watch - 2,
        "every reference of the killed was given back"
    );
}

/// Three clients that come and go, four workers that work for all of them: nobody gets a record of
/// another's, nothing is lost that was not counted, and nothing is left.
#[test]
fn many_clients_and_workers_at_once() {
    const ROUNDS: u64 = if cfg!(miri) { 3 } else { 300 };
    let world = World::<true>::new();
    let kcov = world.kcov;
    let done = sync::AtomicU32::new(0);
    let (recorded, received) = (sync::AtomicU64::new(0), sync::AtomicU64::new(0));
    std::thread::scope(|scope| {
        for client in 0..3_u64 {
            let (done, received) = (&done, &received);
            scope.spawn(move || {
                let world = World { kcov };
                let task = world.task();
                for _ in 0..ROUNDS {
                    let device = world.device(64);
                    let handles = [USB1 + client * 2, USB1 + client * 2 + 1];
                    task.listen_at(client, &device, 9, &handles);
                    std::thread::yield_now();
                    task.disable(&device).unwrap();
                    let pcs = pcs(&device);
                    assert!(
                        pcs.iter().all(|pc| pc >> 32 == client),
                        "foreign records: {pcs:x?}"
                    );
                    let dropped: u64 = device.drops().read().iter().take(2).sum();
                    received.fetch_add(pcs.len() as u64 + dropped, Ordering::Relaxed);
                }
                done.fetch_add(1, Ordering::Relaxed);
                task.exit();
            });
        }
        for worker in 0..4_u64 {
            let (done, recorded) = (&done, &recorded);
            scope.spawn(move || {
                let task = World { kcov }.task();
                let mut n = 0;
                while done.load(Ordering::Relaxed) < 3 {
                    n += 1;
                    let client = (n + worker) % 3;
                    task.start(USB1 + client * 2 + n % 2);
                    for i in 0..3 {
                        if task.hot.mode.load(Ordering::Relaxed) & MODE_BITS != 0 {
                            recorded.fetch_add(1, Ordering::Relaxed);
                        }
                        task.trace(client << 32 | i);
                    }
                    task.stop();
                }
                task.exit();
            });
        }
    });
    // A section that outlived its descriptor's last reader was counted for all, not by the reader.
    assert!(received.load(Ordering::Relaxed) <= recorded.load(Ordering::Relaxed));
    assert_eq!(kcov.handles(), 0);
    assert!(world.live() <= 16, "{} blocks left", world.live());
}
