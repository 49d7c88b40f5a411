// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program of this machine needs to run on another with nothing on it.

use crate::error::{io_error, Error, Result};
use object::elf::PT_INTERP;
use object::read::elf::{ElfFile32, ElfFile64, FileHeader, ProgramHeader};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, str};

/// Finds a program as a shell does: by its path if it has a slash, else in the folders of `$PATH`.
///
/// # Errors
/// [`Error::NoProgram`] if there is none, [`Error::Program`] if there is only what cannot be run.
pub fn find(program: &OsStr) -> Result<PathBuf> {
    let is_program = |path: &Path| {
        fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
        vec![PathBuf::from(program)]
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .map(|dir| dir.join(program))
            .collect()
    };
    if let Some(path) = candidates.iter().find(|path| is_program(path)) {
        return std::path::absolute(path).map_err(io_error(path));
    }
    let program = program.to_owned();
    Err(if candidates.iter().any(|path| path.exists()) {
        let why = String::from("it is not an executable file");
        Error::Program { program, why }
    } else {
        Error::NoProgram(program)
    })
}

/// The files without which `program` does not start, besides itself: its dynamic linker, and the
/// libraries that this linker finds for it. None for a static program.
///
/// # Errors
/// [`Error::Program`] if it is no program for Linux, or lacks a library.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let fail = |why: &str| Error::Program {
        program: program.into(),
        why: why.to_owned(),
    };
    let data = fs::read(program).map_err(io_error(program))?;
    let linker = match interpreter(&data).map_err(fail)? {
        Some(linker) => linker,
        None => return Ok(Vec::new()),
    };
    // The linker itself knows best what it will look for; this runs no code of the program's.
    let listed = Command::new(&linker)
        .arg("--list")
        .arg(program)
        .output()
        .map_err(io_error(&linker))?;
    if !listed.status.success() {
        return Err(fail(String::from_utf8_lossy(&listed.stderr).trim()));
    }
    let mut files = vec![linker];
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        // "libc.so.6 => /lib/libc.so.6 (0x7f...)"; the kernel's own has no file.
        let found = line
            .split_once("=>")
            .map_or(line, |(_, found)| found)
            .trim();
        let path = found.rsplit_once(" (0x").map_or(found, |(path, _)| path);
        if path == "not found" {
            return Err(fail(&format!("it lacks a library: {}", line.trim())));
        }
        if path.starts_with('/') {
            files.push(PathBuf::from(path));
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// The dynamic linker that an ELF file asks for.
fn interpreter(data: &[u8]) -> std::result::Result<Option<PathBuf>, &'static str> {
    if data.starts_with(b"#!") {
        return Err("it is a script; name its interpreter, and give the script as a file");
    }
    if let Ok(elf) = ElfFile64::<object::Endianness>::parse(data) {
        Ok(interpreter_of(elf.elf_header(), data))
    } else if let Ok(elf) = ElfFile32::<object::Endianness>::parse(data) {
        Ok(interpreter_of(elf.elf_header(), data))
    } else {
        Err("it is not an ELF file")
    }
}

fn interpreter_of<H: FileHeader<Endian = object::Endianness>>(
    header: &H,
    data: &[u8],
) -> Option<PathBuf> {
    let endian = header.endian().ok()?;
    let headers = header.program_headers(endian, data).ok()?;
    let name = headers
        .iter()
        .find(|h| h.p_type(endian) == PT_INTERP)?
        .data(endian, data)
        .ok()?;
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_needs_its_linker_and_libraries() {
        let me = env::current_exe().unwrap();
        let files = libraries(&me).unwrap();
        let has = |part: &str| files.iter().any(|f| f.to_string_lossy().contains(part));
        assert!(has("/ld-linux") && has("/libc.so"), "{files:?}");
        assert!(files.iter().all(|f| f.is_file()), "{files:?}");
    }

    #[test]
    fn what_cannot_run_is_said() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("x");
        for (content, why) in [("#!/bin/sh\n", "script"), ("hello", "ELF")] {
            fs::write(&file, content).unwrap();
            let error = libraries(&file).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let status = |name: &OsStr| find(name).unwrap_err().exit_status();
        assert_eq!(status(OsStr::new("./no/such")), 127);
        assert_eq!(status(OsStr::new("no-such-in-any-folder")), 127);
        assert_eq!(status(file.as_os_str()), 126);
        assert_eq!(status(OsStr::new("/")), 126);
        assert_eq!(libraries(&file).unwrap_err().exit_status(), 126);
        assert!(find(OsStr::new("sh")).unwrap().is_absolute());
    }
}
