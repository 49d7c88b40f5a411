// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments that bring the runtime in.

use super::plan::Link;
use super::response::Argument;
use rkcov_artifacts::{Artifact, LIBRARY, MODULE_OBJECT, OBJECT, STATIC_OBJECT};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What an executable exports of the runtime, for the instrumented libraries that it loads.
const EXPORTS: [&str; 12] = [
    "__sanitizer_cov_*",
    "__rkcov_*",
    "rkcov_*",
    "kcov_*",
    "pthread_create",
    "pthread_setname_np",
    "posix_spawn",
    "posix_spawnp",
    "system",
    "popen",
    "mlockall",
    "dlclose",
];

/// The runtime's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    dir: PathBuf,
}

impl Runtime {
    /// The runtime whose files are in `dir`.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The folder with its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// What a linker is told that makes a static program with the runtime in it.
    #[must_use]
    pub fn static_options() -> [&'static str; 3] {
        [
            "--wrap=pthread_create",
            "--wrap=pthread_setname_np",
            "--undefined=pthread_setname_np",
        ]
    }

    /// The arguments with which `#include <rkcov.h>` finds its header, unless a folder of the
    /// user's or of the system has one.
    #[must_use]
    pub fn header(&self) -> [OsString; 2] {
        ["-idirafter".into(), self.dir.clone().into_os_string()]
    }

    /// The arguments that link it as `link` says. What the command line has already is not given
    /// twice: libtool copies objects that it sees a compiler link to its own command lines.
    ///
    /// Each goes to the linker by `-Xlinker`, so that neither `-x` nor a comma in a path changes it.
    #[must_use]
    pub fn arguments(&self, link: Link, given: &[Argument]) -> Vec<OsString> {
        let file = |artifact: Artifact| self.dir.join(artifact.name).into_os_string();
        let mut linker = match link {
            Link::Executable => vec![file(OBJECT)],
            Link::StaticExecutable => vec![file(STATIC_OBJECT)],
            Link::Shared => vec![file(MODULE_OBJECT), file(LIBRARY)],
        };
        linker.retain(|arg| given.iter().all(|given| given.text != *arg));
        match link {
            Link::Executable => linker.extend(EXPORTS.map(|name| {
                let mut option = OsString::from("--export-dynamic-symbol=");
                option.push(name);
                option
            })),
            // There is no dynamic linker to put the runtime's functions before libc's.
            Link::StaticExecutable => linker.extend(Self::static_options().map(OsString::from)),
            Link::Shared => {
                linker.extend(["-rpath".into(), self.dir.clone().into_os_string()]);
            }
        }
        linker
            .into_iter()
            .flat_map(|arg| ["-Xlinker".into(), arg])
            .collect()
    }
}
