// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells a script to any host, beside the model.

use std::collections::BTreeMap;
use std::fmt;

use rkcov_model::host::Site;
use rkcov_model::{Act, Call, Host, Map, Model, Op, Outcome, Task, Trouble};

/// One line of a replay.
#[derive(Debug)]
pub struct Told {
    what: String,
    was: String,
    should: String,
    /// Whether the host did something else than the model.
    pub differs: bool,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  # {}", self.what, self.was)?;
        if self.differs {
            write!(f, ", but the model: {}", self.should)?;
        }
        Ok(())
    }
}

/// What is known of a mapping.
struct Seen {
    words: u64,
    /// The client wrote to it, or it holds something else than PCs behind word 0: its trace is not
    /// to be compared.
    spoiled: bool,
}

/// Tells a script to a host and to the model, and compares what each operation answers. On a host
/// that records more than known code, words are not compared as they stand; at the end, on every
/// host, the known PCs of each trace are.
///
/// # Errors
/// If the host cannot do what the script says.
pub fn replay(ops: &[Op], host: &mut dyn Host) -> Result<Vec<Told>, Trouble> {
    let exact = host.traits().exact;
    let mut model = Model::new(host.traits().clone());
    let mut lines = Vec::new();
    let mut maps: BTreeMap<(Task, Map), Seen> = BTreeMap::new();
    for op in ops {
        if let Some(need) = op
            .needs()
            .into_iter()
            .find(|n| host.traits().lacks.contains_key(n))
        {
            let why = host.traits().lacks[&need].clone();
            return Err(Trouble::Lacks(need, why));
        }
        let (was, should) = (host.apply(op)?, model.apply(op)?);
        let reads = matches!(op, Op::Act(_, Act::Read { .. }));
        lines.push(Told {
            what: op.to_string(),
            was: was.to_string(),
            should: should.to_string(),
            differs: was != should && (exact || !reads),
        });
        note(op, &should, &mut maps);
    }
    for ((task, map), seen) in maps {
        if seen.spoiled {
            continue;
        }
        let (Some(was), Some(should)) = (
            trace(host, task, map, seen.words)?,
            trace(&mut model, task, map, seen.words)?,
        ) else {
            continue;
        };
        // Where unknown code takes room too, known code may have found none.
        let agree = was == should || (!exact && should.starts_with(&was));
        lines.push(Told {
            what: format!("# {task} {map} recorded"),
            was: format!("{was:?}"),
            should: format!("{should:?}"),
            differs: !agree,
        });
    }
    Ok(lines)
}

fn note(op: &Op, should: &Outcome, maps: &mut BTreeMap<(Task, Map), Seen>) {
    let mut spoil = |map: &Map| {
        for ((_, name), seen) in maps.iter_mut() {
            seen.spoiled |= name == map;
        }
    };
    match (op, should) {
        (Op::Act(task, Act::Map { map, len, .. }), Outcome::Done) => {
            let seen = Seen {
                words: len / 8,
                spoiled: false,
            };
            maps.insert((*task, *map), seen);
        }
        (Op::Act(task, Act::Unmap(map)), Outcome::Done) => drop(maps.remove(&(*task, *map))),
        (Op::Act(_, Act::Poke { map, .. }), _) => spoil(map),
        (Op::Act(_, Act::Ioctl(_, Call::Unique(_) | Call::Enable(1))), Outcome::Done) => {
            maps.values_mut().for_each(|seen| seen.spoiled = true);
        }
        (Op::Act(_, Act::Ioctl(_, Call::Remote(call))), Outcome::Done) if call.mode == 1 => {
            maps.values_mut().for_each(|seen| seen.spoiled = true);
        }
        (Op::End(task) | Op::Kill(task) | Op::Exec(task), _) => {
            maps.retain(|(of, _), _| of != task);
        }
        _ => {}
    }
}

/// The known PCs of a trace, by the numbers of their markers.
fn trace(
    host: &mut dyn Host,
    task: Task,
    map: Map,
    words: u64,
) -> Result<Option<Vec<u32>>, Trouble> {
    let mut read = |first, count| host.apply(&Op::Act(task, Act::Read { map, first, count }));
    let Outcome::Words(head) = read(0, 1)? else {
        return Ok(None);
    };
    let count = head[0].min(words.saturating_sub(1));
    let Outcome::Words(pcs) = read(1, count)? else {
        return Ok(None);
    };
    let markers = host.traits().markers.min(4096);
    let by_pc: BTreeMap<u64, u32> = (0..markers)
        .map(|n| (host.pc(Site::Marker(n)), n))
        .collect();
    Ok(Some(
        pcs.iter().filter_map(|pc| by_pc.get(pc).copied()).collect(),
    ))
}
