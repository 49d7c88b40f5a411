// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which slots are free.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A queue of free slots: any thread of any process takes, only the collector puts back.
///
/// Tickets are numbered from 0 for ever. Ticket `t` is slot `t` for the first `N`, and later ones
/// are slots that were put back. No process ever waits for another here, so one that is killed
/// between any two instructions costs at most the slot it was about to use.
#[derive(Debug)]
#[repr(C)]
pub struct Tickets<const N: usize> {
    pub(crate) taken: AtomicU64,
    pub(crate) put_back: AtomicU64,
    pub(crate) ring: [AtomicU32; N],
}

impl<const N: usize> Tickets<N> {
    /// Takes a free slot, or `None` if there is none.
    #[must_use]
    pub fn take(&self) -> Option<u32> {
        let mut ticket = self.taken.load(Ordering::Relaxed);
        loop {
            let issued = (N as u64).wrapping_add(self.put_back.load(Ordering::Acquire));
            if ticket >= issued {
                return None;
            }
            // A ring entry is overwritten only after the slots of N later tickets came back, so
            // it holds still until our exchange below has decided.
            let slot = if ticket < N as u64 {
                ticket as u32
            } else {
                self.ring[ticket as usize % N].load(Ordering::Relaxed)
            };
            match self.taken.compare_exchange_weak(
                ticket,
                ticket.wrapping_add(1),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(slot),
                Err(now) => ticket = now,
            }
        }
    }

    /// Makes a slot free that was taken, once. Only the collector calls this, in one thread.
    pub fn put_back(&self, slot: u32) {
        let n = self.put_back.load(Ordering::Relaxed);
        self.ring[n as usize % N].store(slot, Ordering::Relaxed);
        self.put_back.store(n.wrapping_add(1), Ordering::Release);
    }

    /// Slots that were taken and not put back.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        let put_back = self.put_back.load(Ordering::Acquire);
        self.taken.load(Ordering::Acquire).saturating_sub(put_back)
    }

    /// Slots that may hold something: those below this number.
    #[must_use]
    pub fn touched(&self) -> u32 {
        self.taken.load(Ordering::Acquire).min(N as u64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn empty<const N: usize>() -> Tickets<N> {
        Tickets {
            taken: AtomicU64::new(0),
            put_back: AtomicU64::new(0),
            ring: [const { AtomicU32::new(0) }; N],
        }
    }

    #[test]
    fn every_slot_once_then_none_then_those_put_back() {
        let tickets = empty::<4>();
        let all: Vec<_> = core::iter::from_fn(|| tickets.take()).collect();
        assert_eq!(all, [0, 1, 2, 3]);
        tickets.put_back(2);
        tickets.put_back(0);
        assert_eq!(tickets.take(), Some(2));
        assert_eq!(tickets.take(), Some(0));
        assert_eq!(tickets.take(), None);
        for round in 0..20 {
            tickets.put_back(round % 4);
            assert_eq!(tickets.take(), Some(round % 4));
        }
        assert_eq!((tickets.touched(), tickets.in_use()), (4, 4));
    }

    #[test]
    fn no_slot_has_two_holders() {
        const ROUNDS: usize = 20_000;
        let tickets = empty::<8>();
        let (back, returned) = std::sync::mpsc::channel::<u32>();
        let held: [AtomicU32; 8] = core::array::from_fn(|_| AtomicU32::new(0));
        let total = AtomicU64::new(0);
        std::thread::scope(|s| {
            for _ in 0..3 {
                let (back, tickets, held, total) = (back.clone(), &tickets, &held, &total);
                s.spawn(move || {
                    while total.load(Ordering::Relaxed) < ROUNDS as u64 {
                        let Some(slot) = tickets.take() else {
                            std::thread::yield_now();
                            continue;
                        };
                        let holders = held[slot as usize].fetch_add(1, Ordering::SeqCst);
                        assert_eq!(holders, 0, "slot {slot} was taken twice");
                        total.fetch_add(1, Ordering::Relaxed);
                        held[slot as usize].fetch_sub(1, Ordering::SeqCst);
                        back.send(slot).unwrap();
                    }
                });
            }
            drop(back);
            while let Ok(slot) = returned.recv() {
                tickets.put_back(slot);
            }
        });
        let left: BTreeSet<_> = core::iter::from_fn(|| tickets.take()).collect();
        assert_eq!(left, (0..8).collect());
    }
}
