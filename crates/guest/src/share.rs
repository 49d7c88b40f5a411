// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folders of the host's that a guest has: 9p over virtio under QEMU, hostfs in User Mode Linux.

use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// Mounting there would hide what a guest needs to run.
const OWN: [&str; 4] = ["/", "/dev", "/proc", "/sys"];

/// A folder of the host's in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Here.
    pub folder: PathBuf,
    /// There.
    pub at: PathBuf,
    /// The guest cannot change what is in it.
    pub read_only: bool,
}

/// Why a folder cannot be shared as it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit(String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

impl FromStr for Share {
    type Err = Unfit;

    /// Reads `DIR[:MOUNTPOINT][:ro]`. Without a place in the guest it is the same as here.
    fn from_str(text: &str) -> Result<Self, Unfit> {
        let (rest, read_only) = match text.strip_suffix(":ro") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        // A folder may have a colon in its name.
        let (folder, at) = match rest.rsplit_once(':') {
            Some((folder, at)) if !Path::new(rest).is_dir() => (folder, Some(at)),
            _ => (rest, None),
        };
        let found = fs::metadata(folder).map_err(|e| Unfit(format!("{folder}: {e}")))?;
        if !found.is_dir() {
            return Err(Unfit(format!("{folder} is not a folder")));
        }
        let fail = |e| Unfit(format!("{folder}: {e}"));
        let real = fs::canonicalize(folder).map_err(fail)?;
        let at = match at {
            Some(at) => PathBuf::from(at),
            None => std::path::absolute(folder).map_err(fail)?,
        };
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if !at.is_absolute() || !at.components().all(plain) {
            let place = at.display();
            return Err(Unfit(format!(
                "{place} is not an absolute path in the guest"
            )));
        }
        // One spelling of a path: without what separates nothing.
        let at: PathBuf = at.components().collect();
        if OWN.iter().any(|own| at == Path::new(own)) {
            let place = at.display();
            let why = format!("the guest needs its own {place}; name another: {folder}:/PLACE");
            return Err(Unfit(why));
        }
        Ok(Self {
            folder: real,
            at,
            read_only,
        })
    }
}

impl Share {
    /// What a guest under QEMU knows the share of this number by.
    #[must_use]
    pub fn tag(number: usize) -> String {
        format!("share{number}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_as_it_is_written() {
        let dir = tempfile::TempDir::new().unwrap();
        let dir = fs::canonicalize(dir.path()).unwrap();
        let colon = dir.join("a:b");
        fs::create_dir(&colon).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        let (here, colon) = (dir.to_str().unwrap(), colon.to_str().unwrap());
        for (text, folder, at, read_only) in [
            (here.to_owned(), here, here, false),
            (format!("{here}/:ro"), here, here, true),
            (format!("{here}:/mnt//x/"), here, "/mnt/x", false),
            (format!("{here}:/mnt:ro"), here, "/mnt", true),
            (colon.to_owned(), colon, colon, false),
            (format!("{colon}:/c:ro"), colon, "/c", true),
        ] {
            let expected = Share {
                folder: folder.into(),
                at: at.into(),
                read_only,
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for (text, why) in [
            (format!("{here}/none"), "none: No such file"),
            (format!("{here}/file"), "is not a folder"),
            (format!("{here}:mnt"), "not an absolute path"),
            (format!("{here}:/mnt/../x"), "not an absolute path"),
            (format!("{here}:/dev"), "the guest needs its own /dev"),
            (String::from("/"), "the guest needs its own /; name another"),
        ] {
            let error = text.parse::<Share>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
