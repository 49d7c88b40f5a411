// SPDX-License-Identifier: MIT OR Apache-2.0
//! The buffer, which belongs to the client as much as to the kcov: hostile, small, full.

use super::{Case, Clause};
use crate::stage::{expect, Checked, Stage, WORDS};
use rkcov_model::{Map, Need, Task};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "hostile.pc",
        text: "word 0 is set to every special value while PCs are collected",
    },
    Clause {
        id: "hostile.cmp",
        text: "the same while comparisons are collected",
    },
    Clause {
        id: "hostile.merge",
        text: "the same before a section's records are merged",
    },
    Clause {
        id: "hostile.small",
        text: "buffers of 2, 3, 5 and 6 words",
    },
    Clause {
        id: "hostile.full",
        text: "a full buffer or area stops recording; only whole records are written; losses are counted exactly",
    },
    Clause {
        id: "hostile.scribbler",
        text: "a client that overwrites its buffer continuously harms only itself",
    },
    Clause {
        id: "unique.once",
        text: "each PC is recorded once; an index beyond the bitmap is recorded each time",
    },
    Clause {
        id: "unique.enable",
        text: "UNIQUE_ENABLE returns the documented errors",
    },
    Clause {
        id: "unique.hostile",
        text: "the bitmap and its count word may have any value",
    },
    Clause {
        id: "reset.empties",
        text: "RESET_TRACE sets the count, and in unique mode the bitmap, to zero",
    },
    Clause {
        id: "reset.errno",
        text: "RESET_TRACE needs argument 0 and an enabled descriptor, and any task with the file may call it",
    },
];

/// Count words that have confused a kcov, or might.
fn hostile_counts() -> Vec<u64> {
    let last = WORDS - 1;
    vec![
        u64::MAX,
        u64::MAX - 1,
        1 << 63,
        (1 << 63) - 1,
        1 << 62,
        1 << 61,
        (1 << 61) - 1,
        1 << 32,
        (1 << 32) - 1,
        last,
        last + 1,
        last + 2,
        last / 4,
        last / 4 + 1,
    ]
}

/// Fills a buffer of [`WORDS`] words with a pattern and sets its count word.
fn prepare(stage: &mut Stage<'_>, count: u64) -> Checked {
    for word in 1..WORDS {
        stage.tell(&format!("t0 poke m0 {word} {:#x}", PATTERN + word))?;
    }
    stage.tell(&format!("t0 poke m0 0 {count:#x}"))
}

const PATTERN: u64 = 0x7a77_e200_0000;

/// What must stand in the buffer now: the pattern, but for `records` behind the count.
fn intact(stage: &mut Stage<'_>, count: u64, width: u64, records: u64) -> Checked {
    let words = stage.read(Task(0), Map(0), 0, WORDS)?;
    expect(words[0] == count + records, || {
        format!("the count {count:#x} became {:#x}", words[0])
    })?;
    // Nothing is written behind a count that cannot be true.
    let first = if records > 0 { 1 + count * width } else { 0 };
    let written = first..first + records * width;
    for (at, word) in (0..WORDS).zip(&words).skip(1) {
        let is_pattern = *word == PATTERN + at;
        expect(is_pattern != written.contains(&at), || {
            format!("with a count of {count:#x}, word {at} is {word:#x}")
        })?;
    }
    Ok(())
}

/// Records that fit behind this count.
fn room(count: u64, width: u64) -> u64 {
    ((WORDS - 1) / width).saturating_sub(count)
}

fn hostile_local(stage: &mut Stage<'_>, mode: &str, step: &str, width: u64) -> Checked {
    stage.needs(Need::Exact)?;
    stage.tell("t0 client f0")?;
    for count in hostile_counts() {
        stage.tell(&format!("t0 enable f0 {mode}"))?;
        prepare(stage, count)?;
        stage.tell(&format!("t0 run {step} {step}\nt0 disable f0"))?;
        intact(stage, count, width, room(count, width).min(2))?;
    }
    Ok(())
}

fn hostile_merge(stage: &mut Stage<'_>, mode: &str, step: &str, width: u64) -> Checked {
    stage.tell(&format!(
        "t0 open f0
         t0 init f0 {WORDS}
         t0 map f0 m0 {}
         t0 worker t1
         t0 remote f0 {mode} area 64 handles [ usb:9 ]",
        WORDS * 8
    ))?;
    for count in hostile_counts() {
        stage.tell(&format!("t1 run start usb:9 {step} {step}"))?;
        prepare(stage, count)?;
        stage.tell("t1 run stop")?;
        intact(stage, count, width, room(count, width).min(2))?;
    }
    Ok(())
}

