// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runtime as files that are linked into other programs.
//!
//! The build makes them with its own cargo, the C compiler as an assembler, and binutils, and
//! puts them into this crate as bytes, so that the `rkcov` command is one file.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file that programs are linked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its file name.
    pub name: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

macro_rules! artifact {
    ($(#[$doc:meta])* $id:ident, $name:literal) => {
        $(#[$doc])*
        pub const $id: Artifact = Artifact {
            name: $name,
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/", $name)),
        };
    };
}

artifact!(
    /// The whole runtime, for an executable with a dynamic linker.
    OBJECT,
    "rkcov.o"
);
artifact!(
    /// The whole runtime, for a static executable (`-static`, `-static-pie`), which is linked
    /// with `-Wl,--wrap=pthread_create`; threads' names are seen with
    /// `-Wl,--wrap=pthread_setname_np,-u,pthread_setname_np`, too.
    STATIC_OBJECT,
    "rkcov-static.o"
);
artifact!(
    /// For each shared object, which is also linked with [`LIBRARY`]; and for an executable that
    /// is linked with that instead of an object.
    MODULE_OBJECT,
    "rkcov-module.o"
);
artifact!(
    /// The whole runtime as a shared library, under the name that what is linked with it asks for.
    /// It is the same in every folder, so that a process never loads two.
    LIBRARY,
    "librkcov.so.0"
);
artifact!(
    /// [`STATIC_OBJECT`] in an archive, which linkers find by `-lrkcov`: for rustc, which takes objects
    /// only behind its own libraries, and for those who link without the compiler wrapper.
    ARCHIVE,
    "librkcov.a"
);
artifact!(
    /// [`LIBRARY`] once more, with libc's names for the device's calls before libc: for
    /// `LD_PRELOAD`, into programs that were written for `/sys/kernel/debug/kcov`.
    PRELOAD,
    "librkcov-preload.so"
);

/// The name under which linkers look for [`LIBRARY`].
pub const LIBRARY_LINK: &str = "librkcov.so";

/// What programs include that are clients themselves.
pub const HEADER: Artifact = Artifact {
    name: "rkcov.h",
    bytes: include_bytes!("../include/rkcov.h"),
};

/// What test programs in C++ include, so that each test is a context.
pub const LISTENERS: [Artifact; 3] = [
    Artifact {
        name: "rkcov_gtest.h",
        bytes: include_bytes!("../include/rkcov_gtest.h"),
    },
    Artifact {
        name: "rkcov_catch2.h",
        bytes: include_bytes!("../include/rkcov_catch2.h"),
    },
    Artifact {
        name: "rkcov_doctest.h",
        bytes: include_bytes!("../include/rkcov_doctest.h"),
    },
];

/// What the compiler wrapper, `cargo rkcov` and `rkcov preload` need.
pub const ALL: [Artifact; 10] = [
    OBJECT,
    STATIC_OBJECT,
    ARCHIVE,
    MODULE_OBJECT,
    LIBRARY,
    PRELOAD,
    HEADER,
    LISTENERS[0],
    LISTENERS[1],
    LISTENERS[2],
];

/// A number for the content of all artifacts, to name a folder with.
pub const FINGERPRINT: &str = env!("RKCOV_ARTIFACTS_FINGERPRINT");

/// Writes all of them into `folder`, which is made if it is not there, and the linker's name for
/// the library. A file that has the right content already is not touched; a reader never sees half
/// a file.
///
/// # Errors
/// Those of the file system.
pub fn install(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for artifact in ALL {
        let path = folder.join(artifact.name);
        if !fs::read(&path).is_ok_and(|bytes| bytes == artifact.bytes) {
            replace(&path, |partial| fs::write(partial, artifact.bytes))?;
        }
    }
    let link = folder.join(LIBRARY_LINK);
    if !fs::read_link(&link).is_ok_and(|to| to == Path::new(LIBRARY.name)) {
        replace(&link, |partial| symlink(LIBRARY.name, partial))?;
    }
    Ok(())
}

/// Has `make` make a file, and puts it in the place of whatever stands at `path`, whole.
///
/// # Errors
/// Those of `make` and of the file system; `path` is then as it was.
pub fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    // Several processes may do so at once, and several threads of one.
    static TURN: AtomicU32 = AtomicU32::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{turn}", std::process::id()));
    let partial = PathBuf::from(name);
    make(&partial)
        .and_then(|()| fs::rename(&partial, path))
        .inspect_err(|_| {
            let _ = fs::remove_file(&partial);
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSymbol};

    const LINKED: [Artifact; 4] = [OBJECT, STATIC_OBJECT, MODULE_OBJECT, LIBRARY];

    fn file(artifact: Artifact) -> object::File<'static> {
        object::File::parse(artifact.bytes).unwrap()
    }

    /// The names of the symbols that `wanted` holds for.
    fn names(artifact: Artifact, wanted: fn(&object::Symbol<'_, '_>) -> bool) -> Vec<String> {
        let file = file(artifact);
        let symbols = file.symbols().filter(wanted);
        symbols
            .map(|symbol| symbol.name().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn no_panicking_path_is_left() {
        for artifact in LINKED {
            let panics = names(artifact, |symbol| {
                let name = symbol.name().unwrap();
                name.contains("panic") || name.contains("personality")
            });
            assert_eq!(panics, [""; 0], "{}", artifact.name);
        }
    }

    #[test]
    fn only_the_interface_can_clash_with_a_program() {
        for artifact in [OBJECT, STATIC_OBJECT] {
            let visible = names(artifact, |symbol| {
                symbol.is_global() && symbol.is_definition()
            });
            assert!(visible.len() > 20, "{}", artifact.name);
            let known = [
                "__sanitizer_cov_",
                "__rkcov_",
                "rkcov_",
                "kcov_",
                "pthread_create",
                "pthread_setname_np",
                "posix_spawn",
                "system",
                "popen",
                "dlclose",
                "mlockall",
            ];
            for name in &visible {
                let name = name.strip_prefix("__wrap_").unwrap_or(name);
                let ours = known.iter().any(|prefix| name.starts_with(prefix));
                assert!(ours, "{}: {name}", artifact.name);
            }
        }
        let visible = names(MODULE_OBJECT, |s| s.is_global() && s.is_definition());
        assert_eq!(visible, [""; 0]);
    }

    #[test]
    fn a_static_program_gets_no_dynamic_linker() {
        let needed = names(STATIC_OBJECT, |symbol| symbol.is_undefined());
        for name in ["dlopen", "dlsym", "dladdr", "dlclose"] {
            assert!(!needed.iter().any(|needed| needed == name), "{name}");
        }
        assert!(needed.iter().any(|name| name == "__real_pthread_create"));
        let needed = names(OBJECT, |symbol| symbol.is_undefined());
        assert!(!needed.iter().any(|name| name == "__real_pthread_create"));
    }

    #[test]
    fn memory_is_not_written_by_functions_of_the_programs() {
        for artifact in [OBJECT, STATIC_OBJECT, LIBRARY, PRELOAD] {
            let needed = names(artifact, |symbol| symbol.is_undefined());
            for name in ["memcpy", "memmove", "memset", "memcmp", "bcmp"] {
                assert!(!needed.iter().any(|needed| needed == name), "{name}");
            }
        }
    }

    #[test]
    fn the_runtime_is_not_instrumented() {
        for artifact in LINKED {
            let instrumented = names(artifact, |symbol| {
                let name = symbol.name().unwrap();
                name.starts_with("__sancov_gen") || name.starts_with("sancov.module_ctor")
            });
            assert_eq!(instrumented, [""; 0], "{}", artifact.name);
        }
    }

    #[test]
    fn installs_and_repairs() {
        let folder = std::env::temp_dir().join(format!("rkcov-install-{}", std::process::id()));
        install(&folder).unwrap();
        let path = folder.join(OBJECT.name);
        fs::write(&path, b"cut").unwrap();
        install(&folder).unwrap();
        assert_eq!(fs::read(&path).unwrap(), OBJECT.bytes);
        let files = fs::read_dir(&folder).unwrap().count();
        assert_eq!(files, ALL.len() + 1, "no partial file is left");
        assert_eq!(fs::read(folder.join(LIBRARY_LINK)).unwrap(), LIBRARY.bytes);
        fs::remove_dir_all(&folder).unwrap();
    }
}
