// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that a thread starts: their environment says which thread that was, and which context.
//!
//! A forked child has this from its parent's memory. What `posix_spawn()` starts never runs code of ours
//! before its own beginning. `system()` and `popen()` call a `posix_spawn()` within libc, which is not ours:
//! there the shell is told to change its environment.

use crate::linkage::{self, Spawn};
use crate::sys::Digits;
use crate::{run, tls};
use core::ffi::{c_char, c_int, CStr};
use core::mem::{size_of, MaybeUninit};
use core::ptr;
use rkcov_region::{CONTEXT_ENVIRONMENT, MAKER_ENVIRONMENT};

/// `posix_spawn()` as programs find it.
///
/// # Safety
/// As `posix_spawn()`.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn posix_spawn(
    pid: *mut libc::pid_t,
    path: *const c_char,
    actions: *const libc::posix_spawn_file_actions_t,
    attributes: *const libc::posix_spawnattr_t,
    arguments: *const *mut c_char,
    environment: *const *mut c_char,
) -> c_int {
    let spawn = linkage::spawn(false);
    // SAFETY: the caller's contract.
    unsafe {
        with_us(
            environment,
            spawn,
            pid,
            path,
            actions,
            attributes,
            arguments,
        )
    }
}

/// `posix_spawnp()` as programs find it.
///
/// # Safety
/// As `posix_spawnp()`.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn posix_spawnp(
    pid: *mut libc::pid_t,
    file: *const c_char,
    actions: *const libc::posix_spawn_file_actions_t,
    attributes: *const libc::posix_spawnattr_t,
    arguments: *const *mut c_char,
    environment: *const *mut c_char,
) -> c_int {
    let spawn = linkage::spawn(true);
    // SAFETY: the caller's contract.
    unsafe {
        with_us(
            environment,
            spawn,
            pid,
            file,
            actions,
            attributes,
            arguments,
        )
    }
}

/// `system()` as programs find it.
///
/// # Safety
/// As `system()`.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn system(command: *const c_char) -> c_int {
    let Some(next) = linkage::next_system() else {
        return -1;
    };
    // SAFETY: the caller's contract; a command is a C string.
    let call = |command| unsafe { next(command) };
    // SAFETY: the caller's contract.
    unsafe { in_shell(command, call) }
}

/// `popen()` as programs find it.
///
/// # Safety
/// As `popen()`.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    let Some(next) = linkage::next_popen() else {
        return ptr::null_mut();
    };
    // SAFETY: the caller's contract; a command is a C string.
    let call = |command| unsafe { next(command, mode) };
    // SAFETY: the caller's contract.
    unsafe { in_shell(command, call) }
}

/// Calls `call` with the shell's command behind one that says who starts it.
///
/// # Safety
/// `command` is null or a C string.
unsafe fn in_shell<T>(command: *const c_char, call: impl Fn(*const c_char) -> T) -> T {
    let said =
        run::of_child(tls::current()).filter(|(_, maker, context)| (*maker, *context) != (0, 0));
    let Some((token, maker, context)) = said.filter(|_| !command.is_null()) else {
        return call(command);
    };
    // SAFETY: the caller's contract.
    let text = unsafe { CStr::from_ptr(command) };
    let words = [
        (MAKER_ENVIRONMENT, maker),
        (CONTEXT_ENVIRONMENT, context.into()),
    ];
    let longer = behind_exports(text, token, words);
    // Without memory the child does not know where it comes from.
    let result = call(if longer.is_null() { command } else { longer });
    // SAFETY: null, or of libc's allocator; the shell has a copy.
    unsafe { libc::free(longer.cast()) };
    result
}

