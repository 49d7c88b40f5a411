// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sections in and over each other.

use super::{Case, Clause};
use rkcov_model::Need;

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "context.softirq",
        text: "a softirq's section interrupts a collecting task: the task's state is restored exactly",
    },
    Clause {
        id: "context.hardirq",
        text: "code of a hardware interrupt is not recorded and changes nothing",
    },
    Clause {
        id: "context.failing-start",
        text: "a start that fails in a softirq changes nothing",
    },
    Clause {
        id: "context.repeated",
        text: "a second start in one context: one warning, no corruption",
    },
    Clause {
        id: "context.nested",
        text: "userspace: an inner section suspends the outer one, or local collection, also if no client listens to it",
    },
    Clause {
        id: "context.deep",
        text: "userspace: sections nested deeper than eight are suspended, unattributed and counted",
    },
    Clause {
        id: "context.signal",
        text: "userspace: a signal handler's section nests in the task's",
    },
];

pub(super) const CASES: &[Case] = &[
    Case::text(
        "context.softirq.over-local",
        "over a task that collects from itself",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t0 enable f0 pc
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t0 run pcs 0 2 softirq { start usb:9 pcs 10 2 stop } pcs 2 2
         t0 disable f0
         ? t0 m0 among pcs 0 4
         ? t0 m1 recorded pcs 10 2",
    ),
    Case::text(
        "context.softirq.over-section",
        "over a task in a section",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t0 thread t2
         t0 remote f0 pc area 64 handles [ usb:8 ]
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t2 run start usb:8 pcs 0 2 softirq { start usb:9 pcs 10 2 stop } pcs 2 2 stop
         ? t0 m0 recorded pcs 0 4
         ? t0 m1 recorded pcs 10 2",
    ),
    Case::text(
        "context.softirq.over-nothing",
        "over a task that has nothing to do with kcov",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run pcs 0 2 softirq { start usb:9 pcs 10 2 stop pcs 20 2 } pcs 2 2
         ? t0 m0 recorded pcs 10 2",
    ),
    Case::text(
        "context.softirq.same-listener",
        "task and softirq record for the same listener",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:8 usb:9 ]
         t1 run start usb:8 pcs 0 2 softirq { start usb:9 pcs 10 2 stop } pcs 2 2 stop
         ? t0 m0 recorded pcs 10 2 pcs 0 4",
    ),
    Case::text(
        "context.softirq.outside",
        "a softirq without a section is not recorded as its task's",
        "t0 client f0
         t0 enable f0 pc
         t0 run pcs 0 2 softirq { pcs 10 2 } pcs 2 2
         t0 disable f0
         ? t0 m0 among pcs 0 4",
    ),
    Case::text(
        "context.softirq.two-in-row",
        "one softirq after the other",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run softirq { start usb:9 pcs 10 2 stop } softirq { start usb:9 pcs 12 2 stop }
         ? t0 m0 recorded pcs 10 4",
    ),
    Case::text(
        "context.softirq.modes",
        "comparisons in the task, PCs in the softirq",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t0 thread t2
         t0 remote f0 cmp area 64 handles [ usb:8 ]
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t2 run start usb:8 cmp4 1 2 softirq { start usb:9 pcs 10 2 cmp4 5 6 stop } pcs 2 2 cmp8 3 4 stop
         ? t0 m0 recorded cmp4 1 2 cmp8 3 4
         ? t0 m1 recorded pcs 10 2",
    ),
    Case::text(
        "context.softirq.stop-is-its-own",
        "a softirq's stop does not end its task's section",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 2 softirq { stop } pcs 2 2 stop
         ? t0 m0 recorded pcs 0 4",
    ),
    Case::text(
        "context.softirq.stale",
        "the listener of an interrupted section leaves meanwhile",
        "t0 client f0
         t0 client f1
         t0 worker t1
         t0 thread t2
         t0 remote f0 pc area 64 handles [ usb:8 ]
         t2 remote f1 pc area 64 handles [ usb:9 ]
         t1 run start usb:8 pcs 0 2 softirq { start usb:9 pcs 10 2 stop }
         t0 disable f0
         t1 run pcs 2 2 stop
         ? t0 m0 recorded
         ? t0 m1 recorded pcs 10 2",
    ),
    Case::text(
        "context.hardirq.over-section",
        "over a task in a section",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:8 usb:9 ]
         t1 run start usb:8 pcs 0 2 hardirq { start usb:9 pcs 10 2 stop } pcs 2 2 stop
         ? t0 m0 recorded pcs 0 4
         ? warnings 0",
    ),
    Case::text(
        "context.hardirq.over-local",
        "over a task that collects from itself",
        "t0 client f0
         t0 enable f0 pc
         t0 run pcs 0 2 hardirq { pcs 10 2 } pcs 2 2
         t0 disable f0
         ? t0 m0 among pcs 0 4",
    ),
    Case::text(
        "context.hardirq.over-softirq",
        "over a softirq's section, over a task's",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t0 thread t2
         t0 remote f0 pc area 64 handles [ usb:8 ]
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t2 run start usb:8 pcs 0 1 softirq { start usb:9 pcs 10 1 hardirq { pcs 20 1 stop start usb:8 } pcs 11 1 stop } pcs 1 1 stop
         ? t0 m0 recorded pcs 0 2
         ? t0 m1 recorded pcs 10 2",
    ),
    Case::text(
        "context.failing-start.unheard",
        "an unknown handle in a softirq over a section",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:8 ]
         t1 run start usb:8 pcs 0 2 softirq { start usb:10 pcs 10 2 stop } pcs 2 2 stop
         ? t0 m0 recorded pcs 0 4",
    ),
    Case::text(
        "context.failing-start.unheard-over-local",
        "the same over local collection",
        "t0 client f0
         t0 enable f0 pc
         t0 run pcs 0 2 softirq { start usb:10 pcs 10 2 stop } pcs 2 2
         t0 disable f0
         ? t0 m0 among pcs 0 4",
    ),
    Case::code(
        "context.failing-start.no-area",
        "no area is left for the softirq",
        |stage| {
            stage.needs(Need::Failures)?;
            stage.needs(Need::Softirq)?;
            stage.needs(Need::Exact)?;
            stage.tell(
                "t0 client f0
                 t0 client f1
                 t0 thread t1
                 t0 remote f0 pc area 64 handles [ usb:8 ]
                 t1 remote f1 pc area 64 handles [ usb:9 ]
                 t1 run start usb:8 pcs 0 2
                 t1 fail 1
                 t1 run softirq { start usb:9 pcs 10 2 stop } pcs 2 2 stop
                 ? t0 m0 recorded pcs 0 4
                 ? t0 m1 recorded
                 t1 run softirq { start usb:9 pcs 12 2 stop }
                 ? t0 m1 recorded pcs 12 2",
            )
        },
    ),
    Case::code(
        "context.repeated.task",
        "a section in a section, where they do not nest",
        |stage| {
            stage.needs(Need::Refusal)?;
            stage.tell(
                "t0 client f0
                 t0 client f1
                 t0 thread t1
                 t0 thread t2
                 t0 remote f0 pc area 64 handles [ usb:8 ]
                 t1 remote f1 pc area 64 handles [ usb:9 ]
                 t2 run start usb:8 pcs 0 2 start usb:9 pcs 2 2 stop pcs 50 2 stop
                 ? t0 m0 recorded pcs 0 4
                 ? t0 m1 recorded
                 t2 run start usb:9 pcs 10 2 stop
                 ? t0 m1 recorded pcs 10 2",
            )
        },
    ),
    Case::code(
        "context.repeated.softirq",
        "two starts in one softirq",
        |stage| {
            stage.needs(Need::Refusal)?;
            stage.tell(
                "t0 client f0
                 t0 thread t1
                 t0 remote f0 pc area 64 handles [ usb:8 usb:9 ]
                 t1 run start usb:8 pcs 0 1 softirq { start usb:9 pcs 10 1 start usb:9 pcs 11 1 stop pcs 50 1 stop } pcs 1 1 stop
                 ? t0 m0 recorded pcs 10 2 pcs 0 2",
            )
        },
    ),
    Case::code(
        "context.repeated.over-local",
        "a section in a task that collects from itself",
        |stage| {
            stage.needs(Need::Refusal)?;
            stage.tell(
                "t0 client f0
                 t0 client f1
                 t0 thread t1
                 t1 remote f1 pc area 64 handles [ usb:9 ]
                 t0 enable f0 pc
                 t0 run pcs 0 2 start usb:9 pcs 2 2 stop pcs 4 2
                 t0 disable f0
                 ? t0 m0 among pcs 0 6
                 ? t0 m1 recorded",
            )
        },
    ),
    Case::code(
        "context.repeated.warning",
        "each of them warns once",
        |stage| {
            stage.needs(Need::Refusal)?;
            stage.tell(
                "t0 client f0
                 t0 thread t1
                 t0 remote f0 pc area 64 handles [ usb:8 usb:9 ]
                 ? warnings 0
                 t1 run start usb:8 start usb:9 stop
                 ? warnings 1",
            )
        },
    ),
    Case::code(
        "context.nested.two",
        "the inner suspends the outer",
        |stage| {
            stage.needs(Need::Nesting)?;
            stage.tell(
                "t0 client f0
                 t0 client f1
                 t0 thread t1
                 t0 remote f0 pc area 64 handles [ usb:8 ]
                 t1 remote f1 pc area 64 handles [ usb:9 ]
                 t1 run start usb:8 pcs 0 2 start usb:9 pcs 10 2 stop pcs 2 2 stop
                 ? t0 m0 recorded pcs 0 4
                 ? t0 m1 recorded pcs 10 2",
            )
        },
    ),
    Case::code(
        "context.nested.over-local",
        "a section suspends local collection",
        |stage| {
            stage.needs(Need::Nesting)?;
            stage.tell(
                "t0 client f0
                 t0 client f1
                 t0 thread t1
                 t1 remote f1 pc area 64 handles [ usb:9 ]
                 t0 enable f0 pc
                 t0 run pcs 0 2 start usb:9 pcs 10 2 stop pcs 2 2
                 t0 disable f0
                 ? t0 m0 among pcs 0 4
                 ? t0 m1 recorded pcs 10 2",
            )
        },
    ),
    Case::code(
        "context.nested.unheard",
        "a section that nobody listens to is nobody's: not its outer one's either",
        |stage| {
            stage.needs(Need::Nesting)?;
            stage.tell(
                "t0 client f0
                 t0 thread t1
                 t0 remote f0 pc area 64 handles [ usb:8 ]
                 t1 run start usb:8 pcs 0 2 start usb:10 pcs 10 2 stop pcs 2 2 start 0 pcs 12 2 stop pcs 4 1 stop
                 ? t0 m0 recorded pcs 0 5",
            )
        },
    ),
    Case::code(
        "context.nested.unheard-over-local",
        "nor the task's own",
        |stage| {
            stage.needs(Need::Nesting)?;
            stage.tell(
                "t0 client f0
                 t0 enable f0 pc
                 t0 run pcs 0 2 start usb:10 pcs 10 2 stop pcs 2 2
                 t0 disable f0
                 ? t0 m0 among pcs 0 4",
            )
        },
    ),
    Case::code(
        "context.nested.same-handle",
        "the same handle in itself",
        |stage| {
            stage.needs(Need::Nesting)?;
            stage.tell(
                "t0 client f0
                 t0 thread t1
                 t0 remote f0 pc area 64 handles [ usb:8 ]
                 t1 run start usb:8 pcs 0 2 start usb:8 pcs 10 2 stop pcs 2 2 stop
                 ? t0 m0 recorded pcs 10 2 pcs 0 4",
            )
        },
    ),
    Case::code(
        "context.nested.enable-inside",
        "ENABLE and DISABLE inside a section are for what comes after it",
        |stage| {
            stage.needs(Need::Nesting)?;
            stage.tell(
                "t0 client f0
                 t0 client f1
                 t0 thread t1
                 t1 remote f1 pc area 64 handles [ usb:9 ]
                 t0 run start usb:9 pcs 10 1
                 t0 enable f0 pc
                 t0 run pcs 11 1 stop pcs 0 2 start usb:9 pcs 12 1
                 t0 disable f0
                 t0 run pcs 13 1 stop pcs 40 2
                 ? t0 m0 among pcs 0 2
                 ? t0 m1 recorded pcs 10 4",
            )
        },
    ),
    Case::code(
        "context.nested.inner-stale",
        "the inner section's listener leaves: the outer one loses nothing",
        |stage| {
            stage.needs(Need::Nesting)?;
            stage.tell(
                "t0 client f0
                 t0 client f1
                 t0 thread t1
                 t0 thread t2
                 t0 remote f0 pc area 64 handles [ usb:8 ]
                 t2 remote f1 pc area 64 handles [ usb:9 ]
                 t1 run start usb:8 pcs 0 2 start usb:9 pcs 10 2
                 t2 disable f1
                 t1 run stop pcs 2 2 stop
                 ? t0 m0 recorded pcs 0 4
                 ? t0 m1 recorded",
            )
        },
    ),
    Case::code(
        "context.deep.eight",
        "eight in each other",
        |stage| {
            stage.needs(Need::Nesting)?;
            stage.tell("t0 client f0\nt0 thread t1")?;
            stage.tell("t0 remote f0 pc area 64 handles [ usb:9 ]")?;
            for n in 0..8 {
                stage.tell(&format!("t1 run start usb:9 pcs {n} 1"))?;
            }
            stage.tell(
                "t1 run stop stop stop stop stop stop stop stop pcs 40 1
                 ? t0 m0 recorded pcs 7 1 pcs 6 1 pcs 5 1 pcs 4 1 pcs 3 1 pcs 2 1 pcs 1 1 pcs 0 1",
            )
        },
    ),
    Case::code(
        "context.deep.nine",
        "the ninth and tenth record nothing, and the eighth goes on after them",
        |stage| {
            stage.needs(Need::Nesting)?;
            stage.tell("t0 client f0\nt0 thread t1")?;
            stage.tell("t0 remote f0 pc area 64 handles [ usb:9 ]")?;
            stage.tell("t1 run start usb:9 start usb:9 start usb:9 start usb:9")?;
            stage.tell("t1 run start usb:9 start usb:9 start usb:9 start usb:9 pcs 0 1")?;
            stage.tell("t1 run start usb:9 pcs 40 1 start usb:9 pcs 41 1 stop pcs 42 1 stop")?;
            stage.tell("t1 run pcs 1 1 stop stop stop stop stop stop stop pcs 2 1 stop")?;
            stage.tell("? t0 m0 recorded pcs 0 3")
        },
    ),
    Case::code(
        "context.deep.over-local",
        "local collection comes back after the deepest descent",
        |stage| {
            stage.needs(Need::Nesting)?;
            stage.tell("t0 client f0\nt0 enable f0 pc\nt0 run pcs 0 1")?;
            for _ in 0..20 {
                stage.tell("t0 run start usb:10 pcs 40 1")?;
            }
            for _ in 0..20 {
                stage.tell("t0 run pcs 41 1 stop")?;
            }
            stage.tell("t0 run pcs 1 1\nt0 disable f0\n? t0 m0 among pcs 0 2")
        },
    ),
    Case::text(
        "context.signal.over-section",
        "a handler's section suspends the task's",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t0 thread t2
         t0 remote f0 pc area 64 handles [ usb:8 ]
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t2 run start usb:8 pcs 0 2 signal { start usb:9 pcs 10 2 stop } pcs 2 2 stop
         ? t0 m0 recorded pcs 0 4
         ? t0 m1 recorded pcs 10 2",
    ),
    Case::text(
        "context.signal.over-local",
        "and its local collection",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t0 enable f0 pc
         t0 run pcs 0 2 signal { start usb:9 pcs 10 2 stop } pcs 2 2
         t0 disable f0
         ? t0 m0 among pcs 0 4
         ? t0 m1 recorded pcs 10 2",
    ),
    Case::text(
        "context.signal.is-the-task",
        "a handler without a section is the task's own work",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:8 ]
         t1 run start usb:8 pcs 0 2 signal { pcs 2 2 } pcs 4 1 stop
         ? t0 m0 recorded pcs 0 5",
    ),
];
