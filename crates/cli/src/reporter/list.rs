// SPDX-License-Identifier: MIT OR Apache-2.0
//! A list of PCs, such as a client prints what it read from a kcov's buffer, in the place of a trace.

use super::Error;
use rkcov_report::image;
use rkcov_report::trace::{Info, Mode, Module, Process, StreamInfo, Writer};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// PCs of one image.
#[derive(Clone, Debug)]
pub struct List {
    /// The file with the PCs in hexadecimal, separated by white space or commas.
    pub pcs: PathBuf,
    /// The program or vmlinux that contains them.
    pub image: PathBuf,
    /// The image's load address minus its address in the file.
    pub offset: u64,
}

/// Reads a number in hexadecimal, with or without 0x.
pub(crate) fn hexadecimal(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    u64::from_str_radix(digits.unwrap_or(text), 16).map_err(|error| error.to_string())
}

/// A list of PCs as a trace of one thread that recorded them.
pub(super) fn trace_of(list: &List) -> Result<Vec<u8>, Error> {
    let (list, image, offset): (&Path, &Path, u64) = (&list.pcs, &list.image, list.offset);
    let read = |source| Error::Read {
        path: list.to_owned(),
        source,
    };
    let text = std::fs::read(list).map_err(read)?;
    let text = String::from_utf8_lossy(&text);
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    let pcs: Vec<u64> = words
        .filter(|word| !word.is_empty())
        .map(|word| {
            hexadecimal(word).map_err(|_| Error::NoPc {
                path: list.to_owned(),
                word: word.chars().take(40).collect(),
            })
        })
        .collect::<Result<_, _>>()?;
    let code = image::code_of(image).map_err(|source| Error::Image {
        path: image.to_owned(),
        source,
    })?;
    let moved = |address: u64| address.wrapping_add(offset);
    let text: Vec<Range<u64>> = code
        .text
        .iter()
        .map(|r| moved(r.start)..moved(r.end))
        .collect();
    let inside = |pc: &u64| text.iter().any(|range| range.contains(&pc.wrapping_sub(1)));
    if !pcs.is_empty() && !pcs.iter().any(inside) {
        return Err(Error::OtherImage {
            list: list.to_owned(),
            image: image.to_owned(),
            pcs: pcs.len(),
        });
    }
    let module = |process| Module {
        process: Some(process),
        path: std::path::absolute(image).unwrap_or_else(|_| image.to_owned()),
        build_id: code.build_id.clone(),
        bias: offset,
        range: text.iter().map(|r| r.start).min().unwrap_or(0)
            ..text.iter().map(|r| r.end).max().unwrap_or(0),
        text: text.clone(),
    };
    let written = || -> io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new(), &Info::new(Mode::Trace))?;
        let process = writer.process(&Process::default())?;
        writer.module(&module(process))?;
        let stream = StreamInfo {
            finished: true,
            main: true,
            count: pcs.len() as u64,
            ..StreamInfo::new(process)
        };
        writer.stream(&stream, pcs.iter().copied())?;
        writer.finish()
    };
    written().map_err(read)
}
