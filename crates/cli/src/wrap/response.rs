// SPDX-License-Identifier: MIT OR Apache-2.0
//! Response files: `@file` stands for the arguments in the file.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Files opened for one command line. Only files that include each other come this far, and the
/// compiler has words for them.
const FILES_MAX: usize = 2000;

/// An argument, and where on the command line it or the response file that it is from stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The argument.
    pub text: OsString,
    /// Index among the arguments as they were given.
    pub index: usize,
}

/// Replaces each `@file` by the arguments in it, as often as need be. `read` gives a file's
/// contents; an argument whose file cannot be read stands for itself, as compilers have it.
pub fn expand(args: &[OsString], mut read: impl FnMut(&OsStr) -> Option<Vec<u8>>) -> Vec<Argument> {
    let mut expanded = Vec::with_capacity(args.len());
    let mut files = 0;
    for (index, arg) in args.iter().enumerate() {
        // What is still to be looked at, the next one last.
        let mut pending = vec![arg.clone()];
        while let Some(text) = pending.pop() {
            let contents = match text.as_bytes().strip_prefix(b"@") {
                Some(file) if files < FILES_MAX => read(OsStr::from_bytes(file)),
                _ => None,
            };
            if let Some(contents) = contents {
                files += 1;
                pending.extend(split(&contents).into_iter().rev());
            } else {
                expanded.push(Argument { text, index });
            }
        }
    }
    expanded
}

/// Splits the text of a response file: white space separates, quotes of either sort hold together,
/// a backslash takes the next byte as it is.
#[must_use]
pub fn split(text: &[u8]) -> Vec<OsString> {
    let mut args = Vec::new();
    let mut current: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        let plain = match byte {
            b'\\' => bytes.next(),
            b'"' | b'\'' if quote.is_none() => {
                quote = Some(byte);
                None
            }
            _ if quote == Some(byte) => {
                quote = None;
                None
            }
            _ if byte.is_ascii_whitespace() && quote.is_none() => {
                args.extend(current.take());
                continue;
            }
            _ => Some(byte),
        };
        current.get_or_insert_with(Vec::new).extend(plain);
    }
    args.extend(current);
    args.into_iter().map(OsString::from_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text.as_bytes())
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn quotes_and_backslashes() {
        assert_eq!(words(" -c  x.c\n-o\tx.o "), ["-c", "x.c", "-o", "x.o"]);
        assert_eq!(words(r#"-DA="b c" '-DB=\'d"'"#), ["-DA=b c", "-DB='d\""]);
        assert_eq!(words(r#"a\ b "" c\"#), ["a b", "", "c"]);
        assert_eq!(words("'open to the end"), ["open to the end"]);
        assert_eq!(words(" \n"), [""; 0]);
    }

    #[test]
    fn files_nest_and_remember_where_they_stood() {
        let args = ["-c", "@outer", "last"].map(OsString::from);
        let expanded = expand(&args, |file| match file.to_str()? {
            "outer" => Some(b"a @inner b @missing".to_vec()),
            "inner" => Some(b"x y".to_vec()),
            _ => None,
        });
        let seen: Vec<_> = expanded
            .iter()
            .map(|arg| (arg.text.to_str().unwrap(), arg.index))
            .collect();
        let expect = [
            ("-c", 0),
            ("a", 1),
            ("x", 1),
            ("y", 1),
            ("b", 1),
            ("@missing", 1),
            ("last", 2),
        ];
        assert_eq!(seen, expect);
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let expanded = expand(&[OsString::from("@self")], |_| Some(b"x @self".to_vec()));
        assert_eq!(expanded.len(), FILES_MAX + 1);
    }
}