/// `export NAME=TOKEN:NUMBER ...; COMMAND`, a C string of libc's allocator, without numbers that are 0. It is
/// one line, so that the shell's messages name the lines that they named. Null if there is no memory.
fn behind_exports(command: &CStr, token: u64, words: [(&str, u64); 2]) -> *mut c_char {
    let command = command.to_bytes_with_nul();
    // What is between them is shorter than the zeros of the two texts and 16 bytes.
    let room = command.len().wrapping_add(2 * Text::LONGEST + 16);
    // SAFETY: libc's allocator.
    let whole = unsafe { libc::malloc(room) }.cast::<u8>();
    if whole.is_null() {
        return ptr::null_mut();
    }
    let mut used = 0_usize;
    let mut put = |text: &[u8]| {
        // SAFETY: `whole` is new and has room for all that is put: see above.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), whole.add(used), text.len()) };
        used = used.wrapping_add(text.len());
    };
    put(b"export");
    for (name, number) in words.into_iter().filter(|(_, number)| *number != 0) {
        let mut word = Text::new();
        word.put(name, token, number);
        // SAFETY: it was zeros, and what is put ends in one.
        let word = unsafe { CStr::from_ptr(word.bytes.as_ptr().cast()) };
        put(b" ");
        put(word.to_bytes());
    }
    put(b"; ");
    put(command);
    whole.cast()
}

/// Calls `spawn` with an environment that has what we add to it.
///
/// # Safety
/// As `posix_spawn()`.
unsafe fn with_us(
    environment: *const *mut c_char,
    spawn: Option<Spawn>,
    pid: *mut libc::pid_t,
    program: *const c_char,
    actions: *const libc::posix_spawn_file_actions_t,
    attributes: *const libc::posix_spawnattr_t,
    arguments: *const *mut c_char,
) -> c_int {
    let Some(spawn) = spawn else {
        return libc::ENOSYS;
    };
    let (mut of_maker, mut of_context) = (Text::new(), Text::new());
    let mut ours = [ptr::null_mut::<c_char>(); 2];
    let mut table = ptr::null_mut::<*mut c_char>();
    if let Some((token, maker, context)) = run::of_child(tls::current()) {
        if maker != 0 {
            of_maker.put(MAKER_ENVIRONMENT, token, maker);
            ours[0] = of_maker.bytes.as_mut_ptr().cast();
        }
        if context != 0 {
            of_context.put(CONTEXT_ENVIRONMENT, token, context.into());
            ours[1] = of_context.bytes.as_mut_ptr().cast();
        }
        if !environment.is_null() {
            // SAFETY: the caller's contract.
            table = unsafe { copy(environment, ours) };
        }
    }
    // Without memory the child does not know where it comes from.
    let given = if table.is_null() {
        environment
    } else {
        table.cast_const()
    };
    // SAFETY: the caller's contract; the table and what is in it live as long as the call, and the
    // child has a copy.
    let result = unsafe { spawn(pid, program, actions, attributes, arguments, given) };
    // SAFETY: null, or of libc's allocator.
    unsafe { libc::free(table.cast()) };
    result
}

/// The entries of `environment`, with `ours` in the place of those of the same name. Null if there is no
/// memory.
///
/// # Safety
/// `environment` is an array of C strings that a null ends. Those of `ours` are C strings, or null.
unsafe fn copy(environment: *const *mut c_char, ours: [*mut c_char; 2]) -> *mut *mut c_char {
    // SAFETY: the caller's contract: no entry behind the null is read.
    let entry = |at: usize| unsafe { environment.add(at).read() };
    let mut len = 0_usize;
    while !entry(len).is_null() {
        len = len.wrapping_add(1);
    }
    let bytes = len
        .wrapping_add(ours.len() + 1)
        .wrapping_mul(size_of::<*mut c_char>());
    // SAFETY: libc's allocator.
    let table = unsafe { libc::malloc(bytes) }.cast::<*mut c_char>();
    if table.is_null() {
        return table;
    }
    let mut used = 0_usize;
    let mut put = |entry: *mut c_char| {
        // SAFETY: the table has room for all entries, ours, and the null.
        unsafe { table.add(used).write(entry) };
        used = used.wrapping_add(1);
    };
    for at in 0..len {
        // SAFETY: an entry is a C string.
        let text = unsafe { CStr::from_ptr(entry(at)) }.to_bytes();
        let is_ours = [MAKER_ENVIRONMENT, CONTEXT_ENVIRONMENT]
            .iter()
            .zip(ours)
            .any(|(name, ours)| {
                let rest = text.strip_prefix(name.as_bytes());
                !ours.is_null() && rest.is_some_and(|rest| rest.first() == Some(&b'='))
            });
        if !is_ours {
            put(entry(at));
        }
    }
    ours.into_iter()
        .filter(|text| !text.is_null())
        .for_each(&mut put);
    put(ptr::null_mut());
    table
}

