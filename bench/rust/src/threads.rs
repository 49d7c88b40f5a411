// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that share one hot loop: what `bench/c/threads.c` does, in Rust.

use std::hint::black_box;
use std::thread;

/// A little machine of branches.
fn work(rounds: u64, mut x: u64) -> u64 {
    let mut sum = 0u64;
    for _ in 0..black_box(rounds) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        match x & 7 {
            0 => sum = sum.wrapping_add(x),
            1 => sum ^= x >> 3,
            2 => sum = sum.wrapping_sub(x >> 9),
            3 if x & 0x100 != 0 => sum = sum.wrapping_add(x).rotate_left(1),
            3 => sum = !sum,
            4 => sum = sum.wrapping_mul(3),
            5 if sum & 1 != 0 => sum = sum.wrapping_mul(5).wrapping_add(1),
            5 => sum = (sum >> 1).wrapping_add(x),
            6 => sum = sum.wrapping_add(7),
            _ => sum ^= sum >> 5,
        }
    }
    sum
}

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>().expect("a number"));
    let (Some(threads), Some(alive), Some(rounds)) = (args.next(), args.next(), args.next()) else {
        panic!("usage: threads THREADS ALIVE ROUNDS");
    };
    let mut sum = 0u64;
    let mut done = 0;
    while done < threads {
        let batch = alive.min(threads - done);
        let start = |n| thread::spawn(move || work(rounds / threads, n + 1));
        let batch: Vec<_> = (done..done + batch).map(start).collect();
        done += batch.len() as u64;
        for thread in batch {
            sum = sum.wrapping_add(thread.join().expect("a result"));
        }
    }
    println!("{sum}");
}
