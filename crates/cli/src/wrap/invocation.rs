// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of the arguments are rkcov's, which name the compiler, and which are the compiler's.

use crate::toolchain::name;
use std::ffi::OsString;

/// What the user asks of the wrapper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Calls at each edge, no checks.
    pub calls: bool,
    /// Counters for a fuzzer, and no runtime.
    pub counters: bool,
    /// Comparisons are reported too.
    pub comparisons: bool,
}

/// A compiler with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Programs that run the compiler (`ccache`).
    pub launchers: Vec<OsString>,
    /// The compiler, by name or path.
    pub compiler: OsString,
    /// The compiler's arguments.
    pub args: Vec<OsString>,
}

impl Invocation {
    /// `compiler` with `args`, all of which are its own.
    #[must_use]
    pub fn of(compiler: OsString, args: Vec<OsString>) -> Self {
        Self {
            launchers: Vec::new(),
            compiler,
            args,
        }
    }

    /// Takes what follows rkcov's own options apart: the first argument is the compiler if it has
    /// the name of one (launchers may come before it), and all else is the compiler's. If no
    /// argument names a compiler, the words of `default` do.
    #[must_use]
    pub fn read(args: Vec<OsString>, default: impl FnOnce() -> Vec<OsString>) -> Self {
        let launchers =
            |args: &[OsString]| args.iter().take_while(|arg| name::is_launcher(arg)).count();
        let mut launched = launchers(&args);
        let named = args.get(launched).is_some_and(|arg| name::is_compiler(arg));
        let mut words = args;
        if !named {
            let mut all = default();
            // Whatever name the compiler has that the user chose by a variable, it is the compiler; but if
            // there is one behind it, it is a launcher that we do not know.
            let known = launchers(&all).min(all.len().saturating_sub(1));
            let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
            let named = all
                .iter()
                .position(|word| !is_option(word) && name::is_compiler(word));
            launched = named.map_or(known, |named| named.max(known));
            all.append(&mut words);
            words = all;
        }
        let args = words.split_off((launched + 1).min(words.len()));
        let compiler = words.pop().unwrap_or_default();
        Self {
            launchers: words,
            compiler,
            args,
        }
    }

    /// The arguments with `front` before them, and with an option behind the one of an index.
    #[must_use]
    pub fn with(&self, front: Vec<OsString>, after: Option<(usize, &str)>) -> Vec<OsString> {
        let mut all = front;
        let (before, behind) = self.args.split_at(match after {
            Some((index, _)) => (index + 1).min(self.args.len()),
            None => 0,
        });
        all.extend_from_slice(before);
        all.extend(after.map(|(_, option)| option.into()));
        all.extend_from_slice(behind);
        all
    }
}