/// `NAME=TOKEN:NUMBER`, a C string. There is no `fmt` here.
struct Text {
    bytes: [MaybeUninit<u8>; Self::LONGEST],
}

impl Text {
    /// A name, `=`, 16 digits, `:`, 20 digits and a zero fit.
    const LONGEST: usize = 64;

    const fn new() -> Self {
        Self {
            bytes: [MaybeUninit::new(0); Self::LONGEST],
        }
    }

    fn put(&mut self, name: &str, token: u64, number: u64) {
        let digit = |place: u32| match (token >> (place * 4) & 0xf) as u8 {
            value @ 0..=9 => b'0'.wrapping_add(value),
            value => b'a'.wrapping_add(value).wrapping_sub(10),
        };
        let token = (0..16).rev().map(digit);
        let number = Digits::of(number);
        let text = name.bytes().chain([b'=']).chain(token).chain([b':']);
        let text = text.chain(number.as_bytes().iter().copied()).chain([0]);
        for (to, from) in self.bytes.iter_mut().zip(text) {
            to.write(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(entries: &[&CStr]) -> Vec<*mut c_char> {
        let pointers = entries.iter().map(|text| text.as_ptr().cast_mut());
        pointers.chain([ptr::null_mut()]).collect()
    }

    #[test]
    fn a_shell_is_told_who_starts_it() {
        let told = |words| {
            let whole = behind_exports(c"f; g 'x y'", 0x1f, words);
            // SAFETY: a C string of libc's allocator.
            let text = unsafe { CStr::from_ptr(whole) }.to_owned();
            // SAFETY: as above, and it is not used any more.
            unsafe { libc::free(whole.cast()) };
            text.into_string().unwrap()
        };
        assert_eq!(
            told([(MAKER_ENVIRONMENT, 7), (CONTEXT_ENVIRONMENT, 0)]),
            "export RKCOV_MAKER=000000000000001f:7; f; g 'x y'"
        );
        let most = u64::MAX;
        assert_eq!(
            told([(MAKER_ENVIRONMENT, most), (CONTEXT_ENVIRONMENT, most)]),
            format!(
                "export RKCOV_MAKER=000000000000001f:{most} RKCOV_CONTEXT=000000000000001f:{most}; f; g 'x y'"
            )
        );
    }

    #[test]
    fn an_environment_says_who_starts_a_program() {
        let mut maker = Text::new();
        maker.put(MAKER_ENVIRONMENT, 0x1f, 1234);
        let mut largest = Text::new();
        largest.put(CONTEXT_ENVIRONMENT, u64::MAX, u64::MAX);
        let before = strings(&[
            c"A=1",
            c"RKCOV_MAKER=0:1",
            c"RKCOV_MAKERS=2",
            c"RKCOV_CONTEXT=0:1",
        ]);
        for (ours, expected) in [
            (
                [maker.bytes.as_mut_ptr().cast(), ptr::null_mut()],
                &[
                    "A=1",
                    "RKCOV_MAKERS=2",
                    "RKCOV_CONTEXT=0:1",
                    "RKCOV_MAKER=000000000000001f:1234",
                ][..],
            ),
            (
                [ptr::null_mut(), largest.bytes.as_mut_ptr().cast()],
                &[
                    "A=1",
                    "RKCOV_MAKER=0:1",
                    "RKCOV_MAKERS=2",
                    "RKCOV_CONTEXT=ffffffffffffffff:18446744073709551615",
                ],
            ),
        ] {
            // SAFETY: arrays of C strings.
            let table = unsafe { copy(before.as_ptr(), ours) };
            let mut found = Vec::new();
            let mut at = table;
            // SAFETY: the table ends with a null pointer, and its entries are C strings.
            while let Some(entry) = unsafe { at.read().as_ref() } {
                // SAFETY: as above.
                found.push(unsafe { CStr::from_ptr(entry) }.to_str().unwrap());
                // SAFETY: as above.
                at = unsafe { at.add(1) };
            }
            assert_eq!(found, expected);
            // SAFETY: `malloc()` made it.
            unsafe { libc::free(table.cast()) };
        }
    }
}
