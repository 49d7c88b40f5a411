// SPDX-License-Identifier: MIT OR Apache-2.0
//! The callbacks as compilers call them, against the rules that they transcribe.

use super::*;
use crate::modules;
use crate::tls::{self, Tls};
use rkcov_abi::{CmpType, Comparison, Words};
use rkcov_core::append::{append_pc, append_unique, Appended};
use rkcov_core::sync::Word;
use rkcov_core::Sink;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

const GUARD: u64 = 0xdead_beef_dead_beef;

// Calls with a return address that is known.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".text",
    ".globl rkcov_test_call_pc",
    "rkcov_test_call_pc:",
    "    sub rsp, 8",
    "    call {pc}",
    ".globl rkcov_test_after_pc",
    "rkcov_test_after_pc:",
    "    add rsp, 8",
    "    ret",
    ".globl rkcov_test_call_guard",
    "rkcov_test_call_guard:",
    "    sub rsp, 8",
    "    call {guard}",
    ".globl rkcov_test_after_guard",
    "rkcov_test_after_guard:",
    "    add rsp, 8",
    "    ret",
    pc = sym __sanitizer_cov_trace_pc,
    guard = sym __sanitizer_cov_trace_pc_guard,
);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".text",
    ".globl rkcov_test_call_pc",
    "rkcov_test_call_pc:",
    "    stp x29, x30, [sp, -16]!",
    "    bl {pc}",
    ".globl rkcov_test_after_pc",
    "rkcov_test_after_pc:",
    "    ldp x29, x30, [sp], 16",
    "    ret",
    ".globl rkcov_test_call_guard",
    "rkcov_test_call_guard:",
    "    stp x29, x30, [sp, -16]!",
    "    bl {guard}",
    ".globl rkcov_test_after_guard",
    "rkcov_test_after_guard:",
    "    ldp x29, x30, [sp], 16",
    "    ret",
    pc = sym __sanitizer_cov_trace_pc,
    guard = sym __sanitizer_cov_trace_pc_guard,
);

extern "C" {
    fn rkcov_test_call_pc();
    fn rkcov_test_call_guard(guard: *const u32);
    static rkcov_test_after_pc: u8;
    static rkcov_test_after_guard: u8;
}

fn after_pc() -> u64 {
    (&raw const rkcov_test_after_pc) as u64
}

fn after_guard() -> u64 {
    (&raw const rkcov_test_after_guard) as u64
}

/// What a thread records into, with a guard word at both ends: bitmap, count word, records.
struct Area {
    words: Vec<Word>,
    bitmap: usize,
    dropped: AtomicU64,
}

impl Area {
    fn new(bitmap: usize, count: u64, records: usize) -> Self {
        let mut words = vec![GUARD];
        words.extend(vec![0; bitmap]);
        words.push(count);
        words.extend(vec![0; records]);
        words.push(GUARD);
        Self {
            words: words.into_iter().map(Word::new).collect(),
            bitmap,
            dropped: AtomicU64::new(0),
        }
    }

    fn count(&self) -> *mut Word {
        ptr::from_ref(&self.words[self.bitmap + 1]).cast_mut()
    }

