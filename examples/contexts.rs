// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server whose requests have names: each is recorded for itself, on whatever thread it runs.
//!
//! ```console
//! $ rkcov run -- ./contexts
//! $ rkcov report contexts.rkcov
//! ```

use rkcov::Context;
use std::future::Future;
use std::pin::{pin, Pin};
use std::sync::mpsc::{channel, Sender};
use std::task::{self, Poll, Waker};
use std::thread::{self, JoinHandle};

/// A pool of threads, which do not know what work is for.
struct Pool {
    queues: Vec<Sender<Box<dyn FnOnce() + Send>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    fn new(threads: usize) -> Self {
        let pairs = (0..threads).map(|_| {
            let (queue, work) = channel::<Box<dyn FnOnce() + Send>>();
            (
                queue,
                thread::spawn(move || work.iter().for_each(|work| work())),
            )
        });
        let (queues, threads) = pairs.unzip();
        Self { queues, threads }
    }

    fn give(&self, thread: usize, work: impl FnOnce() + Send + 'static) {
        self.queues[thread]
            .send(Box::new(work))
            .expect("the thread waits");
    }

    fn finish(self) {
        drop(self.queues);
        for thread in self.threads {
            thread.join().expect("no work panics");
        }
    }
}

#[inline(never)]
fn read_user(id: u32) {
    std::hint::black_box(id);
}

#[inline(never)]
fn delete_user(id: u32) {
    std::hint::black_box(id + 1);
}

#[inline(never)]
fn send_mail(id: u32) -> u32 {
    std::hint::black_box(id + 2)
}

#[inline(never)]
fn between_requests() {
    std::hint::black_box(3);
}

/// Is ready when it is polled for the second time.
struct Mail(bool);

impl Future for Mail {
    type Output = u32;

    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<u32> {
        if std::mem::replace(&mut self.0, true) {
            Poll::Ready(send_mail(7))
        } else {
            Poll::Pending
        }
    }
}

fn main() {
    let pool = Pool::new(2);
    for thread in 0..2 {
        let path = "/users/7";
        let get = Context::request(format_args!("GET {path}"));
        pool.give(thread, get.wrap(|| read_user(7)));
        let delete = Context::request(format_args!("DELETE {path}"));
        pool.give(1 - thread, delete.wrap(|| delete_user(7)));
    }
    pool.finish();

    let job = Context::job("mail");
    let mut mail = pin!(job.instrument(Mail(false)));
    let mut cx = task::Context::from_waker(Waker::noop());
    while mail.as_mut().poll(&mut cx).is_pending() {
        between_requests();
    }
}
