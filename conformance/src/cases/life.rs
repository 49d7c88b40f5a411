// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many at once: readers, workers and clients that run, fork and die as they do in earnest.

use super::{Case, Clause};
use crate::stage::{expect, Checked, Stage, Stop};
use rkcov_model::{Map, Need, Task};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "publish.merged",
        text: "a client that reads continuously, with acquire, never sees a merged record that is not written",
    },
    Clause {
        id: "publish.local",
        text: "a reader after the owner stopped sees every local record",
    },
    Clause {
        id: "publish.killed",
        text: "after kill -9, at most the last record is zero",
    },
    Clause {
        id: "isolate.stress",
        text: "N threads and M clients: no PC of one in the buffer of another",
    },
    Clause {
        id: "isolate.deterministic",
        text: "a deterministic subject gives the same PCs a thousand times in a row",
    },
    Clause {
        id: "race.one-wins",
        text: "of two simultaneous requests for the same thing, one gets all of it",
    },
    Clause {
        id: "race.stale",
        text: "sections are delivered completely or not at all while their listener enables and disables",
    },
    Clause {
        id: "server.fork",
        text: "fork server: the parent opens and maps, children enable, 10,000 times, some killed",
    },
    Clause {
        id: "dying.each-step",
        text: "a client is killed after any step: the next client with its handles gets no EEXIST",
    },
];

/// Everything that a client does, one step after the other.
const PROTOCOL: [&str; 9] = [
    "t1 open f1",
    "t1 init f1 512",
    "t1 map f1 m1 4096",
    "t1 remote f1 pc area 64 common common:7 handles [ usb:8 usb:9 ]",
    "t1 thread t2",
    "t2 run start common:7 pcs 0 3",
    "t2 run stop",
    "t1 disable f1",
    "t1 close f1",
];

/// A client that is killed after so many steps of the protocol, and the next one.
fn dies_after(stage: &mut Stage<'_>, steps: usize) -> Checked {
    stage.tell("t0 fork t1")?;
    stage.tell(&PROTOCOL[..steps].join("\n"))?;
    stage.tell(
        "t1 kill
         t0 client f0
         t0 remote f0 pc area 64 common common:7 handles [ usb:8 usb:9 ]
         t0 thread t3
         t3 run start usb:9 pcs 0 1 stop start common:7 pcs 1 1 stop
         t0 disable f0
         ? t0 m0 recorded pcs 0 2",
    )
}

/// Tasks 1 and 2 make one call each at the same time, of which one fails. Answers whose did not.
fn one_wins(stage: &mut Stage<'_>, calls: [&str; 2], error: &str) -> Checked<usize> {
    for (task, call) in (1..).zip(calls) {
        stage.tell(&format!("t{task} begin 1 {{ {call} }}"))?;
    }
    let outcomes = [stage.does("t1 join")?, stage.does("t2 join")?].map(|o| o.to_string());
    match [outcomes[0].as_str(), outcomes[1].as_str()] {
        ["ok", lost] if lost == error => Ok(1),
        [lost, "ok"] if lost == error => Ok(2),
        other => Err(Stop::Failed(format!(
            "{other:?}, not one ok and one {error}"
        ))),
    }
}

macro_rules! dies {
    ($steps:literal, $id:literal, $title:literal) => {
        Case::code($id, $title, |stage| dies_after(stage, $steps))
    };
}

