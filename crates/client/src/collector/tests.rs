// SPDX-License-Identifier: MIT OR Apache-2.0
//! The collector, against memory that programs have written, or scribbled over.

use super::*;
use memmap2::MmapOptions;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;

fn collector(recording: Recording, buffer_words: u32) -> Collector {
    Collector::new(Options::new(recording, buffer_words)).unwrap()
}

/// Does what a thread does that takes a slot and records `words`.
fn record(collector: &Collector, process: u32, count: u64, words: &[u64]) -> u32 {
    let directory = collector.memory.directory();
    let slot = directory.tickets.take().expect("a free slot");
    let head = &directory.slots[slot as usize];
    head.process.store(process, Ordering::Relaxed);
    head.tid.store(slot + 1000, Ordering::Relaxed);
    head.set_name(b"a thread\0\0\0\0\0\0\0\0");
    head.set_state(SlotState::Taken);
    let geometry = collector.memory.geometry();
    let map = MmapOptions::new()
        .offset(geometry.slot_offset(slot) + geometry.count_offset())
        .len(8 * (words.len() + 1))
        .map_raw(collector.memory.file())
        .unwrap();
    for (at, word) in [count].iter().chain(words).enumerate() {
        // SAFETY: mapped above, that many words.
        let to = unsafe { &*map.as_ptr().cast::<AtomicU64>().add(at) };
        to.store(*word, Ordering::Relaxed);
    }
    slot
}

fn process(collector: &Collector, pid: u32) -> u32 {
    let directory = collector.memory.directory();
    let index = directory.header.processes.fetch_add(1, Ordering::AcqRel);
    let entry = &directory.processes[index as usize];
    entry.pid.store(pid, Ordering::Relaxed);
    let namespace = &entry.pid_namespace;
    namespace.store(collector.pid_namespace, Ordering::Relaxed);
    entry.set_ready();
    index
}

