// SPDX-License-Identifier: MIT OR Apache-2.0
//! `KCOV_REMOTE_ENABLE` that fails leaves no trace: a correct call right after it succeeds.

use super::{Case, Clause};
use crate::stage::{expect, Checked, Stage};
use rkcov_model::{Map, Need, Task};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "refuse.exist",
        text: "a handle that is registered already, the last of 256, is refused",
    },
    Clause {
        id: "refuse.common",
        text: "an invalid or registered common handle after valid handles is refused",
    },
    Clause {
        id: "refuse.count",
        text: "257 handles, and 2^32-1, are refused",
    },
    Clause {
        id: "refuse.changed",
        text: "num_handles that another thread changes during the call is refused",
    },
    Clause {
        id: "refuse.fault",
        text: "an argument that is only partly readable is refused, at every length",
    },
    Clause {
        id: "refuse.memory",
        text: "each allocation failure is reported and changes nothing",
    },
    Clause {
        id: "refuse.task",
        text: "a refused call leaves the caller's common handle and descriptors unchanged",
    },
];

/// USB handles from 1000 on.
fn usb(count: u32) -> String {
    let handles: Vec<String> = (1000..1000 + count).map(|n| format!("usb:{n}")).collect();
    handles.join(" ")
}

/// Every allocation that this operation makes fails once; then it succeeds. Returns how many.
fn each_allocation(stage: &mut Stage<'_>, op: &str, undo: &str) -> Checked<u32> {
    stage.needs(Need::Failures)?;
    let task = op.split(' ').next().unwrap_or("t0");
    for nth in 1..64 {
        stage.tell(&format!("{task} fail {nth}"))?;
        stage.tell(&format!("{op} -> ok or ENOMEM"))?;
        if !stage.failed()? {
            return Ok(nth - 1);
        }
        // Whether it got over the failure or not, it can be done anew.
        if stage.tell(op).is_err() {
            stage.tell(undo)?;
            stage.tell(op)?;
        }
        stage.tell(undo)?;
    }
    Err(crate::stage::Stop::Failed(format!("`{op}` never succeeds")))
}

