// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks addresses up, as `addr2line -fi` does, by one of several libraries.
//!
//! `rkcov-bench-symbolizers LIBRARY FILE < ADDRESSES` prints of each address the functions that it is in,
//! innermost first, and of each function its file and line.

use blazesym::symbolize::{self, source, Input, Symbolized};
use rayon::prelude::*;
use rkcov_report::image::{build_id_of, Image, Search, Symbolizer};
use std::error::Error;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use wholesym::{FramesLookupResult, LookupAddress, SymbolManager, SymbolManagerConfig};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, library, file] = &arguments[..] else {
        return Err("LIBRARY FILE < ADDRESSES".into());
    };
    let mut list = String::new();
    io::stdin().read_to_string(&mut list)?;
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
    let addresses: Vec<u64> = list
        .split_whitespace()
        .map(number)
        .collect::<std::result::Result<_, _>>()?;
    let file = Path::new(file);
    match &library[..] {
        "rkcov" => by_rkcov(file, &addresses),
        "addr2line" => by_addr2line(file, &addresses),
        "blazesym" => by_blazesym(file, &addresses),
        "wholesym" => by_wholesym(file, &addresses),
        _ => Err(format!("no library {library}").into()),
    }
}

/// As reports do it: portions on all processors, and debug information is opened as often as it is used at a time.
fn by_rkcov(file: &Path, addresses: &[u64]) -> Result<()> {
    let id = build_id_of(file).ok_or("not a linked file")?;
    let image = Image::find(file, &id, &Search::default());
    let portion = addresses.len().div_ceil(8 * rayon::current_num_threads());
    let idle: Mutex<Vec<Symbolizer<'_>>> = Mutex::default();
    let free = || idle.lock().unwrap_or_else(PoisonError::into_inner);
    let found: Vec<Vec<u8>> = addresses
        .par_chunks(portion.max(8192))
        .map(|addresses| {
            let mut text = Vec::new();
            let taken = free().pop();
            let mut symbolizer = taken.map_or_else(|| image.symbolizer(), Ok)?;
            for address in addresses {
                for frame in symbolizer.frames(*address) {
                    let symbol = frame.symbol.as_deref();
                    print(&mut text, symbol, frame.file.as_deref(), frame.line)?;
                }
            }
            free().push(symbolizer);
            Ok(text)
        })
        .collect::<Result<_>>()?;
    let used = idle.into_inner().unwrap_or_else(PoisonError::into_inner);
    used.into_par_iter().for_each(drop);
    let mut to = io::stdout().lock();
    Ok(found.iter().try_for_each(|text| to.write_all(text))?)
}

fn by_addr2line(file: &Path, addresses: &[u64]) -> Result<()> {
    let wrong = |error: Box<dyn Error>| error.to_string();
    let loader = addr2line::Loader::new(file).map_err(wrong)?;
    let mut to = io::BufWriter::new(io::stdout().lock());
    for address in addresses {
        let mut frames = loader.find_frames(*address).map_err(wrong)?;
        while let Some(frame) = frames.next()? {
            let symbol = frame.function.as_ref().map(|name| name.raw_name());
            let symbol = symbol.transpose()?;
            let place = frame.location;
            let path = place.as_ref().and_then(|place| place.file);
            let line = place.as_ref().and_then(|place| place.line);
            print(&mut to, symbol.as_deref(), path.map(OsStr::new), line)?;
        }
    }
    Ok(to.flush()?)
}

fn by_blazesym(file: &Path, addresses: &[u64]) -> Result<()> {
    let symbolizer = symbolize::Symbolizer::builder()
        .enable_demangling(false)
        .build();
    let source = source::Source::Elf(source::Elf::new(file));
    let found = symbolizer.symbolize(&source, Input::VirtOffset(addresses))?;
    let mut to = io::BufWriter::new(io::stdout().lock());
    let mut write = |name: &str, place: Option<&symbolize::CodeInfo<'_>>| {
        let path = place.map(symbolize::CodeInfo::to_path);
        let path = path.as_deref().map(Path::as_os_str);
        print(
            &mut to,
            Some(name),
            path,
            place.and_then(|place| place.line),
        )
    };
    for symbol in &found {
        let Symbolized::Sym(symbol) = symbol else {
            continue;
        };
        for frame in symbol.inlined.iter().rev() {
            write(&frame.name, frame.code_info.as_ref())?;
        }
        write(&symbol.name, symbol.code_info.as_deref())?;
    }
    Ok(to.flush()?)
}

fn by_wholesym(file: &Path, addresses: &[u64]) -> Result<()> {
    let manager = SymbolManager::with_config(SymbolManagerConfig::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let map = runtime.block_on(manager.load_symbol_map_for_binary_at_path(file, None))?;
    let mut to = io::BufWriter::new(io::stdout().lock());
    for address in addresses {
        let found = map.lookup_sync(LookupAddress::Svma(*address));
        let Some(found) = found else { continue };
        let Some(FramesLookupResult::Available(frames)) = found.frames else {
            print(&mut to, Some(&found.symbol.name), None, None)?;
            continue;
        };
        for frame in frames {
            let path = frame.file_path.map(|path| path.display_path());
            let path = path.as_deref().map(OsStr::new);
            print(&mut to, frame.function.as_deref(), path, frame.line_number)?;
        }
    }
    Ok(to.flush()?)
}

fn print(
    to: &mut impl Write,
    symbol: Option<&str>,
    path: Option<&OsStr>,
    line: Option<u32>,
) -> io::Result<()> {
    to.write_all(symbol.unwrap_or("??").as_bytes())?;
    to.write_all(b"\n")?;
    to.write_all(path.unwrap_or(OsStr::new("??")).as_encoded_bytes())?;
    writeln!(to, ":{}", line.unwrap_or(0))
}
