// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program and a collector of one version have to agree on, against its version.

extern crate std;

use crate::*;
use core::mem::{align_of, offset_of};
use std::fmt::Write;
use std::string::String;

type SlotTickets = Tickets<SLOTS>;
type AllImages = Images<IMAGES, { 2 * IMAGES }>;
type AllPaths = Paths<PATH_BYTES, { 2 * IMAGES }>;

/// Every layout that there was, by its version: the hash of [`layout`]. A number is never used twice,
/// and a line never changes once programs were built with it.
const LAYOUTS: &[(u32, u64)] = &[
    (1, 0x5294_1e79_d7c5_3f3b),
    (2, 0xf382_c7b4_a83a_5971),
    (3, 0xc4d8_22a0_0697_ea1a),
    (4, 0x9c66_8d9a_5e84_38ad),
    (5, 0x3c3c_bafa_e555_b65a),
    (6, 0x0c2f_32e9_a793_3ef5),
    (7, 0xa1d2_e903_e923_f9ab),
];

/// Writes down where each field of a type is. A field that is not named here does not compile.
macro_rules! fields {
    ($text:ident, $type:ident: $($field:ident)*) => {
        let _all = |value: &$type| {
            let $type { $($field: _),* } = value;
        };
        let (size, align) = (size_of::<$type>(), align_of::<$type>());
        writeln!($text, "{} {size} {align}", stringify!($type)).unwrap();
        $(
            let at = offset_of!($type, $field);
            writeln!($text, "  {} {at}", stringify!($field)).unwrap();
        )*
    };
}

/// All that the two sides must see alike, in words.
fn layout() -> String {
    let mut text = String::new();
    fields!(text, Prefix: magic version stranger_version strangers token);
    fields!(text, Header: prefix recording buffer_words closed processes loaded unknown_modules
        threads_without_slot records_without_slot refused lines bounds path lost contexts
        context contexts_lost names threads);
    fields!(text, Directory: header tickets slots processes images loaded paths stores_used stores
        contexts);
    fields!(text, Stores: ready process start len offset);
    fields!(text, Slot: state process tid dropped serial maker ticks name context creator over);
    fields!(text, Context: state kind name parent process open began ended);
    fields!(text, Process: ready pid parent forked_from inherited_modules start pid_namespace exe
        cmdline);
    fields!(text, Image: ready unplaced text_start text_end build_id_len build_id path);
    fields!(text, Loaded: image process bias);
    fields!(text, Text: at len);
    fields!(text, AllImages: used index entries);
    fields!(text, AllPaths: used index bytes);
    fields!(text, SlotTickets: taken put_back ring);
    for recording in [Recording::Trace, Recording::Cmp, Recording::Unique] {
        for words in [2, 1 << 20] {
            let geometry = Geometry::new(recording, words);
            writeln!(text, "{} {geometry:?}", recording as u32).unwrap();
            writeln!(text, "  {}", geometry.slot_offset(SLOTS as u32 - 1)).unwrap();
        }
    }
    use SlotState::{Exiting, Finished, Free, Taken};
    for state in [Free, Taken, Finished, Exiting] {
        writeln!(text, "{state:?} {}", state as u32).unwrap();
    }
    let link = LINK.escape_ascii();
    writeln!(text, "{INHERITED_FD} {link} {HOME_MAX}").unwrap();
    for refusal in Refusal::ALL {
        writeln!(text, "{refusal:?} {}", refusal as u32).unwrap();
    }
    for lost in Lost::ALL {
        writeln!(text, "{lost:?} {}", lost as u32).unwrap();
    }
    writeln!(
        text,
        "{ENVIRONMENT} {MAGIC:#x} {PAGE} {LINES_OFFSET} {LINE_BYTES} {CONTEXT_ENVIRONMENT} {NAME_BYTES}"
    )
    .unwrap();
    text
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[test]
fn a_layout_that_changes_has_a_new_version() {
    let text = layout();
    let now = (VERSION, hash(&text));
    assert_eq!(
        LAYOUTS.last(),
        Some(&now),
        "programs that were built with the old layout would be misread: raise VERSION, and add it \
         to LAYOUTS with its hash {:#x}\n{text}",
        now.1
    );
    let ordered = LAYOUTS
        .windows(2)
        .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1);
    assert!(ordered, "{LAYOUTS:?}");
}