/// A buffer of so many words, filled by a section that records more than fits.
fn small_merge(stage: &mut Stage<'_>, words: u64, mode: &str, steps: &[&str]) -> Checked {
    let width = if mode == "cmp" { 4 } else { 1 };
    let fit = ((words - 1) / width) as usize;
    let lost = steps.len() - fit.min(steps.len());
    stage.tell(&format!(
        "t0 open f0
         t0 init f0 {words}
         t0 map f0 m0 4096
         t0 thread t1
         t0 remote f0 {mode} area 64 handles [ usb:9 ]
         t1 run start usb:9 {} stop
         ? t0 m0 recorded {}",
        steps.join(" "),
        steps[..fit.min(steps.len())].join(" "),
    ))?;
    if stage.has(Need::Drops) {
        stage.tell(&format!("? t0 f0 dropped full {lost}"))?;
    }
    Ok(())
}

const PCS: [&str; 6] = [
    "pcs 0 1", "pcs 1 1", "pcs 2 1", "pcs 3 1", "pcs 4 1", "pcs 5 1",
];
const CMPS: [&str; 3] = ["cmp4 1 2", "const8 3 4", "cmp1 5 6"];

pub(super) const CASES: &[Case] = &[
    Case::code("hostile.pc.local", "a task's own PCs", |stage| {
        hostile_local(stage, "pc", "pcs 0 1", 1)
    }),
    Case::code(
        "hostile.pc.no-harm",
        "all ones in a kernel, where more is recorded than known code: word 0 is no record",
        |stage| {
            stage.tell(
                "t0 client f0
                 t0 enable f0 pc
                 t0 poke m0 0 0xffffffffffffffff
                 t0 run pcs 0 3",
            )?;
            let count = stage.read(Task(0), Map(0), 0, 1)?[0];
            stage.tell("t0 disable f0")?;
            expect(count == u64::MAX, || format!("the count became {count:#x}"))
        },
    ),
    Case::code("hostile.cmp.local", "a task's own comparisons", |stage| {
        hostile_local(stage, "cmp", "cmp4 1 2", 4)
    }),
    Case::code(
        "hostile.cmp.overflow",
        "counts whose product with the size of a record overflows",
        |stage| {
            stage.tell("t0 client f0")?;
            for count in [u64::MAX, 1_u64 << 62, (1 << 62) + 1, 1 << 59] {
                stage.tell(&format!(
                    "t0 enable f0 cmp
                     t0 poke m0 0 {count:#x}
                     t0 run cmp8 1 2
                     t0 disable f0
                     ? t0 m0 count {count:#x}"
                ))?;
            }
            Ok(())
        },
    ),
    Case::code("hostile.merge.pc", "sections of PCs", |stage| {
        hostile_merge(stage, "pc", "pcs 0 1", 1)
    }),
    Case::code(
        "hostile.merge.cmp",
        "sections of comparisons: never a part of one",
        |stage| hostile_merge(stage, "cmp", "cmp4 1 2", 4),
    ),
    Case::text(
        "hostile.merge.counted",
        "what a senseless count keeps out is counted",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t0 poke m0 0 0xffffffffffffffff
         t1 run start usb:9 pcs 0 3 stop
         ? t0 f0 dropped full 3
         t0 poke m0 0 0
         t1 run start usb:9 pcs 0 3 stop
         ? t0 m0 recorded pcs 0 3",
    ),
    Case::code("hostile.small.2-pc", "2 words: one PC", |stage| {
        small_merge(stage, 2, "pc", &PCS)
    }),
    Case::code("hostile.small.3-pc", "3 words: two PCs", |stage| {
        small_merge(stage, 3, "pc", &PCS)
    }),
    Case::code("hostile.small.3-cmp", "3 words: no comparison", |stage| {
        small_merge(stage, 3, "cmp", &CMPS)
    }),
    Case::code("hostile.small.5-cmp", "5 words: one comparison", |stage| {
        small_merge(stage, 5, "cmp", &CMPS)
    }),
    Case::code(
        "hostile.small.6-cmp",
        "6 words: one comparison and a word that stays as it was",
        |stage| {
            small_merge(stage, 6, "cmp", &CMPS)?;
            let spare = stage.read(Task(0), Map(0), 5, 1)?[0];
            expect(spare == 0, || format!("the spare word is {spare:#x}"))
        },
    ),
    Case::code(
        "hostile.small.local",
        "the same by a task itself",
        |stage| {
            stage.needs(Need::Exact)?;
            for (file, words) in (0..).zip([2_u64, 3, 5, 6]) {
                let (pcs, cmps) = (words - 1, (words - 1) / 4);
                stage.tell(&format!(
                    "t0 open f{file}
                     t0 init f{file} {words}
                     t0 map f{file} m{file} 4096
                     t0 enable f{file} pc
                     t0 run pcs 0 9
                     t0 disable f{file}
                     ? t0 m{file} recorded pcs 0 {pcs}
                     t0 poke m{file} 0 0
                     t0 enable f{file} cmp
                     t0 run cmp4 1 2 cmp4 3 4
                     t0 disable f{file}
                     ? t0 m{file} count {cmps}"
                ))?;
            }
            Ok(())
        },
    ),
    Case::code(
        "hostile.full.area-pc",
        "an area with room for five PCs",
        |stage| {
            stage.tell(
                "t0 client f0
                 t0 thread t1
                 t0 remote f0 pc area 6 handles [ usb:9 ]
                 t1 run start usb:9 pcs 0 9 stop
                 ? t0 m0 recorded pcs 0 5
                 t1 run start usb:9 pcs 20 2 stop
                 ? t0 m0 recorded pcs 0 5 pcs 20 2",
            )?;
            if stage.has(Need::Drops) {
                stage.tell("? t0 f0 dropped full 4")?;
            }
            Ok(())
        },
    ),
    Case::text(
        "hostile.full.area-cmp",
        "an area with room for one comparison and a half",
        "t0 client f0
         t0 thread t1
         t0 remote f0 cmp area 7 handles [ usb:9 ]
         t1 run start usb:9 cmp4 1 2 cmp4 3 4 stop
         ? t0 m0 recorded cmp4 1 2",
    ),
    Case::text(
        "hostile.full.merge-in-part",
        "a section finds room for a part of its records",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3 stop
         t0 poke m0 0 0
         t1 run start usb:9 pcs 10 3 stop
         ? t0 m0 recorded pcs 10 3",
    ),
    Case::code(
        "hostile.full.merge-to-the-brim",
        "sections until nothing fits, the last one in part",
        |stage| {
            stage.tell(&format!(
                "t0 open f0
                 t0 init f0 {WORDS}
                 t0 map f0 m0 4096
                 t0 thread t1
                 t0 remote f0 pc area 64 handles [ usb:9 ]"
            ))?;
            // 511 records fit: 12 sections of 40, and 31 of the thirteenth.
            for _ in 0..14 {
                stage.tell("t1 run start usb:9 pcs 0 40 stop")?;
            }
            stage.tell("? t0 m0 count 511")?;
            let markers = stage.markers(Task(0), Map(0))?;
            let expected = (0..511).map(|n| Some(n % 40));
            expect(expected.eq(markers.iter().copied()), || {
                format!("recorded {markers:?}")
            })?;
            if stage.has(Need::Drops) {
                stage.tell("? t0 f0 dropped full 49")?;
            }
            Ok(())
        },
    ),
    Case::code(
        "hostile.full.local",
        "a task's own buffer: recording stops at the last word, and the loss is counted",
        |stage| {
            stage.needs(Need::Exact)?;
            stage.tell(
                "t0 client f0
                 t0 enable f0 pc
                 t0 run pcs 0 600
                 t0 disable f0
                 ? t0 m0 recorded pcs 0 511",
            )?;
            if stage.has(Need::Drops) {
                stage.tell("? t0 f0 dropped full 89")?;
            }
            Ok(())
        },
    ),
    Case::code(
        "hostile.full.local-and-more",
        "the same with a system's own code around: the count never passes the end",
        |stage| {
            stage.tell(&format!(
                "t0 open f0
                 t0 init f0 {WORDS}
                 t0 map f0 m0 4096
                 t0 enable f0 pc
                 t0 run pcs 0 600
                 t0 disable f0
                 ? t0 m0 count {}",
                WORDS - 1
            ))
        },
    ),
    Case::text(
        "hostile.full.goes-on",
        "a client that takes its records out has room again",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 600 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 511 stop
         t0 poke m0 0 0
         t1 run start usb:9 pcs 0 3 stop
         ? t0 m0 recorded pcs 0 3",
    ),
    Case::code(
        "hostile.scribbler.others",
        "another client's trace stays as it should be",
        |stage| {
            stage.needs(Need::Parallel)?;
            stage.tell(
                "t0 client f0
                 t0 fork t1
                 t1 client f1
                 t1 remote f1 pc area 64 handles [ usb:8 ]
                 t0 thread t2
                 t0 thread t3
                 t0 remote f0 pc area 64 handles [ usb:9 ]
                 t1 begin 4294967295 { poke m1 0 0xffffffffffffffff ; poke m1 0 0 ; poke m1 1 0x4141414141414141 ; poke m1 0 510 }
                 t2 begin 1000 { run start usb:8 pcs 100 20 stop }
                 t3 begin 50 { run start usb:9 pcs 0 5 stop }
                 t3 join
                 t2 join
                 t1 kill",
            )?;
            let steps = "pcs 0 5 ".repeat(50);
            stage.tell(&format!("? t0 m0 recorded {steps}"))
        },
    ),
    Case::code(
        "unique.enable.order",
        "state, then the task, then the size of the bitmap",
        |stage| {
            stage.needs(Need::Unique)?;
            stage.tell(
                "t0 open f0
         t0 unique f0 1 -> EINVAL
         t0 init f0 512
         t0 unique f0 0 -> EINVAL
         t0 unique f0 511 -> EINVAL
         t0 unique f0 512 -> EINVAL
         t0 unique f0 0xffffffffffffffff -> EINVAL
         t0 client f1
         t0 enable f1 pc
         t0 unique f0 0 -> EBUSY
         t0 unique f1 1 -> EINVAL
         t0 disable f1
         t0 unique f0 510
         t0 enable f1 pc -> EBUSY
         t0 disable f0",
            )
        },
    ),
    Case::code(
        "unique.enable.not-built",
        "ENOTSUPP where it is not built in, before anything else is looked at",
        |stage| {
            if stage.traits().unique {
                return Err(crate::stage::Stop::Lacks(
                    Need::Unique,
                    "unique mode is built in here".into(),
                ));
            }
            stage.tell(
                "t0 open f0
                 t0 unique f0 1 -> ENOTSUPP
                 t0 init f0 512
                 t0 unique f0 0 -> ENOTSUPP
                 t0 unique f0 1 -> ENOTSUPP",
            )
        },
    ),
    Case::code(
        "unique.once.trace",
        "the trace behind the bitmap",
        |stage| {
            stage.needs(Need::Unique)?;
            stage.tell(
                "t0 client f0
             t0 unique f0 100
             t0 run pcs 0 3 pcs 1 3 pcs 0 1
             t0 disable f0",
            )?;
            let words = stage.read(Task(0), Map(0), 100, 6)?;
            let pcs: Vec<u64> = (0..4)
                .map(|n| stage.pc(rkcov_model::host::Site::Marker(n)))
                .collect();
            expect(words[0] == 4 && words[1..5] == pcs && words[5] == 0, || {
                format!("{words:#x?}, not four PCs {pcs:#x?}")
            })
        },
    ),
    Case::code(
        "unique.once.beyond",
        "indices beyond the bitmap are recorded each time",
        |stage| {
            stage.needs(Need::Unique)?;
            stage.tell(
                "t0 client f0
                 t0 unique f0 1
                 t0 run pcs 0 1 pcs 0 1 pcs 500 1 pcs 500 1
                 t0 disable f0",
            )?;
            let count = stage.read(Task(0), Map(0), 1, 1)?[0];
            expect(count == 3, || format!("{count} records, not 3"))
        },
    ),
    Case::code(
        "unique.once.border",
        "the last index of the bitmap once, the first one behind it each time",
        |stage| {
            stage.needs(Need::Unique)?;
            let last = 63 - stage.traits().first_index;
            stage.tell(&format!(
                "t0 client f0
                 t0 unique f0 1
                 t0 run pcs {last} 2 pcs {last} 2
                 t0 disable f0
                 t0 read m0 0 2 -> = 0x8000000000000000 3"
            ))
        },
    ),
    Case::code(
        "unique.once.again",
        "a bitmap that is left as it was makes the next run silent",
        |stage| {
            stage.needs(Need::Unique)?;
            stage.tell(
                "t0 client f0
                 t0 unique f0 100
                 t0 run pcs 0 3
                 t0 disable f0
                 t0 poke m0 100 0
                 t0 unique f0 100
                 t0 run pcs 0 4
                 t0 disable f0
                 t0 read m0 100 1 -> = 1",
            )
        },
    ),
    Case::code(
        "unique.hostile.ones",
        "a bitmap of all ones records nothing",
        |stage| {
            stage.needs(Need::Unique)?;
            stage.tell("t0 client f0\nt0 unique f0 100")?;
            for word in 0..100 {
                stage.tell(&format!("t0 poke m0 {word} 0xffffffffffffffff"))?;
            }
            stage.tell(
                "t0 run pcs 0 3
                 t0 disable f0
                 t0 read m0 99 3 -> = 0xffffffffffffffff 0 0",
            )
        },
    ),
    Case::code(
        "unique.hostile.count",
        "a count word of nonsense: neither it nor the bitmap is written over",
        |stage| {
            stage.needs(Need::Unique)?;
            stage.tell("t0 client f0")?;
            for count in hostile_counts().into_iter().filter(|c| *c >= WORDS - 101) {
                stage.tell(&format!(
                    "t0 poke m0 100 {count:#x}
                     t0 poke m0 99 0
                     t0 poke m0 0 0
                     t0 unique f0 100
                     t0 run pcs 0 2
                     t0 disable f0
                     t0 read m0 99 2 -> = 0 {count:#x}"
                ))?;
            }
            Ok(())
        },
    ),
    Case::text(
        "reset.empties.remote",
        "a trace of sections",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3 stop
         t0 reset f0
         ? t0 m0 recorded
         t1 run start usb:9 pcs 5 2 stop
         ? t0 m0 recorded pcs 5 2",
    ),
    Case::text(
        "reset.empties.local",
        "a trace of the task itself, before what comes now",
        "t0 client f0
         t0 enable f0 pc
         t0 run pcs 0 3
         t0 reset f0
         t0 run pcs 5 2
         t0 disable f0
         ? t0 m0 among pcs 5 2",
    ),
    Case::text(
        "reset.empties.nonsense",
        "a count word that holds nonsense",
        "t0 client f0
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t0 poke m0 0 0xffffffffffffffff
         t0 reset f0
         t1 run start usb:9 pcs 0 3 stop
         ? t0 m0 recorded pcs 0 3",
    ),
    Case::text(
        "reset.empties.read-only",
        "a client that cannot write to its buffer",
        "t0 open f0
         t0 init f0 512
         t0 map f0 m0 4096 read-only
         t0 thread t1
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3 stop
         t0 reset f0
         ? t0 m0 recorded",
    ),
    Case::code(
        "reset.empties.unique",
        "the bitmap too, so each PC is recorded once more",
        |stage| {
            stage.needs(Need::Unique)?;
            stage.tell(
                "t0 client f0
                 t0 unique f0 100
                 t0 run pcs 0 3
                 t0 reset f0
                 t0 read m0 0 1 -> = 0
                 t0 read m0 100 1 -> = 0
                 t0 run pcs 0 2
                 t0 disable f0
                 t0 read m0 100 1 -> = 2",
            )
        },
    ),
    Case::text(
        "reset.errno.argument",
        "an argument",
        "t0 client f0
         t0 thread t1
         t1 remote f0 pc area 64
         t0 reset f0 1 -> EINVAL
         t0 reset f0",
    ),
    Case::text(
        "reset.errno.not-enabled",
        "every state but enabled",
        "t0 open f0
         t0 reset f0 -> EINVAL
         t0 init f0 512
         t0 reset f0 -> EINVAL
         t0 remote f0 pc area 64
         t0 reset f0
         t0 disable f0
         t0 reset f0 -> EINVAL",
    ),
    Case::text(
        "reset.errno.other-task",
        "a thread, and a child, that are not the owner",
        "t0 client f0
         t0 thread t1
         t0 fork t2
         t0 remote f0 pc area 64 handles [ usb:9 ]
         t1 run start usb:9 pcs 0 3 stop
         t1 reset f0
         ? t0 m0 recorded
         t2 reset f0",
    ),
];
