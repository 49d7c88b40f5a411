// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runtime's files in a system's folders, and out of them again.

use rkcov_artifacts::{
    replace, Artifact, ARCHIVE, HEADER, LIBRARY, LIBRARY_LINK, MODULE_OBJECT, OBJECT, PRELOAD,
    STATIC_OBJECT,
};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

/// Where the list of the installed files stands, below the prefix.
const MANIFEST: &str = "share/rkcov/manifest";

/// Why something is not installed, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path that pkg-config would take apart.
    #[error("{} cannot stand in rkcov.pc: it has white space, quotes, $, # or \\ in it", .0.display())]
    Path(PathBuf),
    /// A folder of libraries that is not below the prefix.
    #[error("{} is not below the prefix: give --libdir as lib or lib/ARCHITECTURE", .0.display())]
    Outside(PathBuf),
    /// The path of this program is not known.
    #[error("cannot tell where rkcov is")]
    Ourselves(#[source] io::Error),
    /// The working folder is gone.
    #[error("cannot tell which folder this is")]
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

    /// Writes all files, `command` as the command, and removes those of an earlier installation
    /// that are none of these. Gives the number of files.
    ///
    /// # Errors
    /// A path cannot stand in `rkcov.pc`, or a file cannot be written.
    pub fn install(&self, libdir: &Path, command: Option<&Path>) -> Result<usize, Error> {
        let within = |part: Component<'_>| matches!(part, Component::Normal(_));
        if !libdir.components().all(within) {
            return Err(Error::Outside(libdir.to_owned()));
        }
        let pc = self.pkg_config(libdir)?;
        let before = self.manifest().unwrap_or_default();
        let mut to = Installation::new(&self.root);

        let objects = libdir.join("rkcov");
        to.artifact(Path::new("include"), HEADER)?;
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
        if let Some(command) = command {
            to.file(Path::new("bin/rkcov"), |path| {
                fs::copy(command, path).map(drop)
            })?;
        }
        let files = to.manifest(Path::new(MANIFEST))?;
        for path in before.difference(&files) {
            self.remove(path)?;
        }
        Ok(files.len())
    }

    /// Removes what the manifest names, and the folders that are empty then. Gives the number of
    /// files.
    ///
    /// # Errors
    /// There is no manifest, or a file cannot be removed.
    pub fn uninstall(&self) -> Result<usize, Error> {
        let files = self
            .manifest()
            .ok_or_else(|| Error::Nothing(self.root.clone()))?;
        // The manifest goes last: what was not removed is still known.
        let manifest = Path::new(MANIFEST);
        for path in files.iter().filter(|path| *path != manifest) {
            self.remove(path)?;
        }
        self.remove(manifest)?;
        Ok(files.len())
    }

    /// The paths of the manifest, if there is one. None of them leads out of the prefix.
    fn manifest(&self) -> Option<BTreeSet<PathBuf>> {
        let text = fs::read_to_string(self.root.join(MANIFEST)).ok()?;
        let within = |path: &PathBuf| path.components().all(|p| matches!(p, Component::Normal(_)));
        Some(text.lines().map(PathBuf::from).filter(within).collect())
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        let full = self.root.join(path);
        match fs::remove_file(&full) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Remove(full, error));
            }
            _ => {}
        }
        // Those that others use are not empty, and stay.
        let folders = path.ancestors().skip(1);
        for folder in folders.filter(|folder| !folder.as_os_str().is_empty()) {
            if fs::remove_dir(self.root.join(folder)).is_err() {
                break;
            }
        }
        Ok(())
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
             Libs.private: -Wl,--wrap=pthread_create -pthread\n",
            prefix = plain(&self.prefix)?,
            libdir = plain(libdir)?,
            url = env!("CARGO_PKG_REPOSITORY"),
            version = env!("CARGO_PKG_VERSION"),
            module = MODULE_OBJECT.name,
        ))
    }
}

/// Files on their way into a tree.
struct Installation<'a> {
    root: &'a Path,
    files: BTreeSet<PathBuf>,
}

impl<'a> Installation<'a> {
    fn new(root: &'a Path) -> Self {
        Self {
            root,
            files: BTreeSet::new(),
        }
    }

    fn artifact(&mut self, folder: &Path, artifact: Artifact) -> Result<(), Error> {
        self.file(&folder.join(artifact.name), |path| {
            fs::write(path, artifact.bytes)
        })
    }

    /// Has `make` make the file that is to stand at `path` in the tree.
    fn file(
        &mut self,
        path: &Path,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), Error> {
        let full = self.root.join(path);
        let folder = full.parent().unwrap_or(self.root);
        fs::create_dir_all(folder)
            .and_then(|()| replace(&full, make))
            .map_err(|error| Error::Write(full, error))?;
        self.files.insert(path.to_owned());
        Ok(())
    }

    /// Writes the list of all files, its own path with them, and gives it.
    fn manifest(mut self, path: &Path) -> Result<BTreeSet<PathBuf>, Error> {
        self.files.insert(path.to_owned());
        let lines: String = self
            .files
            .iter()
            .map(|path| format!("{}\n", path.display()))
            .collect();
        self.file(path, |to| fs::write(to, lines))?;
        Ok(self.files)
    }
}
