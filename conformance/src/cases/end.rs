// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ends: of tasks without `KCOV_DISABLE`, and of files and mappings while they are in use.

use super::{Case, Clause};
use crate::stage::{Checked, Stage};
use rkcov_model::Nesting;

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "end.returns",
        text: "a thread that returns frees its handles and descriptors at once",
    },
    Clause {
        id: "end.killed",
        text: "a process that is killed frees its handles and descriptors",
    },
    Clause {
        id: "end.interrupted",
        text: "an owner that ends after a softirq's section interrupted it frees its handles and descriptors",
    },
    Clause {
        id: "end.elsewhere",
        text: "an owner that ends while a section with its handle runs elsewhere frees its handles and descriptors",
    },
    Clause {
        id: "end.in-section",
        text: "a task that ends inside sections stops them, the innermost first",
    },
    Clause {
        id: "end.exec",
        text: "exec: Linux continues to collect in the same task; in userspace the old image ends",
    },
    Clause {
        id: "close.enabled",
        text: "closing the file while enabled frees nothing that is in use",
    },
    Clause {
        id: "close.in-section",
        text: "closing the file during a section frees nothing that is in use",
    },
    Clause {
        id: "close.unmap",
        text: "a mapping may end before or after the file is closed",
    },
    Clause {
        id: "close.thread",
        text: "any thread may close",
    },
    Clause {
        id: "close.memory",
        text: "no memory leaks over 10,000 rounds",
    },
];

/// Memory before and after many rounds of this.
fn rounds(stage: &mut Stage<'_>, what: &str) -> Checked {
    const ROUNDS: u32 = 10_000;
    // A page lost in each of these is more than a kernel's memory varies by itself.
    const LEAST: u32 = 400;
    // Once, so that what is kept for good is there.
    stage.tell(what)?;
    let before = stage.memory()?;
    stage.repeat(ROUNDS, LEAST, |stage, _| stage.tell(what))?;
    stage.memory_is_back(before)
}