pub(super) const CASES: &[Case] = &[
    Case::code(
        "publish.merged.reader",
        "two workers merge while the client reads",
        |stage| {
            stage.needs(Need::Parallel)?;
            stage.tell("t0 thread t1\nt0 thread t2\nt0 thread t3")?;
            for _ in 0..20 {
                // A new buffer each time: only in zeroes can be seen what was not written.
                stage.tell(
                    "t0 open f0
                     t0 init f0 8192
                     t0 map f0 m0 65536
                     t0 remote f0 pc area 64 handles [ usb:9 ]
                     t2 begin 150 { run start usb:9 pcs 0 20 stop }
                     t3 begin 150 { run start usb:9 pcs 20 20 stop }
                     t1 begin 3000 { watch m0 }
                     t3 join
                     t2 join
                     t1 join
                     ? t0 m0 count 6000
                     t0 disable f0
                     t0 unmap m0
                     t0 close f0",
                )?;
            }
            Ok(())
        },
    ),
    Case::code(
        "publish.local.after",
        "every record that another thread made, when that has stopped",
        |stage| {
            stage.tell(
                "t0 client f0
                 t0 thread t1
                 t1 enable f0 pc
                 t1 begin 20 { run pcs 0 5 }
                 t1 join
                 t1 disable f0",
            )?;
            let steps = "pcs 0 5 ".repeat(20);
            stage.tell(&format!("? t0 m0 among {steps}"))
        },
    ),
    Case::code(
        "publish.killed.tail",
        "a child that is killed in the middle of recording",
        |stage| {
            stage.needs(Need::Parallel)?;
            stage.tell(
                "t0 client f0
                 t0 fork t1
                 t1 enable f0 pc
                 t1 begin 1000000 { run pcs 0 5 }
                 t1 kill",
            )?;
            let count = stage.read(Task(0), Map(0), 0, 1)?[0];
            let records = stage.read(Task(0), Map(0), 1, count)?;
            let (last, rest) = records.split_last().unwrap_or((&1, &[]));
            let holes = rest.iter().filter(|&&word| word == 0).count();
            expect(holes == 0, || {
                format!("{holes} zero records before the last one, which is {last:#x}")
            })
        },
    ),
    Case::code(
        "isolate.stress.pool",
        "three clients, four workers that serve all of them, and one that serves nobody",
        |stage| {
            stage.needs(Need::Parallel)?;
            stage.tell("t0 open f0\nt0 init f0 65536\nt0 map f0 m0 524288")?;
            stage.tell("t0 thread t1\nt1 open f1\nt1 init f1 65536\nt1 map f1 m1 524288")?;
            stage.tell("t0 thread t2\nt2 open f2\nt2 init f2 65536\nt2 map f2 m2 524288")?;
            stage.tell(
                "t0 remote f0 pc area 256 handles [ usb:10 ]
                 t1 remote f1 pc area 256 handles [ usb:11 ]
                 t2 remote f2 pc area 256 handles [ usb:12 ]",
            )?;
            const ROUNDS: u32 = 300;
            for worker in 3..7 {
                stage.tell(&format!(
                    "t0 thread t{worker}
                     t{worker} begin {ROUNDS} {{ run start usb:10 pcs 0 10 stop pcs 90 1 start usb:11 pcs 5 10 stop start usb:12 pcs 10 10 stop }}"
                ))?;
            }
            stage.tell("t0 thread t7\nt7 begin 300 { run pcs 0 20 }")?;
            for task in 3..8 {
                stage.tell(&format!("t{task} join"))?;
            }
            for (client, first) in [(0, 0), (1, 5), (2, 10)] {
                let markers = stage.markers(Task(client), Map(client))?;
                let sections = markers.chunks(10);
                let whole = |section: &[Option<u32>]| {
                    section.iter().copied().eq((first..first + 10).map(Some))
                };
                let foreign = sections.filter(|section| !whole(section)).count();
                expect(
                    foreign == 0 && markers.len() == 10 * 4 * ROUNDS as usize,
                    || {
                        format!(
                            "client {client}: {} records, {foreign} sections that are not its own",
                            markers.len()
                        )
                    },
                )?;
            }
            Ok(())
        },
    ),
    Case::code(
        "isolate.stress.deaths",
        "two workers that go on where other threads have died",
        |stage| {
            stage.needs(Need::Parallel)?;
            const ROUNDS: u32 = 3000;
            stage.tell("t0 open f0\nt0 init f0 131072\nt0 map f0 m0 1048576")?;
            stage.tell("t0 remote f0 pc area 64 handles [ usb:9 ]")?;
            for worker in 1..3 {
                stage.tell(&format!(
                    "t0 thread t{worker}
                     t{worker} begin {ROUNDS} {{ run start usb:9 pcs 0 20 stop }}"
                ))?;
            }
            for _ in 0..200 {
                stage.tell("t0 thread t3\nt3 end")?;
            }
            stage.tell("t1 join\nt2 join")?;
            let markers = stage.markers(Task(0), Map(0))?;
            let foreign = markers.iter().filter(|marker| marker.is_none()).count();
            expect(
                foreign == 0 && markers.len() == 2 * 20 * ROUNDS as usize,
                || format!("{} records, {foreign} of no section", markers.len()),
            )
        },
    ),
    Case::code(
        "isolate.deterministic.section",
        "a thousand sections, with threads at work around them",
        |stage| {
            stage.tell("t0 client f0\nt0 thread t1\nt0 thread t2\nt0 thread t3")?;
            stage.tell("t0 remote f0 pc area 64 handles [ usb:9 ]")?;
            stage.tell("t2 begin 20000 { run pcs 100 20 }")?;
            stage.tell("t3 begin 20000 { run start usb:10 pcs 200 20 stop }")?;
            for round in 0..1000 {
                stage.tell("t1 run start usb:9 pcs 0 7 pcs 3 2 stop")?;
                stage
                    .tell("? t0 m0 recorded pcs 0 7 pcs 3 2")
                    .map_err(|stop| match stop {
                        Stop::Failed(what) => Stop::Failed(format!("round {round}: {what}")),
                        other => other,
                    })?;
                stage.tell("t0 poke m0 0 0")?;
            }
            stage.tell("t2 join\nt3 join")
        },
    ),
    Case::code(
        "race.one-wins.descriptor",
        "two processes enable one descriptor",
        |stage| {
            stage.needs(Need::Parallel)?;
            stage.tell("t0 client f0\nt0 fork t1\nt0 fork t2")?;
            for _ in 0..100 {
                let winner = one_wins(stage, ["enable f0 pc"; 2], "EINVAL")?;
                stage.tell(&format!("t{winner} disable f0"))?;
            }
            Ok(())
        },
    ),
    Case::code(
        "race.one-wins.handles",
        "two threads want the same handles, in another order",
        |stage| {
            stage.needs(Need::Parallel)?;
            stage.tell("t0 client f1\nt0 client f2\nt0 thread t1\nt0 thread t2")?;
            let calls = [
                "remote f1 pc area 64 handles [ usb:1 usb:2 usb:3 usb:4 ]",
                "remote f2 pc area 64 handles [ usb:4 usb:3 usb:2 usb:1 ]",
            ];
            for _ in 0..100 {
                let winner = one_wins(stage, calls, "EEXIST")?;
                let loser = 3 - winner;
                stage.tell(&format!("t{winner} disable f{winner}"))?;
                // It left none of them behind.
                stage.tell(&format!("t{loser} {}", calls[loser - 1]))?;
                stage.tell(&format!("t{loser} disable f{loser}"))?;
            }
            Ok(())
        },
    ),
    Case::code(
        "race.stale.sections",
        "two workers that go on all the time",
        |stage| {
            stage.needs(Need::Parallel)?;
            stage.tell(
                "t0 open f0
                 t0 init f0 65536
                 t0 map f0 m0 524288
                 t0 thread t1
                 t0 thread t2
                 t0 thread t3
                 t3 begin 300 { remote f0 pc area 64 handles [ usb:9 ] ; disable f0 ; remote f0 pc area 32 handles [ usb:8 usb:9 ] ; disable f0 }
                 t1 begin 2000 { run start usb:9 pcs 0 10 stop }
                 t2 begin 2000 { run start usb:8 pcs 10 10 stop }
                 t1 join
                 t2 join
                 t3 join",
            )?;
            let markers = stage.markers(Task(0), Map(0))?;
            let whole = |section: &[Option<u32>]| {
                let first = section[0].unwrap_or(0) / 10 * 10;
                section.iter().copied().eq((first..first + 10).map(Some))
            };
            let cut = markers.chunks(10).filter(|section| !whole(section)).count();
            expect(cut == 0, || format!("{cut} sections are not whole"))?;
            stage.tell("t0 remote f0 pc area 64 handles [ usb:8 usb:9 ]")
        },
    ),
    Case::code(
        "server.fork.enables",
        "each child enables what the parent opened, and ends",
        |stage| {
            stage.tell("t0 client f0")?;
            stage.repeat(10_000, 200, |stage, round| {
                let last = match round % 5 {
                    0 => "t1 kill",
                    1 => "t1 end",
                    _ => "t1 disable f0\nt1 end",
                };
                stage.tell("t0 poke m0 0 0\nt0 fork t1\nt1 enable f0 pc\nt1 run pcs 0 3")?;
                stage.tell(last)?;
                if round % 100 == 0 {
                    stage.tell("? t0 m0 among pcs 0 3")?;
                }
                Ok(())
            })?;
            stage.tell("t0 enable f0 pc")
        },
    ),
    Case::code(
        "server.fork.two-children",
        "two children that both try",
        |stage| {
            stage.tell("t0 client f0\nt0 client f1")?;
            for _ in 0..100 {
                stage.tell(
                    "t0 fork t1
                     t0 fork t2
                     t1 enable f0 pc
                     t2 enable f0 pc -> EINVAL
                     t2 enable f1 pc
                     t1 kill
                     t2 disable f1
                     t2 enable f0 pc
                     t2 end",
                )?;
            }
            Ok(())
        },
    ),
    Case::code(
        "server.fork.remote",
        "children that listen, each with its own common handle",
        |stage| {
            stage.tell("t0 client f0")?;
            for round in 1..=100 {
                stage.tell(&format!(
                    "t0 poke m0 0 0
                     t0 fork t1
                     t1 remote f0 pc area 64 common common:{round} handles [ usb:9 ]
                     t1 thread t2
                     t2 run common -> = {round}
                     t2 run start common:{round} pcs 0 2 stop start usb:9 pcs 2 1 stop
                     ? t0 m0 recorded pcs 0 3
                     t1 kill"
                ))?;
            }
            Ok(())
        },
    ),
    dies!(1, "dying.each-step.open", "after open"),
    dies!(2, "dying.each-step.init", "after INIT_TRACE"),
    dies!(3, "dying.each-step.map", "after mmap"),
    dies!(4, "dying.each-step.enable", "after REMOTE_ENABLE"),
    dies!(
        5,
        "dying.each-step.thread",
        "with a thread that inherited the handle"
    ),
    dies!(6, "dying.each-step.section", "in the middle of a section"),
    dies!(7, "dying.each-step.merged", "after a section"),
    dies!(8, "dying.each-step.disable", "after DISABLE"),
    dies!(9, "dying.each-step.close", "after close"),
];
