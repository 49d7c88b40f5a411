// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules of the guest's kernel: loads them, and tells the host where their code lies.

use rustix::system::finit_module;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the kernel shows its modules.
const MODULES: &str = "/sys/module";
/// Where it shows its symbols.
const SYMBOLS: &str = "/proc/kallsyms";
/// Where its messages can be read.
const MESSAGES: &str = "/dev/kmsg";
/// Where it shows the notes of its own file.
const NOTES: &str = "/sys/kernel/notes";
/// The symbol at the first byte of the kernel's code.
pub const FIRST: &str = "_text";

/// A module that is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Its name.
    pub name: OsString,
    /// The linker's identity of its file, if the kernel knows it.
    pub build_id: Vec<u8>,
    /// The names of its sections in memory, and their addresses.
    pub sections: Vec<(OsString, u64)>,
}

/// The modules of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modules {
    /// The address of [`FIRST`], if the kernel says it.
    pub first: Option<u64>,
    /// Those that are loaded, by name.
    pub loaded: Vec<Loaded>,
}

impl Modules {
    /// Strings, each with a 0 behind it: the address, the number of modules, and of each the name, the build id, the
    /// number of sections, and a name and an address for each. Addresses are hexadecimal.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut add = |part: &[u8]| {
            out.extend_from_slice(part);
            out.push(0);
        };
        let first = self.first.map(|address| format!("{address:x}"));
        add(first.unwrap_or_default().as_bytes());
        add(self.loaded.len().to_string().as_bytes());
        for module in &self.loaded {
            add(module.name.as_bytes());
            add(hex(&module.build_id).as_bytes());
            add(module.sections.len().to_string().as_bytes());
            for (name, address) in &module.sections {
                add(name.as_bytes());
                add(format!("{address:x}").as_bytes());
            }
        }
        out
    }

    /// What `encode()` wrote.
    #[must_use]
    pub fn decode(data: &[u8]) -> Option<Self> {
        let mut parts = data.strip_suffix(b"\0")?.split(|byte| *byte == 0);
        let mut next = || parts.next();
        let text = |part: Option<&'_ [u8]>| Some(std::str::from_utf8(part?).ok()?.to_owned());
        let number = |part| text(part)?.parse::<u32>().ok();
        let address = |part| u64::from_str_radix(&text(part)?, 16).ok();
        let name = |part: Option<&[u8]>| Some(OsString::from_vec(part?.to_vec()));
        let first = match next()? {
            b"" => None,
            part => Some(address(Some(part))?),
        };
        let loaded = (0..number(next())?).map(|_| {
            let (of, build_id) = (name(next())?, unhex(&text(next())?)?);
            let sections = (0..number(next())?).map(|_| Some((name(next())?, address(next())?)));
            let sections = sections.collect::<Option<_>>()?;
            Some(Loaded {
                name: of,
                build_id,
                sections,
            })
        });
        let loaded = loaded.collect::<Option<_>>()?;
        next().is_none().then_some(Self { first, loaded })
    }

    /// Those of the kernel that this process runs in. A kernel without modules has none.
    pub(crate) fn here() -> Self {
        let entries = fs::read_dir(MODULES).into_iter().flatten().flatten();
        let mut loaded: Vec<Loaded> = entries
            .filter_map(|entry| loaded(&entry.path()).ok())
            .collect();
        loaded.sort_by(|a, b| a.name.cmp(&b.name));
        // There are many symbols: nobody needs them without a module.
        let symbols = match loaded[..] {
            [] => None,
            _ => fs::read_to_string(SYMBOLS).ok(),
        };
        Self {
            first: symbols.as_deref().and_then(first),
            loaded,
        }
    }
}

/// What the kernel shows of one module in this folder. What is built in has no sections there.
fn loaded(folder: &Path) -> io::Result<Loaded> {
    let mut sections = fs::read_dir(folder.join("sections"))?
        .map(|entry| {
            let entry = entry?;
            let text = fs::read_to_string(entry.path())?;
            Ok((entry.file_name(), address(text.trim()).unwrap_or(0)))
        })
        .collect::<io::Result<Vec<_>>>()?;
    // To whom it does not tell addresses the kernel says 0.
    sections.retain(|(_, at)| *at != 0);
    sections.sort();
    let note = fs::read(folder.join("notes/.note.gnu.build-id")).unwrap_or_default();
    Ok(Loaded {
        name: folder.file_name().unwrap_or_default().to_owned(),
        build_id: build_id(&note).unwrap_or_default().to_vec(),
        sections,
    })
}

fn address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// The address of [`FIRST`] in the kernel's list of symbols.
fn first(symbols: &str) -> Option<u64> {
    let named = |line: &str| {
        let mut words = line.split(' ');
        let at = words.next()?;
        (words.nth(1)? == FIRST).then(|| address(at))?
    };
    symbols.lines().find_map(named).filter(|at| *at != 0)
}

