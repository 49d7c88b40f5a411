// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the device answers, and in which order it looks.

use super::{Case, Clause};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "errno.sizes",
        text: "a buffer has 2 to INT_MAX/8 words",
    },
    Clause {
        id: "errno.init",
        text: "a buffer is allocated once",
    },
    Clause {
        id: "errno.enable",
        text: "enabling requires a buffer, a disabled descriptor, a task without such a descriptor, and a known mode, checked in this order",
    },
    Clause {
        id: "errno.disable",
        text: "only the owner disables, only its own descriptor, with argument 0",
    },
    Clause {
        id: "errno.remote",
        text: "a remote argument is checked in the documented order",
    },
    Clause {
        id: "errno.handles",
        text: "handles have a known subsystem, the right kind, and no invalid bits",
    },
    Clause {
        id: "errno.unknown",
        text: "an unknown ioctl returns ENOTTY and changes nothing",
    },
    Clause {
        id: "errno.client32",
        text: "a 32-bit client can use kcov",
    },
];

pub(super) const CASES: &[Case] = &[
    Case::text(
        "errno.sizes.0",
        "a buffer of no words",
        "t0 open f0
         t0 init f0 0 -> EINVAL",
    ),
    Case::text(
        "errno.sizes.1",
        "a buffer that has only a count word",
        "t0 open f0
         t0 init f0 1 -> EINVAL",
    ),
    Case::text(
        "errno.sizes.2",
        "the smallest buffer",
        "t0 open f0
         t0 init f0 2",
    ),
    Case::text(
        "errno.sizes.int-max",
        "INT_MAX bytes, rounded down: refused for want of memory, or not at all",
        "t0 open f0
         t0 init f0 0x0fffffff -> ok or ENOMEM",
    ),
    Case::text(
        "errno.sizes.int-max-and-1",
        "one word more than INT_MAX bytes",
        "t0 open f0
         t0 init f0 0x10000000 -> EINVAL",
    ),
    Case::text(
        "errno.sizes.u64-max",
        "all ones, whose size in bytes overflows",
        "t0 open f0
         t0 init f0 0xffffffffffffffff -> EINVAL
         t0 init f0 0x2000000000000002 -> EINVAL",
    ),
    Case::text(
        "errno.sizes.after-refusal",
        "a refused size leaves the descriptor as it was",
        "t0 open f0
         t0 init f0 1 -> EINVAL
         t0 init f0 512
         t0 map f0 m0 4096",
    ),
    Case::text(
        "errno.init.twice",
        "a second buffer",
        "t0 open f0
         t0 init f0 512
         t0 init f0 512 -> EBUSY",
    ),
    Case::text(
        "errno.init.size-before-busy",
        "of two reasons to refuse a second buffer the size comes first",
        "t0 open f0
         t0 init f0 512
         t0 init f0 1 -> EINVAL",
    ),
    Case::text(
        "errno.init.enabled",
        "a second buffer while the first is in use",
        "t0 client f0
         t0 enable f0 pc
         t0 init f0 512 -> EBUSY
         t0 disable f0",
    ),
    Case::text(
        "errno.enable.before-init",
        "collecting without a buffer",
        "t0 open f0
         t0 enable f0 pc -> EINVAL
         t0 remote f0 pc area 64 -> EINVAL",
    ),
    Case::text(
        "errno.enable.twice",
        "this descriptor is enabled already, by this task: EINVAL, although the task is busy too",
        "t0 client f0
         t0 enable f0 pc
         t0 enable f0 pc -> EINVAL
         t0 disable f0",
    ),
    Case::text(
        "errno.enable.other-task",
        "this descriptor is enabled already, by another task",
        "t0 client f0
         t0 thread t1
         t0 enable f0 pc
         t1 enable f0 pc -> EINVAL
         t1 remote f0 pc area 64 -> EINVAL
         t0 disable f0
         t1 enable f0 pc",
    ),
    Case::text(
        "errno.enable.busy-before-mode",
        "of two reasons, a busy task and a bad mode, the task comes first",
        "t0 client f0
         t0 client f1
         t0 enable f0 pc
         t0 enable f1 7 -> EBUSY
         t0 disable f0",
    ),
    Case::text(
        "errno.enable.bad-mode",
        "modes beyond those there are",
        "t0 client f0
         t0 enable f0 2 -> EINVAL
         t0 enable f0 0xffffffffffffffff -> EINVAL
         t0 enable f0 pc",
    ),
    Case::text(
        "errno.enable.mode-high-bits",
        "a mode whose low half would be good",
        "t0 client f0
         t0 enable f0 0x100000000 -> EINVAL
         t0 enable f0 0x100000001 -> EINVAL",
    ),
    Case::code(
        "errno.enable.comparisons",
        "comparisons: collected, or ENOTSUPP where they are not built in",
        |stage| {
            let answer = if stage.traits().comparisons {
                "ok"
            } else {
                "ENOTSUPP"
            };
            stage.tell(&format!(
                "t0 client f0
                 t0 enable f0 cmp -> {answer}"
            ))
        },
    ),
    Case::text(
        "errno.disable.argument",
        "DISABLE with an argument",
        "t0 client f0
         t0 enable f0 pc
         t0 disable f0 1 -> EINVAL
         t0 disable f0",
    ),
    Case::text(
        "errno.disable.other-thread",
        "DISABLE by another thread of the process",
        "t0 client f0
         t0 thread t1
         t0 enable f0 pc
         t1 disable f0 -> EINVAL
         t0 disable f0",
    ),
    Case::text(
        "errno.disable.child",
        "DISABLE by a forked child",
        "t0 client f0
         t0 enable f0 pc
         t0 fork t1
         t1 disable f0 -> EINVAL
         t0 disable f0",
    ),
    Case::text(
        "errno.disable.other-file",
        "DISABLE of a descriptor that is not the one that the task enabled",
        "t0 client f0
         t0 client f1
         t0 enable f0 pc
         t0 disable f1 -> EINVAL
         t0 disable f0",
    ),
    Case::text(
        "errno.disable.not-enabled",
        "DISABLE in every state but enabled",
        "t0 open f0
         t0 disable f0 -> EINVAL
         t0 init f0 512
         t0 disable f0 -> EINVAL
         t0 enable f0 pc
         t0 disable f0
         t0 disable f0 -> EINVAL",
    ),
    Case::text(
        "errno.disable.remote",
        "the same for a remote descriptor",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 disable f0 -> EINVAL
         t0 disable f0 1 -> EINVAL
         t0 disable f0
         t0 disable f0 -> EINVAL",
    ),
    Case::text(
        "errno.remote.state-before-mode",
        "a descriptor without a buffer, before its bad mode",
        "t0 open f0
         t0 remote f0 7 area 64 -> EINVAL
         t0 init f0 512
         t0 remote f0 7 area 64 -> EINVAL
         t0 remote f0 pc area 64",
    ),
    Case::text(
        "errno.remote.busy-before-mode",
        "a task that has a remote descriptor, before a bad mode",
        "t0 client f0
         t0 client f1
         t0 remote f0 pc area 64
         t0 remote f1 7 area 64 -> EBUSY",
    ),
    Case::text(
        "errno.remote.count-before-state",
        "too many handles, before anything of the descriptor",
        "t0 open f0
         t0 remote f0 pc area 64 claim 257 -> EINVAL",
    ),
    Case::text(
        "errno.remote.no-handles",
        "no handle at all is allowed",
        "t0 client f0
         t0 remote f0 pc area 64
         t0 disable f0",
    ),
    Case::text(
        "errno.remote.area-0",
        "an area of no words",
        "t0 client f0
         t0 remote f0 pc area 0 -> EINVAL",
    ),
    Case::text(
        "errno.remote.area-1",
        "an area that has only a count word",
        "t0 client f0
         t0 remote f0 pc area 1 -> EINVAL
         t0 remote f0 pc area 2",
    ),
    Case::text(
        "errno.remote.area-cmp",
        "an area that has no room for one comparison",
        "t0 client f0
         t0 remote f0 cmp area 4 -> EINVAL
         t0 remote f0 cmp area 5",
    ),
    Case::text(
        "errno.remote.area-huge",
        "areas of more than INT_MAX bytes",
        "t0 client f0
         t0 remote f0 pc area 0x10000000 -> EINVAL
         t0 remote f0 pc area 0xffffffff -> EINVAL",
    ),
    Case::text(
        "errno.remote.area-before-handles",
        "a bad area, before a handle that is taken",
        "t0 client f0
         t0 thread t1
         t1 client f1
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t0 remote f0 pc area 1 handles [ usb:9 ] -> EINVAL
         t0 remote f0 pc area 64 handles [ usb:9 ] -> EEXIST",
    ),
    Case::text(
        "errno.remote.handles-in-order",
        "the first handle that cannot be had decides",
        "t0 client f0
         t0 thread t1
         t1 client f1
         t1 remote f1 pc area 64 handles [ usb:9 ]
         t0 remote f0 pc area 64 handles [ usb:9 common:3 ] -> EEXIST
         t0 remote f0 pc area 64 handles [ common:3 usb:9 ] -> EINVAL",
    ),
    Case::text(
        "errno.remote.repeated",
        "the same handle twice in one call",
        "t0 client f0
         t0 remote f0 pc area 64 handles [ usb:8 usb:8 ] -> EEXIST",
    ),
    Case::text(
        "errno.handles.common-in-list",
        "a common handle among the others",
        "t0 client f0
         t0 remote f0 pc area 64 handles [ common:7 ] -> EINVAL",
    ),
    Case::text(
        "errno.handles.zero-in-list",
        "handle 0 among the others",
        "t0 client f0
         t0 remote f0 pc area 64 handles [ 0 ] -> EINVAL",
    ),
    Case::text(
        "errno.handles.usb-as-common",
        "a handle of another subsystem as the common one",
        "t0 client f0
         t0 remote f0 pc area 64 common usb:9 -> EINVAL",
    ),
    Case::text(
        "errno.handles.usb-bus-0",
        "instance 0 of a subsystem that is not the common one",
        "t0 client f0
         t0 remote f0 pc area 64 handles [ usb:0 ]",
    ),
    Case::text(
        "errno.handles.stray-bits",
        "bits between subsystem and instance",
        "t0 client f0
         t0 remote f0 pc area 64 handles [ 0x100000100000001 ] -> EINVAL
         t0 remote f0 pc area 64 common 0x100000001 -> EINVAL",
    ),
    Case::text(
        "errno.handles.reserved",
        "subsystems 0x02 to 0x7f",
        "t0 client f0
         t0 remote f0 pc area 64 handles [ 0x200000000000001 ] -> EINVAL
         t0 remote f0 pc area 64 handles [ 0x7f00000000000001 ] -> EINVAL",
    ),
    Case::code(
        "errno.handles.user",
        "subsystems from 0x80 on: userspace's to use, refused in a kernel",
        |stage| {
            let answer = match stage.traits().nesting {
                rkcov_model::Nesting::Suspend => "ok",
                rkcov_model::Nesting::Refuse => "EINVAL",
            };
            stage.tell(&format!(
                "t0 client f0
                 t0 remote f0 pc area 64 handles [ 0x8000000000000001 ] -> {answer}
                 t0 client f1
                 t0 thread t1
                 t1 remote f1 pc area 64 handles [ 0xff00000000000000 ] -> {answer}"
            ))
        },
    ),
    Case::text(
        "errno.unknown.numbers",
        "numbers that are not kcov's, or not quite",
        "t0 open f0
         t0 ioctl f0 0 0 -> ENOTTY
         t0 ioctl f0 0x6300 0 -> ENOTTY
         t0 ioctl f0 0x80086302 64 -> ENOTTY
         t0 ioctl f0 0x40086301 64 -> ENOTTY
         t0 ioctl f0 0x6363 0 -> ENOTTY
         t0 ioctl f0 0x63ff 0 -> ENOTTY
         t0 ioctl f0 0x6464 0 -> ENOTTY
         t0 init f0 512",
    ),
    Case::text(
        "errno.unknown.enabled",
        "the same in the middle of collecting",
        "t0 client f0
         t0 enable f0 pc
         t0 ioctl f0 0x63ff 0 -> ENOTTY
         t0 disable f0",
    ),
    Case::text(
        "errno.client32.init",
        "INIT_TRACE by its 32-bit number",
        "t0 open f0
         t0 as32 init f0 512
         t0 map f0 m0 4096",
    ),
    Case::text(
        "errno.client32.local",
        "a 32-bit client collects from itself",
        "t0 client f0
         t0 as32 enable f0 pc
         t0 run pcs 0 3
         t0 as32 disable f0
         ? t0 m0 among pcs 0 3",
    ),
    Case::text(
        "errno.client32.remote",
        "a 32-bit client listens to sections: the argument has one layout for all",
        "t0 client f0
         t0 thread t1
         t0 as32 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3 stop
         t0 as32 disable f0
         ? t0 m0 recorded pcs 0 3",
    ),
];
