use std::future::Future;
use std::pin::{pin, Pin};
use std::task::{Context, Poll, Waker};

/// It is not ready when it is polled first.
struct Later(bool);

impl Future for Later {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u64> {
        if self.0 {
            return Poll::Ready(1);
        }
        self.0 = true;
        Poll::Pending
    }
}

async fn twice(n: u64) -> u64 {
    let first = Later(false).await;
    if n > 1000 {
        return never(n).await;
    }
    let second = async {
        Later(false).await + n
    };
    first + second.await
}

async fn never(n: u64) -> u64 {
    let more = Later(true).await;
    more + n
}

fn closures(n: u64) -> u64 {
    let called = |a: u64| {
        a + 1
    };
    let not_called = |a: u64| {
        a + 2
    };
    if n > 1000 {
        return not_called(n);
    }
    let sum = (0..n)
        .filter(|a| {
            a % 2 == 0
        })
        .map(|a| {
            a * 3
        })
        .sum::<u64>();
    called(sum)
}

fn macros(n: u64) -> u64 {
    let small = kit::choose!(
        n > 1000,
        n * 2,
        n * 3
    );
    let large = kit::choose!(
        n < 1000,
        small + 4,
        small + 5
    );
    large
}

fn generics(n: u64) -> u64 {
    let number = kit::larger(n, 2);
    let text = kit::larger("a", "b");
    let clamped = kit::clamp(3_u8);
    number + clamped + text.len() as u64
}

fn main() {
    let n = std::env::args().count() as u64;
    let mut future = pin!(twice(n));
    let mut context = Context::from_waker(Waker::noop());
    let mut polls = 0;
    let waited = loop {
        polls += 1;
        if let Poll::Ready(waited) = future.as_mut().poll(&mut context) {
            break waited;
        }
    };
    drop(never(n));
    let mut suspended = Box::pin(one_of(n));
    drop(suspended.as_mut().poll(&mut context));
    drop(suspended);
    println!("{polls} {waited} {} {} {}", closures(n), macros(n), generics(n));
}

/// Dropped while it is suspended: the code that drops it has the lines of all that it may wait for.
async fn one_of(n: u64) -> u64 {
    let text = Held(n.to_string());
    match n {
        1 => {
            held(text, Later(false)).await
        }
        2 => {
            held(text, Later(true)).await
        }
        _ => {
            held(Held(String::new()), Later(true)).await
        }
    }
}

async fn held(text: Held, later: Later) -> u64 {
    later.await + text.0.len() as u64
}

struct Held(String);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.clear();
    }
}