/// The build id among notes: heads of three words, each with a name and content, filled up to whole words.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const WORD: usize = 4;
    const BUILD_ID: u32 = 3;
    loop {
        let (head, rest) = notes.split_at_checked(3 * WORD)?;
        let word = |n: usize| {
            let bytes = head[n * WORD..][..WORD].try_into();
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let [name, content] = [word(0), word(1)].map(|size| size as usize);
        let (named, rest) = rest.split_at_checked(name.checked_next_multiple_of(WORD)?)?;
        let found = rest.get(..content)?;
        if word(2) == BUILD_ID && named.get(..name) == Some(b"GNU\0") {
            return Some(found);
        }
        notes = rest.get(content.checked_next_multiple_of(WORD)?..)?;
    }
}

/// The build id of the running kernel, if it shows it.
pub(crate) fn kernel() -> Option<Vec<u8>> {
    let notes = fs::read(NOTES).ok()?;
    build_id(&notes).map(<[u8]>::to_vec)
}

/// Loads modules in this order.
pub(crate) fn load(modules: &[PathBuf]) -> io::Result<()> {
    let mut messages = match modules {
        [] => return Ok(()),
        // A kernel need not have any.
        _ => Messages::from_now().ok(),
    };
    for path in modules {
        let loaded = File::open(path).and_then(|file| Ok(finit_module(file, c"", 0)?));
        if let Err(error) = loaded {
            let said = messages.as_mut().map(Messages::rest).unwrap_or_default();
            let place = path.display();
            return Err(io::Error::new(
                error.kind(),
                format!("the kernel refuses the module {place}: {error}{said}"),
            ));
        }
    }
    Ok(())
}

/// The kernel's messages.
struct Messages(File);

impl Messages {
    fn from_now() -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(MESSAGES)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// Those that nobody read yet, a line each, indented.
    fn rest(&mut self) -> String {
        let mut lines = String::new();
        let mut record = [0; 8 << 10];
        // Each read is one message, until there is none.
        while let Ok(length @ 1..) = self.0.read(&mut record) {
            let text = String::from_utf8_lossy(&record[..length]);
            // Numbers stand before it, and what the kernel knows besides in lines of their own.
            let text = text.split_once(';').map_or(&*text, |(_, text)| text);
            lines.push_str("\n  | ");
            lines.push_str(text.lines().next().unwrap_or_default());
        }
        lines
    }
}

/// Bytes as digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_arrive_as_they_were_seen() {
        let of = |name: &str, build_id: &[u8], sections: &[(&str, u64)]| Loaded {
            name: name.into(),
            build_id: build_id.to_vec(),
            sections: sections.iter().map(|(n, at)| ((*n).into(), *at)).collect(),
        };
        let modules = Modules {
            first: Some(0xffff_ffff_8100_0000),
            loaded: vec![
                of("hello", &[0, 0xab], &[(".text", 0xffff_ffff_c000_0000)]),
                of("nothing", &[], &[]),
            ],
        };
        for modules in [modules, Modules::default()] {
            assert_eq!(Modules::decode(&modules.encode()), Some(modules));
        }
        for bad in ["", "x 0", " 1", " 1 a zz 0", " 1 a 00 1 .text", " 0 more"] {
            let mut bad = bad.replace(' ', "\0").into_bytes();
            bad.push(0);
            assert_eq!(Modules::decode(&bad), None, "{bad:?}");
        }
        assert_eq!(Modules::decode(b"0"), None);
    }

    #[test]
    fn a_build_id_is_found_among_notes() {
        let note = |kind: u32, name: &[u8], content: &[u8]| {
            let mut note = Vec::new();
            for word in [name.len() as u32, content.len() as u32, kind] {
                note.extend(word.to_ne_bytes());
            }
            for part in [name, content] {
                note.extend(part);
                note.resize(note.len().next_multiple_of(4), 0);
            }
            note
        };
        let notes = [
            note(3, b"Linux\0", &[1]),
            note(4, b"GNU\0", &[2; 3]),
            note(3, b"GNU\0", &[3; 5]),
        ]
        .concat();
        assert_eq!(build_id(&notes), Some(&[3; 5][..]));
        assert_eq!(build_id(&notes[..notes.len() - 4]), None);
        assert_eq!(build_id(&[]), None);
        // A name that has no end.
        assert_eq!(build_id(&[0xff; 12]), None);
    }

    #[test]
    fn the_kernel_s_first_byte_is_found_among_its_symbols() {
        let symbols = "0000000000000000 A fixed_percpu_data\nffffffff81000000 T startup_64\n\
                       ffffffff81000000 T _text\nffffffffc0000000 t _text\t[hello]\n";
        assert_eq!(first(symbols), Some(0xffff_ffff_8100_0000));
        assert_eq!(first("0000000000000000 T _text\n"), None);
        assert_eq!(first(""), None);
    }
}
