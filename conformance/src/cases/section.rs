// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sections: stale ones, common handles, and local and remote collection at once.

use super::{Case, Clause};
use rkcov_model::Need;

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "section.delivers",
        text: "after a section has stopped, its records are in its listener's buffer",
    },
    Clause {
        id: "stale.disable",
        text: "DISABLE between start and stop: the section is not delivered",
    },
    Clause {
        id: "stale.reenable",
        text: "DISABLE and ENABLE between start and stop: the section is not delivered to the wrong client",
    },
    Clause {
        id: "stale.references",
        text: "reference counts are correct after stale sections",
    },
    Clause {
        id: "common.inherit",
        text: "threads and forked children inherit the common handle; only disabling the descriptor that set it clears it",
    },
    Clause {
        id: "common.clients",
        text: "two clients with two handles never get each other's records",
    },
    Clause {
        id: "common.no-op",
        text: "with handle 0, an unknown or a stale handle, start and stop do nothing",
    },
    Clause {
        id: "common.task-context",
        text: "there is no common handle outside task context",
    },
    Clause {
        id: "both.at-once",
        text: "a task may have one local and one remote descriptor; disabling one keeps the other",
    },
    Clause {
        id: "both.busy",
        text: "a second descriptor of the same kind: EBUSY",
    },
];