    fn plain(&self) -> Vec<u64> {
        self.words
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .collect()
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn note(&self, did: Appended) {
        let dropped = u64::from(did == Appended::Full);
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    /// Runs `f` while the thread records here.
    fn record(&self, mode: Mode, limit: u32, f: impl FnOnce(&Tls)) {
        let tls = tls::current();
        let record = if mode == Mode::Cmp { 4 } else { 1 };
        let words = |n: usize| Words::new(n as u64).expect("a small area");
        // SAFETY: the words and the counter live until the second call.
        let sink = unsafe {
            Sink::new(
                mode,
                ptr::from_ref(&self.words[1]).cast_mut(),
                words(self.bitmap),
                words(limit as usize * record + 1),
                &self.dropped,
            )
        };
        tls.set_idle(sink);
        f(tls);
        tls.set_idle(Sink::OFF);
    }
}

fn hostile_counts(records: u64) -> impl Iterator<Item = u64> {
    let edges = [31, 32, 61, 62, 63].map(|bit| 1_u64 << bit);
    (0..=records + 2)
        .chain(edges)
        .chain(edges.map(|edge| edge - 1))
        .chain([u64::MAX - 1, u64::MAX])
}

#[test]
fn trace_is_append_pc_on_every_hostile_count_and_size() {
    for records in [0_usize, 1, 2, 4, 63] {
        let limit = records as u32;
        for count in hostile_counts(records as u64) {
            let rust = |pc| {
                let area = Area::new(0, count, records);
                // SAFETY: `records` words stand behind the count word.
                area.note(unsafe { append_pc(area.count(), limit, pc) });
                (area.plain(), area.dropped())
            };
            let area = Area::new(0, count, records);
            // SAFETY: callbacks may be called at any time.
            area.record(Mode::Pc, limit, |_| unsafe { rkcov_test_call_pc() });
            let with_pc = (area.plain(), area.dropped());
            assert_eq!(with_pc, rust(after_pc()), "{records}, {count:#x}");

            let area = Area::new(0, count, records);
            // SAFETY: as above; guards are read only.
            area.record(Mode::Pc, limit, |_| unsafe { rkcov_test_call_guard(&1) });
            let with_guard = (area.plain(), area.dropped());
            assert_eq!(with_guard, rust(after_guard()), "{records}, {count:#x}");
        }
    }
}

#[test]
fn unique_is_append_unique_on_every_hostile_count_bitmap_and_guard() {
    const BITMAP: usize = 3;
    const RECORDS: usize = 4;
    for fill in [0, u64::MAX, 0x5555_5555_5555_5555] {
        for count in hostile_counts(RECORDS as u64) {
            for guard in [0, 1, 2, 63, 64, 127, 191, 192, 193, u32::MAX] {
                let area = || {
                    let area = Area::new(BITMAP, count, RECORDS);
                    for word in &area.words[1..=BITMAP] {
                        word.store(fill, Ordering::Relaxed);
                    }
                    area
                };
                let rust = area();
                // A guard without a number has no index.
                let index = if guard == 0 { u64::MAX } else { guard.into() };
                let bits = BITMAP as u64 * 64;
                let asm = area();
                asm.record(Mode::Unique, RECORDS as u32, |_| {
                    for _ in 0..3 {
                        // SAFETY: guards are read only.
                        unsafe { rkcov_test_call_guard(&guard) };
                        // SAFETY: the words are there.
                        rust.note(unsafe {
                            append_unique(rust.count(), RECORDS as u32, bits, index, after_guard())
                        });
                    }
                });
                let what = format!("fill {fill:#x}, count {count:#x}, guard {guard}");
                // Bit 0 stands for no guard: whoever set it, an unnumbered one is appended.
                if guard == 0 && fill & 1 == 1 {
                    continue;
                }
                assert_eq!(asm.plain(), rust.plain(), "{what}");
                assert_eq!(asm.dropped(), rust.dropped(), "{what}");
            }
        }
    }
}

#[test]
fn unique_without_guards_has_a_bit_for_each_byte_of_text() {
    modules::scan();
    let range = modules::range_of(after_pc()).expect("the test is a module");
    let index = |pc: u64| {
        let base = range.index_base().expect("one module's text fits");
        base + pc - range.start.load(Ordering::Relaxed)
    };
    let index = index(after_pc());
    let area = Area::new(index as usize / 64 + 1, 0, 4);
    area.record(Mode::Unique, 4, |tls| {
        // SAFETY: callbacks may be called at any time.
        unsafe { rkcov_test_call_pc() };
        assert_eq!(
            tls.range.load(Ordering::Relaxed).cast_const(),
            ptr::from_ref(range)
        );
        // SAFETY: as above.
        unsafe { rkcov_test_call_pc() };
    });
    let mut expect = Area::new(area.bitmap, 1, 4).plain();
    expect[1 + index as usize / 64] = 1 << (index % 64);
    expect[1 + area.bitmap + 1] = after_pc();
    assert_eq!(area.plain(), expect);

    // Where the bitmap does not reach, each call is a record.
    let area = Area::new(index as usize / 64, 0, 4);
    area.record(Mode::Unique, 4, |_| {
        for _ in 0..3 {
            // SAFETY: as above.
            unsafe { rkcov_test_call_pc() };
        }
    });
    let mut expect = Area::new(area.bitmap, 3, 4).plain();
    let at = 1 + area.bitmap + 1;
    expect[at..at + 3].fill(after_pc());
    assert_eq!(area.plain(), expect);
}

/// The records of comparisons that `f` makes, without their PCs, each of which must be in this
/// test's text.
fn comparisons(f: impl FnOnce()) -> Vec<(u64, u64, u64)> {
    modules::scan();
    let area = Area::new(0, 0, 16 * 4);
    area.record(Mode::Cmp, 16, |_| f());
    let words = area.plain();
    let records = words[2..].chunks_exact(4).take(words[1] as usize);
    records
        .map(|record| {
            let cmp = Comparison::from_words(record.try_into().unwrap());
            assert!(modules::range_of(cmp.pc).is_some(), "{:#x}", cmp.pc);
            (cmp.kind.raw(), cmp.arg1, cmp.arg2)
        })
        .collect()
}

#[test]
fn comparisons_of_every_size() {
    type Wide = unsafe extern "C" fn(u64, u64);
    macro_rules! wide {
        ($($callback:ident),*) => {
            [$({
                let callback = $callback as *const ();
                // SAFETY: integer arguments come in the same registers; the rest is ignored.
                unsafe { std::mem::transmute::<*const (), Wide>(callback) }
            }),*]
        };
    }
    let plain = wide![
        __sanitizer_cov_trace_cmp1,
        __sanitizer_cov_trace_cmp2,
        __sanitizer_cov_trace_cmp4,
        __sanitizer_cov_trace_cmp8
    ];
    let constant = wide![
        __sanitizer_cov_trace_const_cmp1,
        __sanitizer_cov_trace_const_cmp2,
        __sanitizer_cov_trace_const_cmp4,
        __sanitizer_cov_trace_const_cmp8
    ];
    // What stands in the upper parts of the registers is not the operands'.
    let (a, b) = (0x8182_8384_8586_8788, 0xf1f2_f3f4_f5f6_f7f8);
    let masks = [0xff, 0xffff, 0xffff_ffff, u64::MAX];
    for (callbacks, is_const) in [(plain, false), (constant, true)] {
        for (log2, (callback, mask)) in callbacks.into_iter().zip(masks).enumerate() {
            // SAFETY: callbacks may be called at any time.
            let got = comparisons(|| unsafe { callback(a, b) });
            let kind = CmpType::new(log2 as u32, is_const).raw();
            assert_eq!(got, [(kind, a & mask, b & mask)]);
        }
    }
}

#[test]
fn comparisons_of_floats_are_their_bits() {
    // SAFETY: callbacks may be called at any time.
    let got = comparisons(|| unsafe { __sanitizer_cov_trace_cmpf(1.5, -0.0) });
    let bits = (1.5_f32.to_bits().into(), (-0.0_f32).to_bits().into());
    assert_eq!(got, [(4, bits.0, bits.1)]);
    // SAFETY: as above.
    let got = comparisons(|| unsafe { __sanitizer_cov_trace_cmpd(1.5, f64::INFINITY) });
    assert_eq!(got, [(6, 1.5_f64.to_bits(), f64::INFINITY.to_bits())]);
}

#[test]
fn switches_compare_with_each_case() {
    for (bits, kind) in [(8, 1), (16, 3), (32, 5), (64, 7)] {
        let cases = [3, bits, 10, 20, 30];
        // SAFETY: the table is as it says.
        let got = comparisons(|| unsafe { __sanitizer_cov_trace_switch(20, cases.as_ptr()) });
        assert_eq!(got, [(kind, 10, 20), (kind, 20, 20), (kind, 30, 20)]);
    }
    for nothing in [[0, 32, 10], [1, 0, 10], [1, 128, 10], [1, 7, 10]] {
        // SAFETY: the table is as it says.
        let got = comparisons(|| unsafe { __sanitizer_cov_trace_switch(1, nothing.as_ptr()) });
        assert_eq!(got, [], "{nothing:?}");
    }
}

#[test]
fn full_buffers_take_no_comparison_and_count_it() {
    let area = Area::new(0, 0, 4 + 3);
    area.record(Mode::Cmp, 1, |_| {
        let cases = [4_u64, 8, 1, 2, 3, 4];
        // SAFETY: the table is as it says.
        unsafe { __sanitizer_cov_trace_switch(1, cases.as_ptr()) };
    });
    let words = area.plain();
    assert_eq!(words[1..5], [1, 1, 1, 1]);
    assert_eq!(words[6..], [0, 0, 0, GUARD]);
    assert_eq!(area.dropped(), 3);
}

#[test]
fn each_mode_leaves_the_others_callbacks_alone() {
    let all = || {
        let cases = [1_u64, 8, 1];
        // SAFETY: callbacks may be called at any time, with arguments such as these.
        unsafe {
            __sanitizer_cov_trace_cmp4(1, 2);
            __sanitizer_cov_trace_cmpd(1.0, 2.0);
            __sanitizer_cov_trace_switch(1, cases.as_ptr());
            __sanitizer_cov_trace_pc_indir(1);
        }
    };
    for mode in [Mode::Off, Mode::Pc, Mode::Unique] {
        let area = Area::new(1, 0, 8);
        area.record(mode, 8, |_| all());
        assert_eq!(area.plain(), Area::new(1, 0, 8).plain(), "{mode:?}");
    }
    for mode in [Mode::Off, Mode::Cmp] {
        let area = Area::new(1, 0, 8);
        // SAFETY: as above.
        area.record(mode, 2, |_| unsafe {
            rkcov_test_call_pc();
            rkcov_test_call_guard(&1);
        });
        assert_eq!(area.plain(), Area::new(1, 0, 8).plain(), "{mode:?}");
    }
}

#[test]
fn guards_are_numbered_once_and_never_0() {
    let mut guards = [0_u32; 5];
    let bounds = guards.as_mut_ptr_range();
    // SAFETY: the bounds of one array.
    unsafe { __sanitizer_cov_trace_pc_guard_init(bounds.start, bounds.end) };
    let first = guards[0];
    assert_ne!(first, 0);
    let expect: Vec<u32> = (first..first + 5).collect();
    assert_eq!(guards.as_slice(), expect);
    let bounds = guards.as_mut_ptr_range();
    // SAFETY: as above.
    unsafe { __sanitizer_cov_trace_pc_guard_init(bounds.start, bounds.end) };
    assert_eq!(guards.as_slice(), expect);
    // SAFETY: an empty array, of a module without guards.
    unsafe { __sanitizer_cov_trace_pc_guard_init(ptr::null_mut(), ptr::null_mut()) };
}

#[test]
fn a_new_thread_asks_before_it_records() {
    let mode = std::thread::spawn(|| tls::current().hot.mode.load(Ordering::Relaxed));
    assert_eq!(mode.join().unwrap(), crate::tls::UNATTACHED);
}

/// Checks as `rkcov cc` makes them, in a module that has the note.
#[cfg(target_arch = "x86_64")]
mod checks {
    use super::*;
    use crate::maps;

    core::arch::global_asm!(
        ".macro rkcov_test_check name, site",
        ".globl rkcov_test_\\name",
        "rkcov_test_\\name:",
        "    sub rsp, 8",
        "    .byte 0x65, 0x80, 0x3d",
        "    .long \\site - . - 5",
        "    .byte 0",
        "    .byte 0x0f, 0x84",
        "    .long 7f - . - 4",
        ".globl rkcov_test_after_\\name",
        "rkcov_test_after_\\name:",
        "    add rsp, 8",
        "    ret",
        "7:  call {hit}",
        "    .byte 0xe9",
        "    .long rkcov_test_after_\\name - . - 4",
        ".endm",
        ".text",
        "rkcov_test_check first_check, rkcov_test_sites",
        "rkcov_test_check second_check, rkcov_test_sites + 1",
        ".section rkcov_sites, \"a\", @progbits",
        "rkcov_test_sites:",
        "    .byte 1, 1",
        ".section .note.rkcov, \"a\", @note",
        "    .p2align 2",
        "    .long 6, 8, 1",
        "    .asciz \"rkcov\"",
        "    .p2align 2",
        "    .hidden __start_rkcov_sites",
        "    .hidden __stop_rkcov_sites",
        "    .long __start_rkcov_sites - .",
        "    .long __stop_rkcov_sites - .",
        ".text",
        hit = sym __rkcov_hit,
    );

    extern "C" {
        fn rkcov_test_first_check();
        fn rkcov_test_second_check();
        static rkcov_test_after_first_check: u8;
        static rkcov_test_after_second_check: u8;
    }

    fn after(place: &u8) -> u64 {
        ptr::from_ref(place) as u64
    }

    fn first() -> u64 {
        // SAFETY: a place in this test's text.
        after(unsafe { &rkcov_test_after_first_check })
    }

    fn second() -> u64 {
        // SAFETY: as above.
        after(unsafe { &rkcov_test_after_second_check })
    }

    fn run_both() {
        // SAFETY: checks may be run at any time.
        unsafe {
            rkcov_test_first_check();
            rkcov_test_second_check();
        }
    }

    fn begin() {
        modules::scan();
        maps::begin();
        assert!(maps::is_zone(), "there is room for maps");
    }

    /// Runs `f` as a thread of `rkcov run` in unique mode, with this map.
    fn with_map(area: &Area, map: u64, f: impl FnOnce()) {
        let tls = tls::current();
        tls.tape.area.store(area.count(), Ordering::Relaxed);
        tls.tape.limit.store(8, Ordering::Relaxed);
        tls.tape.mode.store(Mode::Unique as u32, Ordering::Relaxed);
        tls.map.store(map, Ordering::Relaxed);
        area.record(Mode::Unique, 8, |_| f());
        tls.tape.mode.store(Mode::Off as u32, Ordering::Relaxed);
        tls.map.store(0, Ordering::Relaxed);
    }

    #[test]
    fn a_check_is_append_pc_on_every_hostile_count_and_size() {
        begin();
        for records in [0_usize, 1, 2, 4, 63] {
            let limit = records as u32;
            for count in hostile_counts(records as u64) {
                let rust = Area::new(0, count, records);
                // SAFETY: `records` words stand behind the count word.
                rust.note(unsafe { append_pc(rust.count(), limit, first()) });
                let area = Area::new(0, count, records);
                // SAFETY: checks may be run at any time.
                area.record(Mode::Pc, limit, |_| unsafe { rkcov_test_first_check() });
                assert_eq!(area.plain(), rust.plain(), "{records}, {count:#x}");
                assert_eq!(area.dropped(), rust.dropped(), "{records}, {count:#x}");
            }
        }
    }

    #[test]
    fn checks_call_always_once_or_never() {
        begin();
        let records = |area: &Area| area.plain()[2..10].to_vec();
        let seen = |pcs: &[u64]| {
            let mut all = pcs.to_vec();
            all.resize(8, 0);
            all
        };
        let area = Area::new(0, 0, 8);
        run_both();
        assert_eq!(records(&area), seen(&[]), "nobody collects");
        area.record(Mode::Pc, 8, |_| {
            run_both();
            run_both();
        });
        assert_eq!(
            records(&area),
            seen(&[first(), second(), first(), second()])
        );

        let map = maps::take(7, false);
        let area = Area::new(0, 0, 8);
        with_map(&area, map, || {
            for _ in 0..3 {
                // SAFETY: as above.
                unsafe { rkcov_test_second_check() };
            }
            run_both();
        });
        assert_eq!(records(&area), seen(&[second(), first()]));
        // The map remembers, another does not, and one that was given back is as new.
        let area = Area::new(0, 0, 8);
        with_map(&area, map, run_both);
        assert_eq!(records(&area), seen(&[]));
        let other = maps::take(8, false);
        assert_ne!(map, other);
        with_map(&area, other, run_both);
        assert_eq!(records(&area), seen(&[first(), second()]));
        maps::put_back(other);
        maps::put_back(map);
        let again: Vec<u64> = (0..8).map(|slot| maps::take(slot, false)).collect();
        assert!(again.contains(&map) || again.contains(&other));
        for map in again {
            let area = Area::new(0, 0, 8);
            with_map(&area, map, run_both);
            assert_eq!(records(&area), seen(&[first(), second()]));
            maps::put_back(map);
        }
    }

    #[test]
    fn threads_without_a_map_of_their_own_share_one() {
        begin();
        let mut taken = Vec::new();
        let shared = loop {
            let map = maps::take(1, false);
            if maps::is_shared(map) {
                break map;
            }
            assert!(!taken.contains(&map));
            taken.push(map);
            assert!(taken.len() < 1 << 16);
        };
        assert_eq!(maps::take(2, false), shared);
        assert_eq!(maps::take(2, true), 0, "nothing is shared in a context");
        let area = Area::new(0, 0, 8);
        with_map(&area, shared, run_both);
        let theirs = Area::new(0, 0, 8);
        std::thread::scope(|scope| {
            scope.spawn(|| with_map(&theirs, shared, run_both));
        });
        let records = |area: &Area| area.plain()[1];
        assert_eq!((records(&area), records(&theirs)), (2, 0));
        taken.into_iter().for_each(maps::put_back);
    }

    #[test]
    fn a_module_names_its_sites() {
        modules::scan();
        let range = modules::range_of(first()).expect("the test is a module");
        let (start, end, among_code) = range.sites();
        assert_eq!(end - start, 2);
        assert!(!among_code);
        // SAFETY: the sites of this test.
        let sites = unsafe { std::slice::from_raw_parts(start as *const u8, 2) };
        assert_eq!(sites, [1, 1]);
    }
}