fn dead_pid() -> u32 {
    let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

fn all(collector: &Collector) -> Vec<(u32, Vec<u64>)> {
    let streams = collector.streams().map(Result::unwrap);
    let mut all: Vec<_> = streams.map(|s| (s.info.tid, s.words().collect())).collect();
    all.sort();
    all
}

#[test]
fn slots_of_the_dead_are_used_again_and_what_was_in_them_is_kept() {
    let mut collector = collector(Recording::Trace, 16);
    let (dead, alive) = (
        process(&collector, dead_pid()),
        process(&collector, std::process::id()),
    );
    for n in 0..MANY_SLOTS {
        let of = if n % 2 == 0 { dead } else { alive };
        let slot = record(&collector, of, 2, &[n, n + 1, 99]);
        if n % 4 == 1 {
            collector.head(slot).set_state(SlotState::Finished);
        }
    }
    let before = all(&collector);
    assert_eq!(before.len() as u64, MANY_SLOTS);
    assert_eq!(before[7], (1007, vec![7, 8]));
    let bytes = collector.memory.bytes().unwrap();
    collector.relieve().unwrap();
    let freed = bytes - collector.memory.bytes().unwrap();
    assert_eq!(freed, MANY_SLOTS * 3 / 4 * 4096, "a page for each slot");
    // Left are those of living threads: every fourth.
    let tickets = &collector.memory.directory().tickets;
    assert_eq!(tickets.in_use(), MANY_SLOTS / 4);
    assert_eq!(all(&collector), before);

    // Slots come back as they were made, once all have been taken.
    let mut again = 0;
    while tickets.in_use() < region::SLOTS as u64 {
        let slot = tickets.take().unwrap();
        let buffer = collector.memory.buffer(slot).unwrap();
        if slot < MANY_SLOTS as u32 {
            assert!(buffer.part(0, 16).all(|word| word == 0));
            assert_eq!(collector.head(slot).tid.load(Ordering::Relaxed), 0);
            again += 1;
        }
    }
    assert_eq!(again, MANY_SLOTS * 3 / 4);
}

#[test]
fn nobody_is_disturbed_while_there_is_room() {
    let mut collector = collector(Recording::Trace, 16);
    let dead = process(&collector, dead_pid());
    for n in 0..MANY_SLOTS - 1 {
        record(&collector, dead, 1, &[n]);
    }
    collector.relieve().unwrap();
    let tickets = &collector.memory.directory().tickets;
    assert_eq!(tickets.in_use(), MANY_SLOTS - 1);
}

#[test]
fn a_process_of_another_namespace_is_never_taken_for_dead() {
    let collector = collector(Recording::Trace, 16);
    let index = process(&collector, dead_pid());
    assert!(collector.is_gone(index));
    let entry = &collector.memory.directory().processes[index as usize];
    entry.pid_namespace.fetch_add(1, Ordering::Relaxed);
    assert!(!collector.is_gone(index));
    assert!(!collector.is_gone(index + 1), "no such process");
    assert!(!collector.is_gone(u32::MAX));
}

#[test]
fn hostile_counts_show_no_more_than_the_buffer_has() {
    for (recording, capacity) in [(Recording::Trace, 15), (Recording::Cmp, 3)] {
        let collector = collector(recording, 16);
        let words: Vec<u64> = (1..=15).collect();
        for count in [0, 1, 3, 4, 15, 16, 1 << 32, 1 << 61, u64::MAX] {
            let tid = record(&collector, 0, count, &words) + 1000;
            let stream = collector.streams().map(Result::unwrap);
            let stream = stream.into_iter().find(|s| s.info.tid == tid).unwrap();
            assert_eq!((stream.info.count, stream.info.capacity), (count, capacity));
            let shown = count.min(capacity) * u64::from(stream.info.record_words);
            let got: Vec<u64> = stream.words().collect();
            assert_eq!(got, words[..shown as usize]);
        }
    }
}

#[test]
fn a_scribbled_directory_is_read_without_a_panic() {
    let mut collector = collector(Recording::Unique, 16);
    let directory = collector.memory.directory();
    let bytes = size_of::<region::Directory>();
    let words = std::ptr::from_ref(directory).cast::<AtomicU64>();
    // The tables' beginnings, and the header and tickets before them.
    let begin = |table: *const u8| (table as usize - words as usize) / 8;
    let tables = [
        begin(std::ptr::from_ref(&directory.images).cast()),
        begin(std::ptr::from_ref(&directory.loaded).cast()),
        begin(std::ptr::from_ref(&directory.paths).cast()),
        begin(std::ptr::from_ref(&directory.processes).cast()),
    ];
    for fill in [u64::MAX, 1, 0x8000_0000_8000_0000, 0x0101_0101_0101_0101] {
        let all = tables.into_iter().flat_map(|table| table..table + 4096);
        for at in (0..1 << 16).chain(all) {
            assert!(at * 8 < bytes);
            // SAFETY: a word of the directory, which is all atomics.
            unsafe { (*words.add(at)).store(fill, Ordering::Relaxed) };
        }
        // Where the tables begin is known; what is in them is not.
        for process in collector.processes().take(1000) {
            let _ = (process.exe, process.command);
        }
        let _ = collector.modules().take(1000).count();
        let _ = collector.streams().take(100).count();
        let _ = collector.losses();
        let _ = collector.relieve();
    }
}

#[test]
fn forked_processes_have_the_modules_of_their_ancestors_from_before_the_fork() {
    let process = |index, forked_from, inherited_modules| Process {
        index,
        pid: 0,
        parent: 0,
        forked_from,
        start: UNIX_EPOCH,
        exe: PathBuf::new(),
        command: Vec::new(),
        inherited_modules,
    };
    let module = |index, process| Module {
        index,
        process,
        image: Arc::default(),
        bias: 0,
    };
    let processes = [
        process(0, None, 0),
        process(1, Some(0), 2),
        // Forked from 1 later, after that one had loaded module 3.
        process(2, Some(1), 4),
        // A damaged table: nobody is forked from a later one.
        process(3, Some(3), 9),
    ];
    let modules = [
        module(0, 0),
        module(1, 0),
        module(2, 0),
        module(3, 1),
        module(4, 1),
        module(5, 2),
    ];
    let inheritance = Inheritance::new(&processes, &modules);
    let of = |at: usize| {
        let mut of: Vec<_> = inheritance
            .modules(&processes[at])
            .into_iter()
            .map(|module| module.index)
            .collect();
        of.sort_unstable();
        of
    };
    assert_eq!(of(0), [0, 1, 2]);
    assert_eq!(of(1), [0, 1, 3, 4]);
    assert_eq!(of(2), [0, 1, 3, 5]);
    assert_eq!(of(3), [0_u32; 0]);
}

#[test]
fn what_finds_no_room_in_a_table_is_counted() {
    let bounds = Bounds {
        processes: 1,
        images: 2,
        loaded: 3,
        path_bytes: 14,
        line_bytes: 0,
        contexts: 1,
    };
    let options = Options {
        bounds,
        ..Options::new(Recording::Trace, 16)
    };
    let collector = Collector::new(options).unwrap();
    assert_eq!(collector.losses(), Losses::default());
    let directory = collector.memory.directory();
    let add = |path: &str, id: u8| {
        let image = region::ImageKey {
            path: Piece::default(),
            build_id: &[id],
            text_start: 0x1000,
            text_end: 0x2000,
        };
        directory.add_module(0, &[path.as_bytes()], 0x7000, image)
    };
    assert!(add("/lib/a", 1) && add("/lib/b", 1) && add("/lib/a", 1));
    // The table of loaded images is full: it is known which one it was.
    assert!(!add("/lib/b", 1));
    // That of images is; that of paths is; there is no path.
    assert!(!add("/lib/a", 2) && !add("/lib/c", 1) && !add("", 1));
    let losses = collector.losses();
    assert_eq!(losses.unknown_modules, 3);
    let unplaced: Vec<_> = losses
        .unplaced
        .iter()
        .map(|(image, count)| (image.path.to_str().unwrap(), *count))
        .collect();
    assert_eq!(unplaced, [("/lib/b", 1)]);
    let modules: Vec<_> = collector.modules().collect();
    assert_eq!(modules.len(), 3);
    assert!(Arc::ptr_eq(&modules[0].image, &modules[2].image));
    assert_eq!(modules[1].text(), 0x8000..0x9000);
    directory.header.processes.store(5, Ordering::Relaxed);
    assert_eq!(collector.losses().processes, 4);
}

#[test]
fn nobody_can_cut_the_memory() {
    let collector = collector(Recording::Trace, 16);
    let (_, value) = collector.environment();
    let (_, path) = value.split_once(':').unwrap();
    let theirs = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    theirs.set_len(0).unwrap_err();
    theirs.set_len(1 << 50).unwrap_err();
    assert_eq!(collector.processes().count(), 0);
    record(&collector, 0, 1, &[7]);
    assert_eq!(all(&collector), [(1000, vec![7])]);
}
