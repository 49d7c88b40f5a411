// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runtime's files in a system's folders, and out of them again.

use crate::manual;
use rkcov_artifacts::{
    replace, Artifact, ARCHIVE, HEADER, LIBRARY, LIBRARY_LINK, LISTENERS, MODULE_OBJECT, OBJECT,
    PRELOAD, STATIC_OBJECT,
};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

/// Where the list of what was installed stands, below the prefix.
const MANIFEST: &str = "share/rkcov/manifest";

/// Why something is not installed, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path that pkg-config would take apart.
    #[error("rkcov.pc cannot contain {}: it has white space, quotes, $, # or \\ in it", .0.display())]
    Path(PathBuf),
    /// A folder of libraries that is not below the prefix.
    #[error("{} is not below the prefix: give --libdir as lib or lib/ARCHITECTURE", .0.display())]
    Outside(PathBuf),
    /// The path of this program is not known.
    #[error("cannot determine the path of the rkcov command")]
    Ourselves(#[source] io::Error),
    /// `cargo-rkcov` is not beside this program.
    #[error("{} does not exist: `cargo build -p rkcov-cli` and `cargo install` build both commands", .0.display())]
    Sibling(PathBuf),
    /// The manual pages cannot be made.
    #[error("cannot make the manual pages")]
    Manual(#[source] io::Error),
    /// The working folder is gone.
    #[error("cannot determine the current folder")]
    Here(#[source] io::Error),
    /// Nothing was installed there.
    #[error("nothing is installed under {}", .0.display())]
    Nothing(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// A file cannot be removed.
    #[error("cannot remove {}", .0.display())]
    Remove(PathBuf, #[source] io::Error),
}

/// A prefix (`/usr/local`) on this system, or on another whose root is a folder of this one.
#[derive(Debug)]
pub struct Tree {
    prefix: PathBuf,
    /// The prefix as it is seen from here.
    root: PathBuf,
}

impl Tree {
    /// The tree at `prefix`, on the system whose root is `destdir`.
    ///
    /// # Errors
    /// `prefix` is relative and the working folder is gone.
    pub fn new(prefix: &Path, destdir: Option<&Path>) -> Result<Self, Error> {
        let prefix = std::path::absolute(prefix).map_err(Error::Here)?;
        let root = match destdir {
            Some(system) => system.join(prefix.strip_prefix("/").unwrap_or(&prefix)),
            None => prefix.clone(),
        };
        Ok(Self { prefix, root })
    }

    /// Writes all files, those of `commands` as the commands (a name and a program each) with their
    /// manual pages and completions, and removes those of an earlier installation
    /// that are none of these. Gives the number of files.
    ///
    /// # Errors
    /// A path cannot stand in `rkcov.pc`, or a file cannot be written.
    pub fn install(&self, libdir: &Path, commands: &[(&str, PathBuf)]) -> Result<usize, Error> {
        let within = |part: Component<'_>| matches!(part, Component::Normal(_));
        if !libdir.components().all(within) {
            return Err(Error::Outside(libdir.to_owned()));
        }
        let pc = self.pkg_config(libdir)?;
        let before = self.manifest().unwrap_or_default();
        let mut to = Installation::new(&self.root, before.folders);

        let objects = libdir.join("rkcov");
        for header in [HEADER].into_iter().chain(LISTENERS) {
            to.artifact(Path::new("include"), header)?;
        }
        to.artifact(libdir, LIBRARY)?;
        to.artifact(libdir, ARCHIVE)?;
        for object in [OBJECT, STATIC_OBJECT, MODULE_OBJECT, PRELOAD] {
            to.artifact(&objects, object)?;
        }
        to.file(&libdir.join(LIBRARY_LINK), |path| {
            symlink(LIBRARY.name, path)
        })?;
        to.file(&libdir.join("pkgconfig/rkcov.pc"), |path| {
            fs::write(path, &pc)
        })?;
        for (name, program) in commands {
            to.file(&Path::new("bin").join(name), |path| {
                fs::copy(program, path).map(drop)
            })?;
        }
        if !commands.is_empty() {
            for file in manual::files().map_err(Error::Manual)? {
                to.file(&file.path, |path| fs::write(path, &file.bytes))?;
            }
        }
        to.what.files.insert(MANIFEST.into());
        for path in before.files.difference(&to.what.files) {
            self.remove(path)?;
        }
        self.prune(&mut to.what.folders);
        to.folder_of(Path::new(MANIFEST))?;
        let (text, files) = (to.what.text(), to.what.files.len());
        to.file(Path::new(MANIFEST), |path| fs::write(path, text))?;
        Ok(files)
    }

    /// Removes what the manifest names: its files, and its folders if nobody else has put something
    /// there. Gives the number of files.
    ///
    /// # Errors
    /// There is no manifest, or a file cannot be removed.
    pub fn uninstall(&self) -> Result<usize, Error> {
        let mut what = self
            .manifest()
            .ok_or_else(|| Error::Nothing(self.root.clone()))?;
        // The manifest goes last: what was not removed is still known.
        let manifest = Path::new(MANIFEST);
        for path in what.files.iter().filter(|path| *path != manifest) {
            self.remove(path)?;
        }
        self.remove(manifest)?;
        self.prune(&mut what.folders);
        Ok(what.files.len())
    }

    fn manifest(&self) -> Option<Manifest> {
        let text = fs::read_to_string(self.root.join(MANIFEST)).ok()?;
        Some(Manifest::parse(&text))
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        let full = self.root.join(path);
        match fs::remove_file(&full) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Remove(full, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes those of these folders that are empty, and leaves the others in the set.
    fn prune(&self, folders: &mut BTreeSet<PathBuf>) {
        // A folder stands before what is in it.
        for folder in std::mem::take(folders).into_iter().rev() {
            if fs::remove_dir(self.root.join(&folder)).is_err() {
                folders.insert(folder);
            }
        }
    }

    /// What pkg-config knows. The module's object belongs into every file that is linked: by it the
    /// runtime knows the file's gate. Static programs have the archive, and no dynamic linker that
    /// would put the runtime's function before libc's.
    fn pkg_config(&self, libdir: &Path) -> Result<String, Error> {
        let plain = |path: &Path| match path.to_str() {
            Some(text) if !text.contains(|c: char| c.is_whitespace() || "'\"$#\\".contains(c)) => {
                Ok(text.to_owned())
            }
            _ => Err(Error::Path(path.to_owned())),
        };
        Ok(format!(
            "prefix={prefix}\n\
             includedir=${{prefix}}/include\n\
             libdir=${{prefix}}/{libdir}\n\
             \n\
             Name: rkcov\n\
             Description: The kcov interface inside of a process\n\
             URL: {url}\n\
             Version: {version}\n\
             Cflags: -I${{includedir}}\n\
             Libs: ${{libdir}}/rkcov/{module} -L${{libdir}} -lrkcov\n\
             Libs.private: -Wl,--wrap=pthread_create,--wrap=pthread_setname_np,-u,pthread_setname_np -pthread\n",
            prefix = plain(&self.prefix)?,
            libdir = plain(libdir)?,
            url = env!("CARGO_PKG_REPOSITORY"),
            version = env!("CARGO_PKG_VERSION"),
            module = MODULE_OBJECT.name,
        ))
    }
}

/// What was installed, as paths below the prefix, none of which leads out of it.
#[derive(Debug, Default)]
struct Manifest {
    files: BTreeSet<PathBuf>,
    /// Those that were not there before.
    folders: BTreeSet<PathBuf>,
}

impl Manifest {
    /// Reads a list with a path in each line, those of folders with a slash at the end.
    fn parse(text: &str) -> Self {
        let within = |line: &&str| {
            let mut parts = Path::new(line).components();
            parts.all(|part| matches!(part, Component::Normal(_)))
        };
        let mut what = Self::default();
        for line in text.lines().filter(within) {
            match line.strip_suffix('/') {
                Some(folder) => what.folders.insert(folder.into()),
                None => what.files.insert(line.into()),
            };
        }
        what
    }

    fn text(&self) -> String {
        let files = self
            .files
            .iter()
            .map(|path| format!("{}\n", path.display()));
        let folders = self.folders.iter();
        files
            .chain(folders.map(|path| format!("{}/\n", path.display())))
            .collect()
    }
}

/// What is on its way into a tree.
struct Installation<'a> {
    root: &'a Path,
    what: Manifest,
}

impl<'a> Installation<'a> {
    /// Begins with the folders that an earlier installation made.
    fn new(root: &'a Path, folders: BTreeSet<PathBuf>) -> Self {
        let files = BTreeSet::new();
        Self {
            root,
            what: Manifest { files, folders },
        }
    }

    fn artifact(&mut self, folder: &Path, artifact: Artifact) -> Result<(), Error> {
        self.file(&folder.join(artifact.name), |path| {
            fs::write(path, artifact.bytes)
        })
    }

    /// Makes the folders in which a file is to stand, and remembers which were not there.
    fn folder_of(&mut self, path: &Path) -> Result<(), Error> {
        let folders = path.ancestors().skip(1);
        let made = folders.filter(|folder| !self.root.join(folder).exists());
        let made: Vec<PathBuf> = made.map(Path::to_owned).collect();
        let full = self.root.join(path);
        fs::create_dir_all(full.parent().unwrap_or(self.root))
            .map_err(|error| Error::Write(full, error))?;
        // The prefix itself stays.
        let below = |folder: &PathBuf| !folder.as_os_str().is_empty();
        self.what.folders.extend(made.into_iter().filter(below));
        Ok(())
    }

    /// Has `make` make the file that is to stand at `path` in the tree.
    fn file(
        &mut self,
        path: &Path,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), Error> {
        self.folder_of(path)?;
        let full = self.root.join(path);
        replace(&full, make).map_err(|error| Error::Write(full, error))?;
        self.what.files.insert(path.to_owned());
        Ok(())
    }
}
