// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mapping the buffer.

use super::{Case, Clause};
use rkcov_model::Need;

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "map.length",
        text: "a mapping has the buffer's length, rounded up to a page",
    },
    Clause {
        id: "map.offset",
        text: "a mapping has offset 0",
    },
    Clause {
        id: "map.before-init",
        text: "mmap() fails before there is a buffer",
    },
    Clause {
        id: "map.again",
        text: "a buffer can be mapped several times, also after fork; all mappings have the same words",
    },
    Clause {
        id: "map.read-only",
        text: "a read-only mapping is allowed",
    },
];

pub(super) const CASES: &[Case] = &[
    Case::text(
        "map.length.pages",
        "a buffer of whole pages, and lengths that are not its own",
        "t0 open f0
         t0 init f0 1024
         t0 map f0 m0 4096 -> EINVAL
         t0 map f0 m0 12288 -> EINVAL
         t0 map f0 m0 8192",
    ),
    Case::text(
        "map.length.part-of-page",
        "a buffer that does not fill its page, by either length",
        "t0 open f0
         t0 init f0 64
         t0 map f0 m0 512
         t0 map f0 m1 4096",
    ),
    Case::text(
        "map.length.rest-is-not-a-page",
        "a page and a word",
        "t0 open f0
         t0 init f0 513
         t0 map f0 m0 4096 -> EINVAL
         t0 map f0 m0 8192",
    ),
    Case::text(
        "map.length.0",
        "a mapping of nothing",
        "t0 open f0
         t0 init f0 512
         t0 map f0 m0 0 -> EINVAL",
    ),
    Case::text(
        "map.offset.page",
        "a mapping that begins on the second page",
        "t0 open f0
         t0 init f0 1024
         t0 map f0 m0 4096 at 4096 -> EINVAL
         t0 map f0 m0 8192 at 4096 -> EINVAL",
    ),
    Case::text(
        "map.before-init.fresh",
        "a descriptor that was only opened",
        "t0 open f0
         t0 map f0 m0 4096 -> EINVAL",
    ),
    Case::text(
        "map.before-init.refused",
        "a descriptor whose buffer was refused",
        "t0 open f0
         t0 init f0 1 -> EINVAL
         t0 map f0 m0 4096 -> EINVAL",
    ),
    Case::text(
        "map.again.twice",
        "two mappings of one buffer",
        "t0 open f0
         t0 init f0 512
         t0 map f0 m0 4096
         t0 map f0 m1 4096
         t0 poke m0 3 77
         t0 read m1 3 1 -> = 77
         t0 unmap m0
         t0 poke m1 3 78
         t0 read m1 3 1 -> = 78",
    ),
    Case::text(
        "map.again.while-enabled",
        "a mapping made in the middle of collecting",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3 stop
         t0 unmap m0
         t0 map f0 m0 4096 -> ok or EINVAL
         t0 disable f0",
    ),
    Case::text(
        "map.again.child-inherits",
        "parent and child see the same words",
        "t0 open f0
         t0 init f0 512
         t0 map f0 m0 4096
         t0 fork t1
         t1 poke m0 5 99
         t0 read m0 5 1 -> = 99
         t0 poke m0 5 98
         t1 read m0 5 1 -> = 98",
    ),
    Case::text(
        "map.again.child-maps",
        "a child maps what its parent opened",
        "t0 open f0
         t0 init f0 512
         t0 map f0 m0 4096
         t0 fork t1
         t1 map f0 m1 4096
         t1 poke m1 5 99
         t0 read m0 5 1 -> = 99",
    ),
    Case::text(
        "map.read-only.reads",
        "a reader that never writes",
        "t0 open f0
         t0 init f0 512
         t0 map f0 m0 4096 read-only
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3 stop
         ? t0 m0 recorded pcs 0 3",
    ),
    Case::code(
        "map.read-only.enforced",
        "a write through a read-only mapping ends the process",
        |stage| {
            stage.needs(Need::ReadOnly)?;
            stage.tell(
                "t0 open f0
                 t0 init f0 512
                 t0 fork t1
                 t1 map f0 m0 4096 read-only",
            )?;
            match stage.does("t1 poke m0 0 1") {
                Err(crate::stage::Stop::Broken(_)) => Ok(()),
                other => Err(crate::stage::Stop::Failed(format!("written: {other:?}"))),
            }
        },
    ),
];