pub(super) const CASES: &[Case] = &[
    Case::text(
        "section.delivers.once",
        "one section",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run pcs 50 2 start usb:9 pcs 0 3 stop pcs 60 2
         ? t0 m0 recorded pcs 0 3",
    ),
    Case::text(
        "section.delivers.in-order",
        "one section behind the other, by several tasks",
        "t0 client f0
         t0 thread t1
         t0 thread t2
         t0 remote f0 pc area 64 handles [ usb:8 usb:9 ]
         t1 run start usb:9 pcs 0 3 stop
         t2 run start usb:8 pcs 10 2 stop
         t1 run start usb:8 pcs 20 1 stop
         ? t0 m0 recorded pcs 0 3 pcs 10 2 pcs 20 1",
    ),
    Case::text(
        "section.delivers.when-stopped",
        "nothing is there before the stop",
        "t0 client f0
         t0 worker t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3
         ? t0 m0 recorded
         t1 run stop
         ? t0 m0 recorded pcs 0 3",
    ),
    Case::text(
        "section.delivers.overlapping",
        "two tasks in sections at once: each one's records stay together",
        "t0 client f0
         t0 worker t1
         t0 worker t2
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 2
         t2 run start usb:9 pcs 10 2
         t1 run pcs 2 1
         t2 run pcs 12 1 stop
         t1 run stop
         ? t0 m0 recorded pcs 10 3 pcs 0 3",
    ),
    Case::text(
        "section.delivers.own-task",
        "the listener's own task runs the section",
        "t0 client f0
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t0 run start usb:9 pcs 0 3 stop pcs 9 1
         ? t0 m0 recorded pcs 0 3",
    ),
    Case::text(
        "section.delivers.kernel-thread",
        "a kernel thread runs the section",
        "t0 client f0
         t0 kthread t1
         t0 remote f0 pc area 64 common common:7 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3 stop start common:7 pcs 5 1 stop
         ? t0 m0 recorded pcs 0 3 pcs 5 1",
    ),
    Case::code(
        "section.delivers.other-process",
        "a process that knows nothing of the listener runs the section",
        |stage| {
            stage.needs(Need::Strangers)?;
            stage.tell(
                "t0 fork t1
                 t0 client f0
                 t0 remote f0 pc area 64 handles [ usb:9 ]
                 t1 run start usb:9 pcs 0 3 stop
                 ? t0 m0 recorded pcs 0 3",
            )
        },
    ),
    Case::text(
        "stale.disable.dropped",
        "the listener leaves in the middle",
        "t0 client f0
         t0 worker t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3
         t0 disable f0
         t1 run pcs 3 1 stop
         ? t0 m0 recorded",
    ),
    Case::text(
        "stale.disable.counted",
        "and its records are counted",
        "t0 client f0
         t0 worker t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3
         t0 disable f0
         t1 run stop
         ? t0 f0 dropped stale 3",
    ),
    Case::text(
        "stale.disable.before-start",
        "the listener left before: a start like any unknown handle's",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t0 disable f0
         t1 run start usb:9 pcs 0 3 stop
         ? t0 m0 recorded",
    ),
    Case::text(
        "stale.reenable.same",
        "the same client, the same handle, enabled anew",
        "t0 client f0
         t0 worker t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3
         t0 disable f0
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run stop
         ? t0 m0 recorded
         t1 run start usb:9 pcs 5 2 stop
         ? t0 m0 recorded pcs 5 2",
    ),
    Case::text(
        "stale.reenable.other-descriptor",
        "another client has the handle now",
        "t0 client f0
         t0 client f1
         t0 worker t1
         t0 thread t2
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3
         t0 disable f0
         t2 remote f1 pc area 64 handles [ usb:9 ]
         t1 run stop
         ? t0 m0 recorded
         ? t0 m1 recorded",
    ),
    Case::text(
        "stale.reenable.other-task",
        "another task enabled the same descriptor",
        "t0 client f0
         t0 worker t1
         t0 thread t2
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3
         t0 disable f0
         t2 remote f0 pc area 64 handles [ usb:9 ]
         t1 run stop
         ? t0 m0 recorded",
    ),
    Case::text(
        "stale.reenable.other-mode",
        "comparisons are asked for now: PCs must not be taken for them",
        "t0 client f0
         t0 worker t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 8
         t0 disable f0
         t0 remote f0 cmp area 64 handles [ usb:9 ]
         t1 run stop
         ? t0 m0 recorded",
    ),
    Case::text(
        "stale.reenable.local",
        "the descriptor collects from a task now",
        "t0 client f0
         t0 worker t1
         t0 thread t2
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3
         t0 disable f0
         t2 enable f0 pc
         t1 run stop
         t2 run pcs 20 2
         t2 disable f0
         ? t0 m0 among pcs 20 2",
    ),
    Case::text(
        "stale.references.handles",
        "the handles of a stale section's listener are free at once",
        "t0 client f0
         t0 client f1
         t0 worker t1
         t0 remote f0 pc area 64 common common:7 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3
         t0 disable f0
         t0 remote f1 pc area 64 common common:7 handles [ usb:9 ]
         t1 run stop
         t0 disable f1
         t0 remote f0 pc area 64 common common:7 handles [ usb:9 ]",
    ),
    Case::code(
        "stale.references.memory",
        "nothing is left of 1,000 stale sections",
        |stage| {
            let round = "t0 open f0
                 t0 init f0 512
                 t0 remote f0 pc area 64 handles [ usb:9 ]
                 t1 run start usb:9 pcs 0 3
                 t0 disable f0
                 t0 remote f0 pc area 128 handles [ usb:9 ]
                 t1 run stop start usb:9 pcs 0 3
                 t0 disable f0
                 t0 close f0
                 t1 run stop";
            stage.tell("t0 worker t1")?;
            stage.tell(round)?;
            let before = stage.memory()?;
            stage.repeat(1000, 400, |stage, _| stage.tell(round))?;
            stage.memory_is_back(before)
        },
    ),
    Case::text(
        "common.inherit.thread",
        "a thread made after REMOTE_ENABLE has it, one made before has not",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 common common:7
         t0 thread t2
         t0 run common -> = 7
         t1 run common -> = 0
         t2 run common -> = 7",
    ),
    Case::text(
        "common.inherit.fork",
        "so has a forked child",
        "t0 client f0
         t0 remote f0 pc area 64 common common:7
         t0 fork t1
         t1 run common -> = 7",
    ),
    Case::text(
        "common.inherit.grandchildren",
        "and a child's child",
        "t0 client f0
         t0 remote f0 pc area 64 common common:7
         t0 fork t1
         t1 thread t2
         t2 fork t3
         t3 run common -> = 7
         t3 run start common:7 pcs 0 3 stop
         ? t0 m0 recorded pcs 0 3",
    ),
    Case::text(
        "common.inherit.cleared",
        "DISABLE clears it in the task that enabled, not in its children",
        "t0 client f0
         t0 remote f0 pc area 64 common common:7
         t0 thread t1
         t0 disable f0
         t0 run common -> = 0
         t1 run common -> = 7
         t1 run start common:7 pcs 0 3 stop
         ? t0 m0 recorded",
    ),
    Case::text(
        "common.inherit.local-disable",
        "disabling a local descriptor does not clear it",
        "t0 client f0
         t0 client f1
         t0 remote f0 pc area 64 common common:7
         t0 enable f1 pc
         t0 disable f1
         t0 run common -> = 7",
    ),
    Case::text(
        "common.inherit.other-disable",
        "nor does disabling a remote descriptor that did not set it",
        "t0 client f0
         t0 client f1
         t0 remote f0 pc area 64 common common:7
         t0 thread t1
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t1 disable f1
         t1 run common -> = 7",
    ),
    Case::text(
        "common.inherit.replaced",
        "a child's own common handle takes the place of the inherited one",
        "t0 client f0
         t0 client f1
         t0 remote f0 pc area 64 common common:7
         t0 thread t1
         t1 remote f1 pc area 64 common common:8
         t1 run common -> = 8
         t1 disable f1
         t1 run common -> = 0
         t0 run common -> = 7",
    ),
    Case::text(
        "common.inherit.nothing-else",
        "a child is in no section and collects nothing",
        "t0 client f0
         t0 client f1
         t0 enable f0 pc
         t0 remote f1 pc area 64 handles [ usb:9 ]
         t0 thread t1
         t0 fork t2
         t1 run pcs 40 3
         t2 run pcs 50 3
         t1 disable f0 -> EINVAL
         t2 disable f1 -> EINVAL
         t0 run pcs 0 2
         t0 disable f0
         ? t0 m0 among pcs 0 2
         ? t0 m1 recorded",
    ),
    Case::text(
        "common.inherit.from-section",
        "a child born in the middle of a section is not in it",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 0x10000 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 1
         t1 thread t2
         t2 run pcs 40 3 stop
         t1 run pcs 1 1 stop
         ? t0 m0 among pcs 0 2",
    ),
    Case::text(
        "common.clients.two",
        "two clients and their workers",
        "t0 client f0
         t0 thread t1
         t1 client f1
         t0 remote f0 pc area 64 common common:7
         t1 remote f1 pc area 64 common common:8
         t0 thread t2
         t1 thread t3
         t2 run start common:7 pcs 0 3 stop
         t3 run start common:8 pcs 10 3 stop
         t2 run start common:8 pcs 20 1 stop
         ? t0 m0 recorded pcs 0 3
         ? t1 m1 recorded pcs 10 3 pcs 20 1",
    ),
    Case::text(
        "common.clients.same-instance",
        "a common handle and another subsystem's with the same instance",
        "t0 client f0
         t0 thread t1
         t1 client f1
         t0 thread t2
         t0 remote f0 pc area 64 common common:9
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t2 run start common:9 pcs 0 3 stop start usb:9 pcs 10 3 stop
         ? t0 m0 recorded pcs 0 3
         ? t1 m1 recorded pcs 10 3",
    ),
    Case::text(
        "common.no-op.zero",
        "handle 0",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 common common:7 handles [ usb:9 ]
         t1 run start 0 pcs 0 3 stop
         ? t0 m0 recorded",
    ),
    Case::text(
        "common.no-op.zero-quiet",
        "handle 0 is nothing to warn about",
        "t0 run start 0 pcs 0 3 stop
         ? warnings 0",
    ),
    Case::text(
        "common.no-op.unknown",
        "a handle that nobody listens to",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:10 pcs 0 3 stop start common:9 pcs 4 3 stop
         ? t0 m0 recorded
         ? warnings 0",
    ),
    Case::text(
        "common.no-op.malformed",
        "a handle that nobody can listen to",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start 0x109000000000009 pcs 0 3 stop start 0x7f00000000000009 pcs 4 3 stop
         ? t0 m0 recorded",
    ),
    Case::text(
        "common.no-op.stop-alone",
        "a stop without a start",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run stop stop start usb:9 pcs 0 3 stop stop pcs 7 1
         ? t0 m0 recorded pcs 0 3
         ? warnings 0",
    ),
    Case::text(
        "common.no-op.stop-in-local",
        "a stop in a task that collects from itself: it goes on collecting",
        "t0 client f0
         t0 enable f0 pc
         t0 run pcs 0 2 stop pcs 2 2
         t0 disable f0
         ? t0 m0 among pcs 0 4",
    ),
    Case::text(
        "common.task-context.interrupts",
        "interrupts have none, whatever the task that they interrupt has",
        "t0 client f0
         t0 remote f0 pc area 64 common common:7
         t0 run common softirq { common } common -> = 7 0 7",
    ),
    Case::text(
        "common.task-context.hardirq",
        "nor have hardware interrupts",
        "t0 client f0
         t0 remote f0 pc area 64 common common:7
         t0 run hardirq { common } softirq { hardirq { common } } -> = 0 0",
    ),
    Case::text(
        "common.task-context.signal",
        "a signal handler is the task",
        "t0 client f0
         t0 remote f0 pc area 64 common common:7
         t0 run signal { common } -> = 7",
    ),
    Case::text(
        "common.task-context.kernel-thread",
        "a kernel thread has none of its own",
        "t0 client f0
         t0 remote f0 pc area 64 common common:7
         t0 kthread t1
         t1 run common -> = 0",
    ),
    Case::text(
        "both.at-once.two-descriptors",
        "a task that collects from itself listens to a section elsewhere",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t0 enable f0 pc
         t0 remote f1 pc area 64 handles [ usb:9 ]
         t0 run pcs 0 2
         t1 run start usb:9 pcs 10 2 stop
         t0 run pcs 2 2
         t0 disable f0
         t0 disable f1
         ? t0 m0 among pcs 0 4
         ? t0 m1 recorded pcs 10 2",
    ),
    Case::text(
        "both.at-once.other-order",
        "the remote one first",
        "t0 client f0
         t0 client f1
         t0 remote f1 pc area 64 handles [ usb:9 ]
         t0 enable f0 pc
         t0 run pcs 0 2
         t0 disable f0
         ? t0 m0 among pcs 0 2",
    ),
    Case::text(
        "both.at-once.disable-local",
        "the local one is disabled, the remote one goes on",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t0 enable f0 pc
         t0 remote f1 pc area 64 common common:7
         t0 disable f0
         t1 run start common:7 pcs 10 2 stop
         t0 run common -> = 7
         ? t0 m1 recorded pcs 10 2",
    ),
    Case::text(
        "both.at-once.disable-remote",
        "the remote one is disabled, the local one goes on",
        "t0 client f0
         t0 client f1
         t0 enable f0 pc
         t0 remote f1 pc area 64 common common:7
         t0 disable f1
         t0 run pcs 0 3
         t0 disable f0
         ? t0 m0 among pcs 0 3",
    ),
    Case::text(
        "both.busy.local",
        "a second local descriptor",
        "t0 client f0
         t0 client f1
         t0 enable f0 pc
         t0 enable f1 pc -> EBUSY
         t0 disable f0
         t0 enable f1 pc",
    ),
    Case::text(
        "both.busy.remote",
        "a second remote descriptor",
        "t0 client f0
         t0 client f1
         t0 remote f0 pc area 64 handles [ usb:8 ]
         t0 remote f1 pc area 64 handles [ usb:9 ] -> EBUSY
         t0 disable f0
         t0 remote f1 pc area 64 handles [ usb:8 usb:9 ]",
    ),
    Case::text(
        "both.busy.same-descriptor",
        "local and remote at once on one descriptor",
        "t0 client f0
         t0 enable f0 pc
         t0 remote f0 pc area 64 handles [ usb:9 ] -> EINVAL
         t0 disable f0
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t0 enable f0 pc -> EINVAL",
    ),
];
