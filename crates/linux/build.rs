// SPDX-License-Identifier: MIT OR Apache-2.0
//! Embeds what the installer puts into a kernel tree, and what starts in guests of other machines, so
//! that the commands need nothing but themselves. These are the folders `kernel/src` and `agent`.
//! Symbolic links there lead to sources of `abi`, `core` and `guest`; in the package of this crate they
//! are folders.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    for (folder, list) in [("kernel/src", "sources.rs"), ("agent", "agent.rs")] {
        let mut code = String::from("&[\n");
        embed(&here.join(folder), "", &mut code)?;
        code.push_str("]\n");
        fs::write(out.join(list), code)?;
    }
    Ok(())
}

fn embed(folder: &Path, prefix: &str, code: &mut String) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let name = format!("{prefix}{}", name.to_string_lossy());
        if path.is_dir() {
            embed(&path, &format!("{name}/"), code)?;
        } else {
            writeln!(code, "    ({name:?}, include_bytes!({path:?})),").expect("into a string");
        }
    }
    Ok(())
}
