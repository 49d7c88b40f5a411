// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trace files: the bytes as they are; and taken for sections whose checksums are made right, since
//! no fuzzer guesses those.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rkcov_report::coverage::{Coverage, Named, Selection, View};
use rkcov_report::image::Search;
use rkcov_report::render::{self, Detail, PcOptions, TextOptions};
use rkcov_report::sources::Filter;
use rkcov_report::trace::{fuzz_read, Trace, MAGIC, VERSION};

/// Sections of the format: a kind, a length of one byte or two, and as many bytes of payload.
fn sealed(mut bytes: &[u8]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    file.extend(VERSION.to_le_bytes());
    seal(&mut file, 0);
    let mut number = 0_u32;
    while let [kind, low, high, rest @ ..] = bytes {
        let len = usize::from(u16::from_le_bytes([*low, *high % 4])).min(rest.len());
        let (payload, rest) = rest.split_at(len);
        bytes = rest;
        let from = file.len();
        file.extend(u32::from(*kind).to_le_bytes());
        file.extend(number.to_le_bytes());
        file.extend((len as u64).to_le_bytes());
        file.extend(crc32fast::hash(payload).to_le_bytes());
        seal(&mut file, from);
        file.extend(payload);
        file.resize(file.len().next_multiple_of(8), 0);
        number += 1;
    }
    file
}

/// The checksum of all from `from` on, behind it.
fn seal(file: &mut Vec<u8>, from: usize) {
    let sum = crc32fast::hash(&file[from..]);
    file.extend(sum.to_le_bytes());
}

fuzz_target!(|bytes: &[u8]| {
    fuzz_read(bytes);
    let file = sealed(bytes);
    fuzz_read(&file);
    let Ok((trace, _)) = Trace::salvage(&file) else {
        return;
    };
    let mut to = std::io::sink();
    // Modules are looked for on the disk: with no path there is nothing to find.
    if trace
        .modules()
        .iter()
        .any(|module| !module.path.as_os_str().is_empty())
    {
        return;
    }
    let search = Search {
        debug_dirs: Vec::new(),
        binaries: Vec::new(),
        ..Search::default()
    };
    let raw = PcOptions {
        raw: true,
        ..PcOptions::default()
    };
    render::pcs(&[&trace], &raw, &search, &mut to).expect("a sink takes all");
    let named = Named {
        name: "fuzz",
        trace: &trace,
    };
    let coverage = Coverage::new(&[named], &search).expect("one trace has one mode");
    let filter = Filter::default();
    let all = Selection::threads(&coverage, &[], false).expect("no thread is named");
    let view = View::new(&coverage, all, &filter);
    let threads = view.by_thread(&filter);
    render::text(&view, &threads, &TextOptions::default(), &mut to).expect("a sink takes all");
    render::lcov(&view, Detail::default(), &mut to).expect("a sink takes all");
    render::json(&view, Detail::default(), &mut to).expect("a sink takes all");
});
