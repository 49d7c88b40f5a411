// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a PC stands for: a place in a function, and the functions that were inlined there.

use std::path::Path;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::Function;
use crate::coverage::paths::place;
use crate::coverage::{ImageKey, ModuleMap, ModulePlace};
use crate::image::{demangled, Ahead, Flow, Frame, Image, Position, Search, Site, Symbolizer};

/// The code of one image.
struct Scene<'a> {
    flow: Option<Flow>,
    /// The first PC of each block that has some.
    begins: FxHashMap<Site, u64>,
    symbolizer: Option<Symbolizer<'a>>,
}

/// The code of all images.
pub(super) struct Scenes<'a> {
    images: &'a FxHashMap<ImageKey, Image>,
    search: &'a Search,
    numbers: FxHashMap<&'a ImageKey, usize>,
    scenes: Vec<Scene<'a>>,
    places: FxHashMap<(usize, u64), Option<Rc<Spot>>>,
    first: FxHashMap<(usize, usize), Rc<[usize]>>,
    ahead: FxHashMap<(usize, usize, Position), Rc<Ahead>>,
    functions: FxHashMap<Function, u32>,
    pub(super) names: Vec<Function>,
}

/// A function, as it is in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Routine {
    /// The number that the image's flow has for it.
    Known(usize, usize),
    /// Only its name is known.
    Named(u32),
}

/// What a PC stands for.
pub(super) struct Spot {
    pub(super) routine: Routine,
    /// As an address in the file.
    pub(super) pc: u64,
    /// Its block, if that is known.
    pub(super) block: Option<usize>,
    /// Whether the function comes to this place first.
    pub(super) first: bool,
    /// The function, then those inlined there, from the outermost on.
    pub(super) chain: Rc<[u32]>,
}

impl<'a> Scenes<'a> {
    pub(super) fn new(images: &'a FxHashMap<ImageKey, Image>, search: &'a Search) -> Self {
        Self {
            images,
            search,
            numbers: FxHashMap::default(),
            scenes: Vec::new(),
            places: FxHashMap::default(),
            first: FxHashMap::default(),
            ahead: FxHashMap::default(),
            functions: FxHashMap::default(),
            names: Vec::new(),
        }
    }

    /// What a PC of a process stands for.
    pub(super) fn spot(&mut self, map: &ModuleMap<'_>, pc: u64) -> Option<Rc<Spot>> {
        let ModulePlace::In(module) = map.find(pc) else {
            return None;
        };
        let key = (module.path.clone(), module.build_id.clone());
        let image = self.scene(&key)?;
        let address = pc.wrapping_sub(module.bias);
        if let Some(known) = self.places.get(&(image, address)) {
            return known.clone();
        }
        let spot = self.look_up(image, address).map(Rc::new);
        self.places.insert((image, address), spot.clone());
        spot
    }

    fn scene(&mut self, key: &ImageKey) -> Option<usize> {
        if let Some(known) = self.numbers.get(key) {
            return Some(*known);
        }
        let (key, image) = self.images.get_key_value(key)?;
        let number = self.scenes.len();
        let flow = image.flow();
        let mut begins: FxHashMap<Site, u64> = FxHashMap::default();
        if let Some(flow) = &flow {
            for pc in flow.callbacks().values() {
                if let Some(site) = flow.site(*pc) {
                    let begin = begins.entry(site).or_insert(*pc);
                    *begin = (*begin).min(*pc);
                }
            }
        }
        self.scenes.push(Scene {
            flow,
            begins,
            symbolizer: image.symbolizer().ok(),
        });
        self.numbers.insert(key, number);
        Some(number)
    }

