// SPDX-License-Identifier: MIT OR Apache-2.0
//! Follows a thread through its records.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::fold::{add, Call, Calls, Piece};
use super::scene::{Routine, Scenes, Spot};
use super::{Begin, Story, Thread};
use crate::coverage::{ImageKey, ModuleMap, Modules, StreamIndex, StreamSet};
use crate::image::{Image, Position, Search};
use crate::trace::{Stream, Trace};

/// Functions that are looked at to find who made a call, from the innermost on.
const FAR: usize = 1000;

impl Story {
    /// What the streams among `wanted` called, in traces that have the order of records.
    #[must_use]
    pub fn of(traces: &[&Trace<'_>], search: &Search, wanted: &StreamSet) -> Self {
        let mut images: FxHashMap<ImageKey, Image> = FxHashMap::default();
        for module in traces.iter().flat_map(|trace| trace.modules()) {
            let key = (module.path.clone(), module.build_id.clone());
            images
                .entry(key)
                .or_insert_with_key(|(path, id)| Image::find_module(path, id, search));
        }
        let mut scenes = Scenes::new(&images, search);
        let mut calls = Calls::default();
        let mut threads = Vec::new();
        let mut stream = 0;
        for trace in traces {
            let modules = Modules::new(trace);
            for one in trace.streams() {
                if wanted.contains(stream) {
                    let map = ModuleMap::new(&modules, one.info().process);
                    let mut follower = Follower::new(&mut scenes, &mut calls);
                    threads.push(follower.thread(stream, one, &map));
                }
                stream += 1;
            }
        }
        Self {
            threads,
            functions: scenes.names,
            calls,
        }
    }
}

/// A function that a thread is in.
struct Frame {
    routine: Routine,
    position: Position,
    /// Where it called back last.
    pc: u64,
    /// Which of the open calls it is; those after it are inlined in it, up to the next frame's.
    base: usize,
}

/// A call that has not ended.
struct Open {
    function: u32,
    begin: Begin,
    children: Vec<Piece>,
}

/// How the next place of a thread follows from where it is.
enum Next {
    /// It is in the function of this frame, which goes on.
    Continues(usize),
    /// The function of this frame called it, in one of these blocks.
    CalledBy(usize, Vec<usize>),
    /// Nothing that is known called it.
    Begins,
}

struct Follower<'s, 'a> {
    scenes: &'s mut Scenes<'a>,
    calls: &'s mut Calls,
    frames: Vec<Frame>,
    open: Vec<Open>,
    roots: Vec<Piece>,
}

impl<'s, 'a> Follower<'s, 'a> {
    fn new(scenes: &'s mut Scenes<'a>, calls: &'s mut Calls) -> Self {
        Self {
            scenes,
            calls,
            frames: Vec::new(),
            open: Vec::new(),
            roots: Vec::new(),
        }
    }

    fn thread(&mut self, stream: StreamIndex, of: &Stream<'_>, map: &ModuleMap<'_>) -> Thread {
        let mut unknown = 0;
        for pc in of.pcs() {
            match self.scenes.spot(map, pc) {
                Some(spot) => self.come_to(&spot),
                None => unknown += 1,
            }
        }
        self.close(0);
        Thread {
            stream,
            unknown,
            pieces: std::mem::take(&mut self.roots),
        }
    }

    fn come_to(&mut self, spot: &Spot) {
        match self.next(spot) {
            Next::Continues(frame) => self.leave_to(frame + 1),
            Next::CalledBy(frame, blocks) => {
                self.leave_to(frame + 1);
                let routine = self.frames[frame].routine;
                if let [block] = blocks[..] {
                    if let Some(chain) = self.scenes.inlined_at(routine, block) {
                        self.inline(frame, &chain);
                    }
                }
                self.frames[frame].position = Position::Calling(blocks);
                self.enter(spot);
            }
            Next::Begins => {
                self.leave_to(0);
                self.enter(spot);
            }
        }
        let frame = self.frames.len() - 1;
        self.frames[frame].pc = spot.pc;
        if let Some(block) = spot.block {
            self.frames[frame].position = Position::At(block);
        }
        self.inline(frame, &spot.chain);
    }

