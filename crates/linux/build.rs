// SPDX-License-Identifier: MIT OR Apache-2.0
//! Embeds what the installer puts into a kernel tree, so that the commands need nothing but
//! themselves. It is the folder `kernel/src`. Two symbolic links there lead to the sources that
//! `abi` and `core` share with the kernel; in the package of this crate they are folders.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let mut code = String::from("&[\n");
    embed(&here.join("kernel/src"), "", &mut code)?;
    code.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    fs::write(out.join("sources.rs"), code)
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
