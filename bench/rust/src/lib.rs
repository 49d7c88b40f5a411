// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the programs do, once through a file; `next_piece` is called before each piece of it.

/// Inflates in pieces of 64 KiB.
#[cfg(feature = "miniz_oxide")]
pub fn inflate(mut bytes: &[u8], mut next_piece: impl FnMut()) -> u64 {
    use miniz_oxide::inflate::stream::{inflate, InflateState};
    use miniz_oxide::{DataFormat, MZFlush, MZStatus};
    let mut state = InflateState::new_boxed(DataFormat::Zlib);
    let mut piece = vec![0; 64 << 10];
    let mut sum = 0;
    loop {
        next_piece();
        let done = inflate(&mut state, bytes, &mut piece, MZFlush::None);
        bytes = &bytes[done.bytes_consumed..];
        sum += u64::from(piece[0]);
        match done.status {
            Ok(MZStatus::Ok) => {}
            Ok(MZStatus::StreamEnd) => return sum,
            other => panic!("inflate: {other:?}"),
        }
    }
}

/// Parses each line, and writes what it parsed.
#[cfg(feature = "serde_json")]
pub fn json(bytes: &[u8], mut next_piece: impl FnMut()) -> u64 {
    let mut sum = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        next_piece();
        let value: serde_json::Value = serde_json::from_slice(line).expect("a document");
        sum += value.to_string().len() as u64;
    }
    sum
}

/// Parses the file as Markdown, and writes HTML.
#[cfg(feature = "pulldown-cmark")]
pub fn markdown(bytes: &[u8]) -> u64 {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, pulldown_cmark::Parser::new(text));
    html.len() as u64
}

/// Packs the file with brotli, and unpacks that a few times.
#[cfg(feature = "brotli")]
pub fn pack(bytes: &[u8]) -> u64 {
    let params = brotli::enc::BrotliEncoderParams {
        quality: 4,
        ..Default::default()
    };
    let mut packed = Vec::new();
    brotli::BrotliCompress(&mut &*bytes, &mut packed, &params).expect("packed");
    let mut sum = packed.len() as u64;
    for _ in 0..4 {
        let mut unpacked = Vec::new();
        brotli::BrotliDecompress(&mut &*packed, &mut unpacked).expect("unpacked");
        assert!(unpacked == bytes);
        sum += unpacked.len() as u64;
    }
    sum
}

/// Has `work` work on the file that the command line names, as often as it says.
pub fn main(work: impl Fn(&[u8]) -> u64) {
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(repeat)) = (args.next(), args.next()) else {
        panic!("usage: PROGRAM FILE REPEAT");
    };
    let bytes = std::fs::read(file).expect("a file");
    let repeat: u32 = repeat.parse().expect("a number");
    let sum: u64 = (0..repeat).map(|_| work(&bytes)).sum();
    println!("{sum}");
}

/// What the driver in C calls.
///
/// # Safety
/// There are `len` bytes at `bytes`.
#[cfg(feature = "driver")]
#[no_mangle]
pub unsafe extern "C" fn work(bytes: *const u8, len: usize) -> u64 {
    extern "C" {
        fn next_piece();
    }
    // SAFETY: by the contract.
    let bytes = unsafe { std::slice::from_raw_parts(bytes, len) };
    // SAFETY: the driver has it, and asks for nothing.
    let next_piece = || unsafe { next_piece() };
    #[cfg(feature = "miniz_oxide")]
    return inflate(bytes, next_piece);
    #[cfg(all(feature = "serde_json", not(feature = "miniz_oxide")))]
    return json(bytes, next_piece);
}
