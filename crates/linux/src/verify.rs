// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks into a kernel that was built: it has the kcov that was asked for, and nothing of the other.

use crate::error::{io_error, Error, Result};
use crate::flavor::Kcov;
use object::{Object, ObjectSymbol, SymbolKind};
use std::fs;
use std::io;
use std::path::Path;

/// Which of both kcovs a source file belongs to, by the name that the symbol table has of it.
fn owner(file: &str) -> Option<Kcov> {
    // A Rust file is called after its crate and a part of the compiler's own.
    if file == "kcov.c" {
        Some(Kcov::C)
    } else if file.starts_with("kcov_rust.") {
        Some(Kcov::Rust)
    } else {
        None
    }
}

/// The kcovs whose objects these source files are.
fn owners<'f>(files: impl Iterator<Item = &'f str>) -> Vec<Kcov> {
    let mut owners: Vec<Kcov> = files.filter_map(owner).collect();
    owners.dedup();
    owners
}

/// The kcovs whose objects are in a kernel.
pub(crate) fn kcovs(vmlinux: &object::File<'_>) -> Vec<Kcov> {
    let files = vmlinux
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::File);
    owners(files.filter_map(|symbol| symbol.name().ok()))
}

/// Fails unless the only kcov in `vmlinux` is this one.
pub(crate) fn has_only(vmlinux: &Path, kcov: Kcov) -> Result<()> {
    let bad = |error: object::Error| io_error(vmlinux)(io::Error::other(error));
    let data = fs::read(vmlinux).map_err(io_error(vmlinux))?;
    let elf = object::File::parse(&*data).map_err(bad)?;
    let found = kcovs(&elf);
    if found == [kcov] {
        Ok(())
    } else {
        Err(Error::OtherKcov {
            vmlinux: vmlinux.to_owned(),
            wanted: kcov,
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_either_kcov_are_told_apart() {
        let rust = ["fork.c", "kcov_rust.4b1d-cgu.0", "shim.c"];
        let c = ["fork.c", "kcov.c", "kcov_rust_notes.c"];
        assert_eq!(owners(rust.into_iter()), [Kcov::Rust]);
        assert_eq!(owners(c.into_iter()), [Kcov::C]);
        assert_eq!(owners(rust.into_iter().chain(c)), [Kcov::Rust, Kcov::C]);
        assert_eq!(owners(["fork.c"].into_iter()), []);
    }
}