pub(super) const CASES: &[Case] = &[
    Case::text(
        "end.returns.local",
        "the descriptor can be used again",
        "t0 client f0
         t0 thread t1
         t1 enable f0 pc
         t0 enable f0 pc -> EINVAL
         t1 end
         t0 enable f0 pc
         t0 disable f0",
    ),
    Case::text(
        "end.returns.remote",
        "its handles can be had again",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t1 remote f0 pc area 64 common common:7 handles [ usb:9 ]
         t0 remote f1 pc area 64 handles [ usb:9 ] -> EEXIST
         t0 remote f1 pc area 64 common common:7 -> EEXIST
         t1 end
         t0 remote f1 pc area 64 common common:7 handles [ usb:9 ]
         t0 disable f1
         t0 remote f0 pc area 64",
    ),
    Case::text(
        "end.returns.both",
        "a local and a remote descriptor of one task",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t1 enable f0 pc
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t1 end
         t0 enable f0 pc
         t0 remote f1 pc area 64 handles [ usb:9 ]",
    ),
    Case::text(
        "end.returns.trace-stays",
        "what a thread recorded before it ended stays in the buffer",
        "t0 client f0
         t0 thread t1
         t1 enable f0 pc
         t1 run pcs 0 3
         t1 end
         ? t0 m0 among pcs 0 3",
    ),
    Case::text(
        "end.killed.local",
        "a killed child's descriptor can be used again",
        "t0 client f0
         t0 fork t1
         t1 enable f0 pc
         t1 kill
         t0 enable f0 pc",
    ),
    Case::text(
        "end.killed.remote",
        "a killed child's handles can be had again",
        "t0 client f0
         t0 client f1
         t0 fork t1
         t1 remote f0 pc area 64 common common:7 handles [ usb:9 ]
         t0 remote f1 pc area 64 handles [ usb:9 ] -> EEXIST
         t1 kill
         t0 remote f1 pc area 64 common common:7 handles [ usb:9 ]",
    ),
    Case::text(
        "end.killed.own-file",
        "a killed process's own descriptor, of which nothing is left",
        "t0 fork t1
         t1 client f1
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t1 kill
         t0 client f0
         t0 remote f0 pc area 64 handles [ usb:9 ]",
    ),
    Case::text(
        "end.killed.threads",
        "each thread of a killed process had its own",
        "t0 client f0
         t0 client f1
         t0 fork t1
         t1 thread t2
         t1 enable f0 pc
         t2 remote f1 pc area 64 handles [ usb:9 ]
         t1 kill
         t0 enable f0 pc
         t0 remote f1 pc area 64 handles [ usb:9 ]",
    ),
    Case::text(
        "end.interrupted.local",
        "a collecting task ends after a softirq's section on top of it",
        "t0 client f0
         t0 client f1
         t0 remote f1 pc area 64 handles [ usb:9 ]
         t0 thread t1
         t1 enable f0 pc
         t1 run pcs 0 1 softirq { start usb:9 pcs 10 2 stop } pcs 1 1
         t1 end
         ? t0 m0 among pcs 0 2
         ? t0 m1 recorded pcs 10 2
         t0 enable f0 pc",
    ),
    Case::text(
        "end.elsewhere.stale",
        "the section ends after the owner: nothing of it is delivered",
        "t0 client f0
         t0 thread t1
         t0 worker t2
         t1 remote f0 pc area 64 handles [ usb:9 ]
         t2 run start usb:9 pcs 0 3
         t1 end
         t2 run pcs 3 1 stop
         ? t0 m0 recorded
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t2 run start usb:9 pcs 5 2 stop
         ? t0 m0 recorded pcs 5 2",
    ),
    Case::text(
        "end.elsewhere.gone",
        "owner, file and mapping are gone when the section ends",
        "t0 worker t2
         t0 fork t1
         t1 client f0
         t1 remote f0 pc area 64 handles [ usb:9 ]
         t2 run start usb:9 pcs 0 3
         t1 kill
         t2 run pcs 3 1 stop
         t0 client f0
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t0 disable f0
         ? t0 m0 recorded",
    ),
    Case::text(
        "end.in-section.merged",
        "what it recorded is delivered",
        "t0 client f0
         t0 worker t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3
         t1 end
         ? t0 m0 recorded pcs 0 3
         t0 disable f0
         t0 remote f0 pc area 64 handles [ usb:9 ]",
    ),
    Case::code(
        "end.in-section.nested",
        "sections in each other, innermost first",
        |stage| {
            stage.needs(rkcov_model::Need::Nesting)?;
            stage.tell(
                "t0 client f0
                 t0 thread t1
                 t0 remote f0 pc area 64 handles [ usb:8 usb:9 ]
                 t1 run start usb:8 pcs 0 3 start usb:9 pcs 10 2
                 t1 end
                 ? t0 m0 recorded pcs 10 2 pcs 0 3",
            )
        },
    ),
    Case::text(
        "end.in-section.own",
        "a task ends in a section that it itself listens to",
        "t0 client f0
         t0 thread t1
         t1 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3
         t1 end
         ? t0 m0 among pcs 0 3
         t0 remote f0 pc area 64 handles [ usb:9 ]",
    ),
    Case::code(
        "end.exec.collects-on",
        "Linux: the same task, so collecting goes on, and its file and handles stay",
        |stage| {
            if stage.traits().nesting != Nesting::Refuse {
                return stage.needs(rkcov_model::Need::Refusal);
            }
            stage.tell(
                "t0 client f0
                 t0 fork t1
                 t1 enable f0 pc
                 t1 exec
                 t0 enable f0 pc -> EINVAL
                 t1 run pcs 0 3
                 t1 disable f0
                 ? t0 m0 among pcs 0 3",
            )
        },
    ),
    Case::code(
        "end.exec.image-ends",
        "userspace: the old image's end frees what it had enabled",
        |stage| {
            if stage.traits().nesting != Nesting::Suspend {
                return stage.needs(rkcov_model::Need::Nesting);
            }
            stage.tell(
                "t0 client f0
                 t0 fork t1
                 t1 remote f0 pc area 64 handles [ usb:9 ]
                 t1 exec
                 t0 remote f0 pc area 64 handles [ usb:9 ]",
            )
        },
    ),
    Case::text(
        "close.enabled.local",
        "local collection goes on into the mapping",
        "t0 client f0
         t0 enable f0 pc
         t0 close f0
         t0 run pcs 0 3
         ? t0 m0 among pcs 0 3",
    ),
    Case::text(
        "close.enabled.remote",
        "sections are delivered until the owner ends, handles are taken until then",
        "t0 client f0
         t0 thread t1
         t1 remote f0 pc area 64 handles [ usb:9 ]
         t0 close f0
         t0 run start usb:9 pcs 0 3 stop
         ? t0 m0 recorded pcs 0 3
         t0 client f1
         t0 remote f1 pc area 64 handles [ usb:9 ] -> EEXIST
         t1 end
         t0 remote f1 pc area 64 handles [ usb:9 ]",
    ),
    Case::text(
        "close.enabled.no-map",
        "neither file nor mapping is left, and the owner still collects",
        "t0 client f0
         t0 enable f0 pc
         t0 unmap m0
         t0 close f0
         t0 run pcs 0 3
         t0 client f1
         t0 enable f1 pc -> EBUSY",
    ),
    Case::text(
        "close.in-section.delivered",
        "the file is closed between start and stop",
        "t0 client f0
         t0 worker t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3
         t0 close f0
         t1 run pcs 3 1 stop
         ? t0 m0 recorded pcs 0 4",
    ),
    Case::text(
        "close.in-section.all-gone",
        "file, mapping and owner go between start and stop",
        "t0 thread t1
         t0 worker t2
         t1 client f0
         t1 remote f0 pc area 64 handles [ usb:9 ]
         t2 run start usb:9 pcs 0 3
         t1 close f0
         t1 unmap m0
         t1 end
         t2 run pcs 3 1 stop
         t2 run start usb:9 pcs 0 3 stop",
    ),
    Case::text(
        "close.unmap.before",
        "unmapped, then closed, while enabled",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t0 unmap m0
         t1 run start usb:9 pcs 0 3 stop
         t0 close f0
         t1 run start usb:9 pcs 0 3 stop",
    ),
    Case::text(
        "close.unmap.after",
        "closed, then read, then unmapped",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3 stop
         t0 disable f0
         t0 close f0
         ? t0 m0 recorded pcs 0 3
         t0 unmap m0",
    ),
    Case::text(
        "close.thread.other",
        "a thread closes what another collects into",
        "t0 client f0
         t0 thread t1
         t0 enable f0 pc
         t1 close f0
         t0 run pcs 0 3
         ? t0 m0 among pcs 0 3",
    ),
    Case::text(
        "close.thread.child-keeps",
        "the parent closes, the child's copy is as good",
        "t0 client f0
         t0 fork t1
         t0 close f0
         t1 enable f0 pc
         t1 run pcs 0 3
         t1 disable f0
         ? t0 m0 among pcs 0 3",
    ),
    Case::code(
        "close.memory.disabled",
        "open, collect, disable, close",
        |stage| {
            rounds(
                stage,
                "t0 open f0
                 t0 init f0 512
                 t0 map f0 m0 4096
                 t0 enable f0 pc
                 t0 disable f0
                 t0 unmap m0
                 t0 close f0",
            )
        },
    ),
    Case::code(
        "close.memory.task-ends",
        "a thread that ends enabled, after its file was closed",
        |stage| {
            rounds(
                stage,
                "t0 thread t1
                 t1 open f0
                 t1 init f0 512
                 t1 remote f0 pc area 64 common common:7 handles [ usb:9 ]
                 t1 close f0
                 t1 end",
            )
        },
    ),
    Case::code(
        "close.memory.in-section",
        "a section that outlives its listener",
        |stage| {
            rounds(
                stage,
                "t0 thread t1
                 t0 worker t2
                 t1 open f0
                 t1 init f0 512
                 t1 remote f0 pc area 64 handles [ usb:9 ]
                 t2 run start usb:9 pcs 0 1
                 t1 close f0
                 t1 end
                 t2 run stop
                 t2 end",
            )
        },
    ),
    Case::code(
        "close.memory.refused",
        "remote enables that fail on their last handle",
        |stage| {
            stage.tell(
                "t0 client f0
                 t0 remote f0 pc area 64 handles [ usb:9 ]",
            )?;
            rounds(
                stage,
                "t0 thread t1
                 t1 open f1
                 t1 init f1 512
                 t1 remote f1 pc area 64 handles [ usb:7 usb:8 usb:9 ] -> EEXIST
                 t1 close f1
                 t1 end",
            )
        },
    ),
];