    /// How the thread came to a place.
    fn next(&mut self, spot: &Spot) -> Next {
        let callee = self.scenes.entry(spot.routine).filter(|_| spot.first);
        let mut away: Option<(usize, Vec<usize>)> = None;
        let mut may_return = true;
        let mut same: Option<usize> = None;
        let depth = self.frames.len();
        for frame in (depth.saturating_sub(FAR)..depth).rev() {
            let &Frame { routine, pc, .. } = &self.frames[frame];
            let position = self.frames[frame].position.clone();
            let is_same = routine == spot.routine;
            let further = spot.block.map(Position::At).as_ref() == Some(&position) && pc < spot.pc;
            if is_same && may_return && further {
                return Next::Continues(frame);
            }
            let Some(ahead) = self.scenes.ahead(routine, &position) else {
                // Of code that is not known, the name alone tells.
                if is_same {
                    return Next::Continues(frame);
                }
                away.get_or_insert((frame, Vec::new()));
                continue;
            };
            if is_same && may_return && spot.block.is_some_and(|b| ahead.next.contains(&b)) {
                return Next::Continues(frame);
            }
            let is_callee = |(image, entry): (usize, u64)| {
                let same_image = matches!(routine, Routine::Known(of, _) if of == image);
                ahead.calls.get(&entry).filter(|_| same_image).cloned()
            };
            if let Some(blocks) = callee.and_then(is_callee).filter(|_| may_return) {
                return Next::CalledBy(frame, blocks);
            }
            if may_return && !ahead.away.is_empty() {
                away.get_or_insert_with(|| (frame, ahead.away.clone()));
            }
            if is_same {
                same.get_or_insert(frame);
            }
            may_return &= ahead.returns;
        }
        match (away, same) {
            // A function that nothing here calls: the program's start does, or a signal came.
            (Some((frame, blocks)), _) if callee.is_some() && !self.is_main(spot) => {
                Next::CalledBy(frame, blocks)
            }
            (_, Some(frame)) if !spot.first => Next::Continues(frame),
            (Some((frame, blocks)), None) if spot.block.is_none() => Next::CalledBy(frame, blocks),
            _ => Next::Begins,
        }
    }

    fn is_main(&self, spot: &Spot) -> bool {
        let function = spot.chain.first();
        function.is_some_and(|function| self.scenes.names[*function as usize].name == "main")
    }

    fn enter(&mut self, spot: &Spot) {
        let Some(function) = spot.chain.first() else {
            return;
        };
        let known = spot.block.is_some();
        self.frames.push(Frame {
            routine: spot.routine,
            position: Position::At(spot.block.unwrap_or(0)),
            pc: spot.pc,
            base: self.open.len(),
        });
        self.open.push(Open {
            function: *function,
            begin: match spot.first || !known {
                true => Begin::Called,
                false => Begin::Underway,
            },
            children: Vec::new(),
        });
    }

    /// Ends the calls of all frames but the first few.
    fn leave_to(&mut self, frames: usize) {
        if let Some(frame) = self.frames.get(frames) {
            let base = frame.base;
            self.frames.truncate(frames);
            self.close(base);
        }
    }

    /// Has the innermost frame be in these inlined functions, and in no others.
    fn inline(&mut self, frame: usize, chain: &Rc<[u32]>) {
        let inner = self.frames[frame].base + 1;
        let wanted = chain.get(1..).unwrap_or_default();
        let open = self.open[inner..].iter().map(|open| open.function);
        let common = open.zip(wanted).take_while(|(a, b)| a == *b).count();
        self.close(inner + common);
        self.open
            .extend(wanted[common..].iter().map(|function| Open {
                function: *function,
                begin: Begin::Inlined,
                children: Vec::new(),
            }));
    }

    fn close(&mut self, left: usize) {
        while self.open.len() > left {
            let Some(Open {
                function,
                begin,
                children,
            }) = self.open.pop()
            else {
                return;
            };
            let call = self.calls.number(Call {
                function,
                begin,
                children,
            });
            let to = match self.open.last_mut() {
                Some(outer) => &mut outer.children,
                None => &mut self.roots,
            };
            add(to, call);
        }
    }
}