pub(super) const CASES: &[Case] = &[
    Case::code(
        "refuse.exist.last-of-256",
        "255 good ones and one that is taken",
        |stage| {
            let good = usb(255);
            stage.tell(&format!(
                "t0 client f0
                 t0 client f1
                 t0 thread t1
                 t1 remote f1 pc area 64 handles [ usb:9 ]
                 t0 remote f0 pc area 64 handles [ {good} usb:9 ] -> EEXIST
                 t0 remote f0 pc area 64 handles [ {good} usb:1255 ]
                 t0 run common -> = 0"
            ))
        },
    ),
    Case::text(
        "refuse.exist.others-free",
        "the handles before the taken one can be had by another client at once",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t0 remote f0 pc area 64 handles [ usb:7 usb:8 usb:9 ] -> EEXIST
         t0 thread t2
         t2 client f2
         t2 remote f2 pc area 64 handles [ usb:7 usb:8 ]",
    ),
    Case::text(
        "refuse.exist.not-heard",
        "sections with the handles before the taken one are not recorded",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t0 thread t2
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t0 remote f0 pc area 64 handles [ usb:8 usb:9 ] -> EEXIST
         t2 run start usb:8 pcs 0 3 stop
         ? t0 m0 recorded
         ? t0 m1 recorded",
    ),
    Case::text(
        "refuse.exist.common",
        "a common handle that is taken",
        "t0 client f0
         t0 client f1
         t0 thread t1
         t1 remote f1 pc area 64 common common:7
         t0 remote f0 pc area 64 common common:7 handles [ usb:8 ] -> EEXIST
         t0 remote f0 pc area 64 common common:8 handles [ usb:8 ]",
    ),
    Case::text(
        "refuse.common.bad",
        "good handles, then a common handle of another subsystem",
        "t0 client f0
         t0 remote f0 pc area 64 common usb:5 handles [ usb:8 usb:9 ] -> EINVAL
         t0 remote f0 pc area 64 common common:5 handles [ usb:8 usb:9 ]",
    ),
    Case::text(
        "refuse.common.stray-bits",
        "good handles, then a common handle with bits above the instance",
        "t0 client f0
         t0 remote f0 pc area 64 common 0x100000007 handles [ usb:8 ] -> EINVAL
         t0 run common -> = 0
         t0 remote f0 pc area 64 common common:7 handles [ usb:8 ]
         t0 run common -> = 7",
    ),
    Case::code("refuse.count.256", "as many as there may be", |stage| {
        let handles = usb(256);
        stage.tell(&format!(
            "t0 client f0
                 t0 remote f0 pc area 64 common common:7 handles [ {handles} ]
                 t0 thread t1
                 t1 run start usb:1000 pcs 0 1 stop start usb:1255 pcs 1 1 stop
                 t1 run start common:7 pcs 2 1 stop
                 ? t0 m0 recorded pcs 0 3
                 t0 disable f0
                 t0 remote f0 pc area 64 common common:7 handles [ {handles} ]"
        ))
    }),
    Case::code("refuse.count.257", "one more", |stage| {
        let (most, more) = (usb(256), usb(257));
        stage.tell(&format!(
            "t0 client f0
                 t0 remote f0 pc area 64 handles [ {more} ] -> EINVAL
                 t0 remote f0 pc area 64 handles [ {most} ]"
        ))
    }),
    Case::text(
        "refuse.count.all-ones",
        "2^32-1, whose size in bytes overflows 32 bits",
        "t0 client f0
         t0 remote f0 pc area 64 handles [ usb:9 ] claim 0xffffffff -> EINVAL
         t0 remote f0 pc area 64 handles [ usb:9 ] claim 0x20000000 -> EINVAL
         t0 remote f0 pc area 64 handles [ usb:9 ]",
    ),
    Case::text(
        "refuse.changed.more",
        "num_handles grows after it was read",
        "t0 client f0
         t0 remote f0 pc area 64 handles [ usb:8 usb:9 ] claim 1 then 2 -> EINVAL
         t0 remote f0 pc area 64 handles [ usb:8 usb:9 ]",
    ),
    Case::text(
        "refuse.changed.fewer",
        "num_handles shrinks after it was read",
        "t0 client f0
         t0 remote f0 pc area 64 handles [ usb:8 usb:9 ] then 0 -> EINVAL
         t0 remote f0 pc area 64 handles [ usb:8 usb:9 ]",
    ),
    Case::text(
        "refuse.changed.huge",
        "num_handles becomes more than there may be",
        "t0 client f0
         t0 remote f0 pc area 64 handles [ usb:8 usb:9 ] then 0xffffffff -> EINVAL
         t0 remote f0 pc area 64 handles [ usb:8 usb:9 ]",
    ),
    Case::text(
        "refuse.fault.nowhere",
        "no argument at all",
        "t0 client f0
         t0 ioctl f0 0x40186366 0 -> EFAULT
         t0 ioctl f0 0x40186366 0xffffffffffffff00 -> EFAULT
         t0 remote f0 pc area 64",
    ),
    Case::code(
        "refuse.fault.each-byte",
        "an argument of three handles that ends at each byte before its end",
        |stage| {
            stage.needs(Need::Faults)?;
            stage.tell("t0 client f0")?;
            for readable in 0..48 {
                stage.tell(&format!(
                    "t0 remote f0 pc area 64 common common:7 handles [ usb:7 usb:8 usb:9 ] readable {readable} -> EFAULT"
                ))?;
            }
            stage.tell(
                "t0 run common -> = 0
                 t0 remote f0 pc area 64 common common:7 handles [ usb:7 usb:8 usb:9 ] readable 48
                 t0 run common -> = 7",
            )
        },
    ),
    Case::text(
        "refuse.fault.count-first",
        "too many handles are refused before the rest is read",
        "t0 client f0
         t0 remote f0 pc area 64 claim 257 readable 12 -> EINVAL
         t0 remote f0 pc area 64 claim 256 readable 12 -> EFAULT",
    ),
    Case::code(
        "refuse.memory.remote",
        "each allocation of a remote enable with 20 handles",
        |stage| {
            let handles = usb(20);
            stage.tell("t0 client f0")?;
            let op = format!("t0 remote f0 pc area 64 common common:7 handles [ {handles} ]");
            let allocations = each_allocation(stage, &op, "t0 disable f0")?;
            expect(allocations > 0, || "nothing was allocated".into())?;
            stage.tell(
                "t0 thread t1
                 t1 run start usb:1000 pcs 0 1 stop start common:7 pcs 1 1 stop
                 ? t0 m0 recorded pcs 0 2",
            )
        },
    ),
    Case::code(
        "refuse.memory.open",
        "each allocation of an open",
        |stage| each_allocation(stage, "t0 open f0", "t0 close f0").map(drop),
    ),
    Case::code(
        "refuse.memory.init",
        "a buffer that cannot be had: the descriptor stays without one",
        |stage| {
            stage.needs(Need::Failures)?;
            stage.tell(
                "t0 open f0
                 t0 fail 1
                 t0 init f0 512 -> ENOMEM
                 t0 enable f0 pc -> EINVAL
                 t0 map f0 m0 4096 -> EINVAL
                 t0 init f0 512
                 t0 map f0 m0 4096
                 t0 enable f0 pc",
            )
        },
    ),
    Case::code(
        "refuse.memory.section",
        "an area that cannot be had: the section records nothing, the next one does",
        |stage| {
            stage.needs(Need::Failures)?;
            stage.needs(Need::Exact)?;
            stage.tell(
                "t0 client f0
                 t0 thread t1
                 t0 remote f0 pc area 64 handles [ usb:9 ]
                 t1 fail 1
                 t1 run start usb:9 pcs 0 3 stop
                 ? t0 m0 recorded
                 t1 run start usb:9 pcs 5 2 stop
                 ? t0 m0 recorded pcs 5 2",
            )?;
            if stage.has(Need::Drops) {
                stage.tell("? t0 f0 dropped no-area 1")?;
            }
            Ok(())
        },
    ),
    Case::code(
        "refuse.memory.section-somewhere",
        "a failure anywhere on the way: the section is delivered whole or not at all",
        |stage| {
            stage.needs(Need::Failures)?;
            stage.tell("t0 client f0\nt0 thread t1")?;
            for nth in 1..30 {
                // A new area each time, since each enable has its own.
                stage.tell("t0 remote f0 pc area 64 handles [ usb:9 ]\nt0 poke m0 0 0")?;
                stage.tell(&format!("t1 fail {nth}"))?;
                let ran = stage.does("t1 run start usb:9 pcs 0 3 stop");
                let recorded = stage.markers(Task(0), Map(0))?.len();
                expect(recorded == 0 || recorded == 3, || {
                    format!("failure {nth}: {recorded} records ({ran:?})")
                })?;
                stage.tell("t1 run start usb:9 pcs 5 2 stop\nt0 disable f0")?;
                let more = stage.markers(Task(0), Map(0))?.len();
                expect(more == recorded + 2, || {
                    format!("failure {nth}: {recorded} records, then {more}")
                })?;
            }
            Ok(())
        },
    ),
    Case::text(
        "refuse.task.common",
        "a failed call does not touch the common handle that the caller inherited",
        "t0 client f0
         t0 client f1
         t0 remote f0 pc area 64 common common:7
         t0 thread t1
         t1 remote f1 pc area 64 common common:7 -> EEXIST
         t1 run common -> = 7
         t1 remote f1 pc area 64 common common:8 handles [ usb:1 ] claim 257 -> EINVAL
         t1 run common -> = 7",
    ),
    Case::text(
        "refuse.task.local",
        "a failed call does not touch the caller's local descriptor",
        "t0 client f0
         t0 client f1
         t0 enable f0 pc
         t0 remote f1 pc area 64 common usb:9 -> EINVAL
         t0 run pcs 0 3
         t0 disable f0
         ? t0 m0 among pcs 0 3",
    ),
    Case::text(
        "refuse.task.other-client",
        "a descriptor on which a call failed can be enabled by another task",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 common usb:9 -> EINVAL
         t1 remote f0 pc area 64 handles [ usb:9 ]
         t0 run start usb:9 pcs 0 3 stop
         ? t0 m0 recorded pcs 0 3",
    ),
];
