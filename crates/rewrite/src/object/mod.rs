// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects of rustc and clang: guards' calls become stores, before the link.
//!
//! LLVM calls back with `lea rdi, [rip + guard]` and `call __sanitizer_cov_trace_pc_guard`; without optimization
//! it adds the guard's offset in between. In a loop it may have the address in a register: `mov rdi, REGISTER` and
//! the call. A store into the guard through GS takes the place of both, byte for byte ([`sites`] has its
//! forms), so that nothing else of the object moves: two relocations change, and no size does.
//!
//! It is sound for what compilers make: nothing jumps to between the two, and the place of a call
//! is one where `rdi`, the other caller-saved registers and the flags are free. That nothing jumps
//! there is looked at all the same, in the code, the symbols and the relocations. What is not
//! understood stays as it is: a call, which works.

mod archive;
mod elf;
mod held;
#[cfg(test)]
mod tests;
mod unwind;

pub use archive::thicken;

use memchr::memmem;
use object::archive::{MAGIC, THIN_MAGIC};
use rkcov_abi::sites;

/// What is called with a guard.
const CALLBACK: &[u8] = b"__sanitizer_cov_trace_pc_guard";
/// What is called, once, with the bounds of all guards.
const INIT: &[u8] = b"__sanitizer_cov_trace_pc_guard_init";
/// What their names become in an object that was rewritten: the runtime has to know that there are stores,
/// and numbers no guard into which one may store. The names are as long as the old ones.
const STORED_CALLBACK: &[u8] = b"__sanitizer_cov_trace_pc_store";
const STORED_INIT: &[u8] = b"__sanitizer_cov_trace_pc_store_init";

/// How many sites there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that became stores.
    pub stores: usize,
    /// Calls that stayed.
    pub calls: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.stores += other.stores;
        self.calls += other.calls;
    }
}

/// Whether a file is of any interest here: it knows the callback, as an object or in an archive, and was
/// not rewritten yet. This takes little time.
#[must_use]
pub fn has_calls(file: &[u8]) -> bool {
    let object = file.starts_with(&object::elf::ELFMAG) || file.starts_with(&MAGIC);
    object && memmem::find(file, CALLBACK).is_some()
}

/// Whether a file is a thin archive, of which the members are files of their own.
#[must_use]
pub fn is_thin(file: &[u8]) -> bool {
    file.starts_with(&THIN_MAGIC)
}

/// Whether an object or archive is of a program that collects from itself, by the functions of
/// `rkcov.h`. Such a program wants records in the order in which they came, and only calls make those.
#[must_use]
pub fn is_client(file: &[u8]) -> bool {
    // The client may look the functions up by their names, so these stand among constants.
    let names: [&[u8]; 2] = [b"rkcov_open\0", b"kcov_remote_start"];
    names.iter().any(|name| memmem::find(file, name).is_some())
}

/// Rewrites an object, or all objects of an archive, where it lies. Whatever it is instead stays as it
/// is, and so does a thin archive.
pub fn rewrite(file: &mut [u8]) -> Counts {
    if file.starts_with(&MAGIC) {
        archive::rewrite(file)
    } else {
        elf::rewrite(file)
    }
}

/// What was rewritten, with the names that functions had before.
fn with_old_names(mut file: Vec<u8>) -> Vec<u8> {
    let places: Vec<usize> = memmem::find_iter(&file, STORED_CALLBACK).collect();
    for at in places {
        file[at..at + CALLBACK.len()].copy_from_slice(CALLBACK);
    }
    file
}

/// Rewrites a copy of whatever this is: a target for fuzzing, which must end without a panic, and must find
/// nothing more to rewrite when it comes again.
#[doc(hidden)]
pub fn fuzz(file: &[u8]) {
    let mut once = file.to_vec();
    let counts = rewrite(&mut once);
    assert_eq!(once.len(), file.len());
    if counts.stores == 0 {
        let old = with_old_names(once);
        assert!(old == file, "nothing is rewritten, and something changed");
    }
    let _ = thicken(file, |path| {
        Some(path.as_os_str().as_encoded_bytes().to_vec())
    });
}