    fn look_up(&mut self, image: usize, address: u64) -> Option<Spot> {
        let scene = self.scenes.get_mut(image)?;
        let site = scene.flow.as_ref().and_then(|flow| flow.site(address));
        let follows =
            site.is_some_and(|site| scene.begins.get(&site).is_some_and(|pc| *pc < address));
        // Its line is that at its entry.
        let outermost = site.and_then(|site| self.own_name(image, site.routine));
        let scene = self.scenes.get_mut(image)?;
        // The call stands before the return address.
        let frames = scene.symbolizer.as_mut()?.frames(address.wrapping_sub(1));
        let chain = self.chain(frames);
        let Some(Site { routine, block }) = site else {
            let outermost = *chain.first()?;
            return Some(Spot {
                routine: Routine::Named(outermost),
                pc: address,
                block: None,
                first: false,
                chain,
            });
        };
        let first = !follows && self.first(image, routine).contains(&block);
        let inlined = chain.iter().skip(1).copied();
        Some(Spot {
            routine: Routine::Known(image, routine),
            pc: address,
            block: Some(block),
            first,
            chain: outermost
                .or(chain.first().copied())
                .into_iter()
                .chain(inlined)
                .collect(),
        })
    }

    /// The name of a function, with the line at its entry.
    fn own_name(&mut self, image: usize, routine: usize) -> Option<u32> {
        let scene = self.scenes.get_mut(image)?;
        let entry = scene.flow.as_ref()?.entry(routine);
        let frames = scene.symbolizer.as_mut()?.frames(entry);
        let outermost = frames.into_iter().next_back()?;
        self.function(outermost)
    }

    fn chain(&mut self, frames: Vec<Frame>) -> Rc<[u32]> {
        let frames = frames.into_iter().rev();
        frames.filter_map(|frame| self.function(frame)).collect()
    }

    /// The number of a function: of all frames of it, the line of the first one is kept.
    fn function(&mut self, frame: Frame) -> Option<u32> {
        let name = demangled(&frame.symbol?);
        let path = frame
            .file
            .map(|file| place(Path::new(&file), &self.search.moved));
        let key = Function {
            name: name.clone(),
            place: path.clone().map(|path| (path, 0)),
        };
        if let Some(known) = self.functions.get(&key) {
            return Some(*known);
        }
        let number = self.names.len() as u32;
        self.names.push(Function {
            name,
            place: path.zip(frame.line),
        });
        self.functions.insert(key, number);
        Some(number)
    }

    fn first(&mut self, image: usize, routine: usize) -> Rc<[usize]> {
        let flow = self.scenes[image].flow.as_ref();
        let first = self.first.entry((image, routine));
        let first = first.or_insert_with(|| {
            flow.map_or_else(Vec::new, |flow| flow.first(routine))
                .into()
        });
        Rc::clone(first)
    }

    /// What may come next in a function, if its code is known.
    pub(super) fn ahead(&mut self, routine: Routine, position: &Position) -> Option<Rc<Ahead>> {
        let Routine::Known(image, routine) = routine else {
            return None;
        };
        let flow = self.scenes[image].flow.as_ref()?;
        let key = (image, routine, position.clone());
        let ahead = self.ahead.entry(key);
        let ahead = ahead.or_insert_with(|| Rc::new(flow.ahead(routine, position)));
        Some(Rc::clone(ahead))
    }

    /// Where a function is entered, and in which image.
    pub(super) fn entry(&self, routine: Routine) -> Option<(usize, u64)> {
        let Routine::Known(image, routine) = routine else {
            return None;
        };
        let flow = self.scenes[image].flow.as_ref()?;
        Some((image, flow.entry(routine)))
    }

    /// The functions that were inlined where a block ends with a call.
    pub(super) fn inlined_at(&mut self, routine: Routine, block: usize) -> Option<Rc<[u32]>> {
        let Routine::Known(image, routine) = routine else {
            return None;
        };
        let scene = &mut self.scenes[image];
        let address = scene.flow.as_ref()?.last_byte(routine, block);
        let frames = scene.symbolizer.as_mut()?.frames(address);
        Some(self.chain(frames))
    }
}
