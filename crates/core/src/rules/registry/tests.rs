// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Finding handles among few and many.

extern crate std;

use super::*;
use crate::rules::testing::*;
use std::vec::Vec;

#[test]
fn grows_finds_all_and_gives_its_memory_back() {
    let world = World::<true>::new();
    let start = world.live();
    let clients: Vec<_> = (0..200).map(|_| (world.task(), world.device(8))).collect();
    let handle = |client: usize, i: usize| 0x8000_0000_0000_0000 + (client * 1000 + i) as u64;
    for (n, (task, device)) in clients.iter().enumerate() {
        let handles: Vec<u64> = (0..250).map(|i| handle(n, i)).collect();
        task.listen(device, 8, &handles, 0).unwrap();
    }
    let registry = world.kcov.registry();
    assert_eq!(registry.len(), 200 * 250);
    for (n, (_, device)) in clients.iter().enumerate() {
        for i in [0, 17, 249] {
            let (found, _) = registry
                .find(Handle::from_raw(handle(n, i)).unwrap())
                .unwrap();
            assert!(found.is(device));
        }
        assert!(registry
            .find(Handle::from_raw(handle(n, 250)).unwrap())
            .is_none());
    }
    // However many there are, chains stay short: finding one does not depend on the others.
    let longest = registry
        .shards
        .iter()
        .map(|s| s.lock().longest_chain())
        .max()
        .unwrap();
    assert!(longest <= 12, "a chain of {longest}");
    // Every second one goes; the rest is found.
    for (task, device) in clients.iter().step_by(2) {
        task.disable(device).unwrap();
    }
    for n in 0..200 {
        let found = registry.find(Handle::from_raw(handle(n, 5)).unwrap());
        assert_eq!(found.is_some(), n % 2 == 1);
    }
    for (task, device) in clients.into_iter() {
        let _ = task.disable(&device);
    }
    assert_eq!(registry.len(), 0);
    assert_eq!(world.live(), start);
}

#[test]
fn a_table_that_cannot_grow_still_takes_handles() {
    let world = World::<true>::new();
    let (task, device) = (world.task(), world.device(8));
    let few: Vec<u64> = (1..=256).map(|i| 0x8000_0000_0000_0000 + i).collect();
    task.listen(&device, 8, &few[..64], 0).unwrap(); // first tables
    let (more, second) = (world.task(), world.device(8));
    // The block of nodes is allocated; every growth after it fails.
    world
        .kcov
        .host()
        .fail_in
        .store(2, crate::rules::sync::Ordering::Relaxed);
    more.listen(&second, 8, &few[64..], 0).unwrap();
    for raw in few {
        assert!(world
            .kcov
            .registry()
            .find(Handle::from_raw(raw).unwrap())
            .is_some());
    }
}

impl<H: Host> Shard<H> {
    fn longest_chain(&self) -> usize {
        let chain = |bucket| {
            // SAFETY: under the shard's lock.
            let mut node = unsafe { *self.table().head(bucket) };
            let mut len = 0;
            while !node.is_null() {
                len += 1;
                // SAFETY: as above.
                node = unsafe { (*node).next };
            }
            len
        };
        (0..self.table().buckets).map(chain).max().unwrap_or(0)
    }
}
