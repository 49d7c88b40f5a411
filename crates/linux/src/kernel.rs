// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the source package to an image that boots.
//!
//! In the cache, below the version of the package:
//! ```text
//! source/          the tree, with rkcov in it
//! build/NAME/      one build folder for both kcovs: switching rebuilds a handful of objects
//! build/NAME.log   what the last build there printed
//! image/FLAVOR/    kernel, vmlinux, config and modules of the last build of that flavor
//! ```
//! For a tree of the user's own the same is in `trees/NAME`, where `source` is a link to the tree.

use crate::error::{io_error, Error, Result};
use crate::flavor::{Arch, Flavor};
use crate::install;
use crate::progress::{is_object, run_counted, run_logged, Objects, Progress};
use crate::setup::{Workshop, LLVM};
use crate::verify;
use object::{Object, ObjectSection, SectionKind};
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// Debian's rustc for the web browser, which is newer than its rustc.
pub(crate) const RUSTC: &str = "/usr/bin/rustc";

/// A kernel that was built.
#[derive(Clone, Debug)]
pub struct Image {
    /// Which it is.
    pub flavor: Flavor,
    folder: PathBuf,
    /// What boots.
    pub kernel: PathBuf,
    /// The same with symbols and debug information.
    pub vmlinux: PathBuf,
    /// What starts in the guest, unless that is the very program which boots it.
    pub init: Option<PathBuf>,
    /// Of a kernel that the user built: what is not in a folder of ours.
    own: Option<OwnFiles>,
}

/// What is known of a kernel that the user built.
#[derive(Clone, Debug)]
struct OwnFiles {
    source: PathBuf,
    build_id: Option<String>,
}

/// What a kernel is built from, and how.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Which kernel.
    pub flavor: Flavor,
    /// The tree; `None` for Debian's.
    pub tree: Option<PathBuf>,
    /// Lines of a configuration, on top of the flavor's.
    pub config: String,
}

impl From<Flavor> for Recipe {
    fn from(flavor: Flavor) -> Self {
        Self {
            flavor,
            tree: None,
            config: String::new(),
        }
    }
}

impl Recipe {
    /// What to build from this tree, with the lines of these files in the configuration.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn new(flavor: Flavor, tree: Option<&Path>, files: &[PathBuf]) -> Result<Self> {
        let mut config = String::new();
        for file in files {
            config += &fs::read_to_string(file).map_err(io_error(file))?;
            config.push('\n');
        }
        Ok(Self {
            flavor,
            tree: tree.map(Path::to_owned),
            config,
        })
    }

    /// The whole configuration, on top of `tinyconfig`: the flavor's without the options that the
    /// recipe sets, then those.
    fn config(&self) -> String {
        let set: Vec<&str> = self.config.lines().filter_map(option_of).collect();
        let flavor = self.flavor.config();
        let kept = flavor.lines().filter(|line| match option_of(line) {
            Some(option) => !set.contains(&option),
            None => true,
        });
        kept.chain(self.config.lines())
            .fold(String::new(), |config, line| config + line + "\n")
    }

    /// What the configuration sets this option to.
    pub(crate) fn value(&self, option: &str) -> Option<String> {
        let config = self.config();
        let set = |line: &str| Some(line.strip_prefix(option)?.strip_prefix('=')?.to_owned());
        config.lines().find_map(set)
    }

    /// Whether the kernel takes modules.
    pub(crate) fn has_modules(&self) -> bool {
        self.value("CONFIG_MODULES").as_deref() == Some("y")
    }

    /// Where a tree is kept, by its name and its path.
    fn folder_of(tree: &Path) -> String {
        let mut hasher = DefaultHasher::new();
        tree.hash(&mut hasher);
        let name = tree.file_name().unwrap_or_default().to_string_lossy();
        format!("{name}-{:08x}", hasher.finish() as u32)
    }
}

impl Workshop {
    /// Builds this kernel, or what has changed of it. The first time takes from eight minutes (User
    /// Mode Linux) to half an hour on two processors. A tree of the user's own gets rkcov first, and
    /// is asked for changes each time.
    ///
    /// # Errors
    /// Something is missing, or a step failed; its log is named.
    pub fn build(&self, recipe: &Recipe, progress: &Progress) -> Result<Image> {
        let flavor = recipe.flavor;
        if let Some(why) = flavor.impossible() {
            return Err(Error::NoSuchKernel(why));
        }
        let (tree, folder) = self.place(recipe)?;
        let image = Image {
            init: self.init(flavor.arch, progress)?,
            ..Image::below(&folder, flavor)
        };
        if tree.is_none() && image.is_current(&recipe.config()) {
            return Ok(image);
        }
        self.check(flavor.arch)?;
        fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let source = {
            let _lock = Lock::take(&folder.join("lock"))?;
            let source = match &tree {
                Some(tree) => {
                    link(tree, &folder.join("source"))?;
                    tree.clone()
                }
                None => self.unpack(&folder, progress)?,
            };
            install::install(&source)?;
            source
        };
        let build = self.plan(recipe, source, &folder)?;
        // Others may build other flavors of the same tree meanwhile, but not in this folder.
        let _lock = Lock::take(&build.folder.with_extension("lock"))?;
        let _ = fs::remove_file(&build.log);
        let changed = build.configure(progress)?;
        build.make_kernel(changed, progress)?;
        verify::has_only(&build.vmlinux(), flavor.kcov)?;
        build.keep(&image)?;
        fs::write(image.key(), key(&build.config)).map_err(io_error(image.key()))?;
        Ok(image)
    }

    /// Builds the modules in a folder of the user's own for a kernel that [`Workshop::build`] made, and answers their files.
    /// kbuild puts all that it makes into that folder.
    ///
    /// # Errors
    /// A step failed; its log is named. Or there is no module.
    pub fn build_modules(
        &self,
        recipe: &Recipe,
        modules: &Path,
        progress: &Progress,
    ) -> Result<Vec<PathBuf>> {
        let arch = recipe.flavor.arch;
        self.check(arch)?;
        let modules = fs::canonicalize(modules).map_err(io_error(modules))?;
        let (tree, folder) = self.place(recipe)?;
        let source = tree.unwrap_or_else(|| folder.join("source"));
        let mut build = self.plan(recipe, source, &folder)?;
        let _lock = Lock::take(&build.folder.with_extension("lock"))?;
        let _ = fs::remove_file(&build.log);
        // Another kernel may have been built there meanwhile.
        if build.configure(progress)? {
            build.make_kernel(true, progress)?;
        }
        build.modules = Some(modules.clone());
        let what = format!("building the modules of {}", modules.display());
        build.make(&["modules"], &what, progress)?;
        let made = in_order(&modules)?;
        if made.is_empty() {
            let why = "its Makefile has no line as obj-m := NAME.o".to_owned();
            return Err(Error::Module {
                module: modules,
                why,
            });
        }
        Ok(made)
    }

    /// The user's own tree, if that is built, and the folder in which the kernel is kept.
    fn place(&self, recipe: &Recipe) -> Result<(Option<PathBuf>, PathBuf)> {
        Ok(match &recipe.tree {
            Some(tree) => {
                let tree = fs::canonicalize(tree).map_err(io_error(tree))?;
                let folder = self.root().join("trees").join(Recipe::folder_of(&tree));
                (Some(tree), folder)
            }
            None => (None, self.version_folder(recipe.flavor.arch)?),
        })
    }

    /// How this is built from `source`.
    fn plan(&self, recipe: &Recipe, source: PathBuf, folder: &Path) -> Result<Build> {
        let flavor = recipe.flavor;
        let folder = folder.join("build").join(flavor.build_name());
        let build = Build {
            flavor,
            config: recipe.config(),
            has_modules: recipe.has_modules(),
            source,
            log: folder.with_extension("log"),
            folder,
            modules: None,
            bindgen: self.bindgen(),
        };
        fs::create_dir_all(&build.folder).map_err(io_error(&build.folder))?;
        Ok(build)
    }

    fn unpack(&self, folder: &Path, progress: &Progress) -> Result<PathBuf> {
        let source = folder.join("source");
        if source.is_dir() {
            return Ok(source);
        }
        let partial = folder.join("source.partial");
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).map_err(io_error(&partial))?;
        let mut tar = Command::new("tar");
        tar.args([
            "--extract",
            "--strip-components=1",
            "--file",
            "/usr/src/linux-source-6.12.tar.xz",
        ])
        .arg("--directory")
        .arg(&partial);
        let log = self.logs()?.join("unpack.log");
        run_logged(&mut tar, "unpacking the kernel's sources", &log, progress)?;
        fs::rename(&partial, &source).map_err(io_error(&source))?;
        Ok(source)
    }
}

/// Makes `place` a link to `tree`.
fn link(tree: &Path, place: &Path) -> Result<()> {
    if fs::read_link(place).is_ok_and(|found| found == *tree) {
        return Ok(());
    }
    std::os::unix::fs::symlink(tree, place).map_err(io_error(place))
}

/// What cargo and rustup tell the programs that they start is not for Debian's rustc.
pub(crate) fn without_rustup(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("CARGO") || shown.starts_with("RUST") {
            command.env_remove(&name);
        }
    }
}

/// The files of the modules that a build made, by the list that it keeps.
fn in_order(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = folder.join("modules.order");
    let text = fs::read_to_string(&list).map_err(io_error(&list))?;
    let objects = text.lines().filter(|line| !line.is_empty());
    Ok(objects
        .map(|object| folder.join(object).with_extension("ko"))
        .collect())
}

struct Build {
    flavor: Flavor,
    config: String,
    has_modules: bool,
    source: PathBuf,
    folder: PathBuf,
    /// A folder of modules outside the tree, to build instead of the kernel.
    modules: Option<PathBuf>,
    log: PathBuf,
    bindgen: PathBuf,
}

impl Build {
    fn make(&self, targets: &[&str], what: &str, progress: &Progress) -> Result<()> {
        run_logged(&mut self.command(targets), what, &self.log, progress)
    }

    fn vmlinux(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// Makes the kernel and its modules, after its configuration has `changed` or not.
    fn make_kernel(&self, changed: bool, progress: &Progress) -> Result<()> {
        let mut targets: Vec<&str> = match self.flavor.arch {
            Arch::X86_64 => vec!["bzImage", "vmlinux"],
            Arch::Arm64 => vec!["Image", "vmlinux"],
            Arch::Uml => vec!["linux"],
        };
        if self.has_modules {
            targets.push("modules");
        }
        let whole = changed || !self.vmlinux().exists();
        self.make_objects(&targets, whole, progress)
    }

    /// The build. On a terminal make first says how much there is to do, if that may be the `whole` kernel: of less that
    /// takes longer than it is worth.
    fn make_objects(&self, targets: &[&str], whole: bool, progress: &Progress) -> Result<()> {
        let flavor = self.flavor;
        let objects = if whole && progress.is_seen() {
            // Without what this makes, make does not come to the objects.
            self.make(&["prepare"], &format!("preparing {flavor}"), progress)?;
            progress.step("counting objects");
            let objects = self.objects();
            progress.end();
            objects
        } else {
            None
        };
        let what = format!("building {flavor}");
        let mut make = self.command(targets);
        run_counted(&mut make, &what, Objects(objects), &self.log, progress)
    }

    /// How many objects of the kernel itself make would make, if it can say so. What comes after them, the link, is of
    /// files that are not there yet: of that a dry run knows nothing.
    fn objects(&self) -> Option<u64> {
        /// What kbuild calls all folders of the tree.
        const ALL: &str = ".";
        let mut make = self.command(&[ALL]);
        let output = make.arg("--dry-run").stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout);
        output.status.success().then(|| objects_in(&said))
    }

    fn command(&self, targets: &[&str]) -> Command {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let variable = |name: &str, value: &Path| {
            let mut word = OsString::from(name);
            word.push("=");
            word.push(value);
            word
        };
        // Whoever waits for a kernel still wants to work.
        let mut make = Command::new("nice");
        make.args(["-n", "10", "make"])
            .arg(format!("-j{jobs}"))
            .arg("-C")
            .arg(&self.source)
            .arg(variable("O", &self.folder))
            .arg(format!("LLVM=-{LLVM}"))
            .arg(variable("RUSTC", Path::new(RUSTC)))
            // For the build's own programs. The first rustc in the path may be rustup's, which works
            // only with the variables that are removed below.
            .arg(variable("HOSTRUSTC", Path::new(RUSTC)))
            .arg(variable("BINDGEN", &self.bindgen))
            .args(self.modules.iter().map(|folder| variable("M", folder)))
            .args(targets)
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL");
        without_rustup(&mut make);
        make.arg(match self.flavor.arch {
            // With "x86_64" the options that only 64 bits have would begin turned off.
            Arch::X86_64 => "ARCH=x86",
            Arch::Arm64 => "ARCH=arm64",
            Arch::Uml => "ARCH=um",
        });
        make
    }

    /// Makes the configuration if it is not this flavor's already. Answers whether it was another.
    fn configure(&self, progress: &Progress) -> Result<bool> {
        let wanted = &self.config;
        let (config, stamp) = (
            self.folder.join(".config"),
            self.folder.join(".config.rkcov"),
        );
        if config.is_file() && fs::read_to_string(&stamp).is_ok_and(|s| s == *wanted) {
            return Ok(false);
        }
        self.make(&["tinyconfig"], "configuring", progress)?;
        let mut text = fs::read_to_string(&config).map_err(io_error(&config))?;
        text.push_str(wanted);
        fs::write(&config, text).map_err(io_error(&config))?;
        self.make(&["olddefconfig"], "configuring", progress)?;
        let text = fs::read_to_string(&config).map_err(io_error(&config))?;
        let options = not_in_effect(wanted, &text);
        if !options.is_empty() {
            return Err(Error::Config { options });
        }
        fs::write(&stamp, wanted).map_err(io_error(&stamp))?;
        Ok(true)
    }

    /// Copies what was built to where the next build does not touch it.
    fn keep(&self, image: &Image) -> Result<()> {
        let built = match self.flavor.arch {
            Arch::X86_64 => "arch/x86/boot/bzImage",
            Arch::Arm64 => "arch/arm64/boot/Image",
            Arch::Uml => "linux",
        };
        fs::create_dir_all(&image.folder).map_err(io_error(&image.folder))?;
        for (from, to) in [
            (built, &image.kernel),
            ("vmlinux", &image.vmlinux),
            (".config", &image.folder.join("config")),
        ] {
            copy_if_newer(&self.folder.join(from), to)?;
        }
        let kept = image.modules();
        // None is of an earlier configuration.
        if kept.is_dir() {
            fs::remove_dir_all(&kept).map_err(io_error(&kept))?;
        }
        if !self.has_modules {
            return Ok(());
        }
        fs::create_dir_all(&kept).map_err(io_error(&kept))?;
        for module in in_order(&self.folder)? {
            let to = kept.join(module.file_name().unwrap_or_default());
            fs::copy(&module, to).map_err(io_error(&module))?;
        }
        Ok(())
    }
}

/// Where a kernel's code lies, in the addresses that kcov reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The linker's identity of the file.
    pub build_id: Vec<u8>,
    /// From the first to the last byte of code.
    pub range: Range<u64>,
    /// The sections of code, in order.
    pub text: Vec<Range<u64>>,
}

impl Image {
    /// Where its code lies.
    ///
    /// # Errors
    /// `vmlinux` cannot be read.
    pub fn layout(&self) -> Result<Layout> {
        let data = fs::read(&self.vmlinux).map_err(io_error(&self.vmlinux))?;
        let bad = |e: object::Error| io_error(&self.vmlinux)(io::Error::other(e));
        let elf = object::File::parse(&*data).map_err(bad)?;
        let build_id = elf.build_id().map_err(bad)?.unwrap_or_default().to_vec();
        let is_code = |s: &object::Section<'_, '_>| s.kind() == SectionKind::Text && s.size() > 0;
        let mut text: Vec<Range<u64>> = elf
            .sections()
            .filter(is_code)
            .map(|s| s.address()..s.address().saturating_add(s.size()))
            .collect();
        text.sort_by_key(|r| r.start);
        let start = text.first().map_or(0, |r| r.start);
        let end = text.last().map_or(0, |r| r.end);
        Ok(Layout {
            build_id,
            range: start..end,
            text,
        })
    }

    /// The tree that it was built from.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        match &self.own {
            Some(own) => own.source.clone(),
            // Below the version's folder stand image/FLAVOR and source.
            None => self.folder.join("../../source"),
        }
    }

    /// Where the modules are that were built with it.
    pub(crate) fn modules(&self) -> PathBuf {
        self.folder.join("modules")
    }

    /// The build id, as digits, that the kernel must have once it runs: only if the user built it can `vmlinux` be
    /// another's.
    #[must_use]
    pub fn expected(&self) -> Option<&str> {
        self.own.as_ref()?.build_id.as_deref()
    }

    /// Whether the user built it.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// One that the user built from `source`.
    pub(crate) fn own(
        flavor: Flavor,
        kernel: PathBuf,
        vmlinux: PathBuf,
        init: Option<PathBuf>,
        source: PathBuf,
        build_id: Option<String>,
    ) -> Self {
        Self {
            flavor,
            folder: vmlinux.parent().map(Path::to_owned).unwrap_or_default(),
            kernel,
            vmlinux,
            init,
            own: Some(OwnFiles { source, build_id }),
        }
    }

    /// Where it is kept in a version's folder.
    pub(crate) fn below(version: &Path, flavor: Flavor) -> Self {
        let folder = version.join("image").join(flavor.to_string());
        let (kernel, vmlinux) = (folder.join("kernel"), folder.join("vmlinux"));
        Self {
            flavor,
            folder,
            kernel,
            vmlinux,
            init: None,
            own: None,
        }
    }

    /// Whether it is there, and is what would be built now.
    pub(crate) fn is_current(&self, config: &str) -> bool {
        fs::read_to_string(self.key()).is_ok_and(|found| found == key(config))
    }

    /// Says of what the image was built: see [`key`].
    fn key(&self) -> PathBuf {
        self.folder.join("key")
    }
}

/// What an image depends on, besides the version of the kernel: its configuration and what is put
/// into the tree. The compilers are left out: who changes one and wants it used removes the image.
fn key(config: &str) -> String {
    let mut hasher = DefaultHasher::new();
    install::content().for_each(|part| part.hash(&mut hasher));
    config.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn copy_if_newer(from: &Path, to: &Path) -> Result<()> {
    let written = |path: &Path| fs::metadata(path).and_then(|m| m.modified());
    if matches!((written(from), written(to)), (Ok(a), Ok(b)) if a <= b) {
        return Ok(());
    }
    // Not over the old file: a guest may run it.
    let partial = to.with_extension("partial");
    fs::copy(from, &partial).map_err(io_error(from))?;
    fs::rename(&partial, to).map_err(io_error(to))
}

/// The lines of `wanted` that do not hold in the configuration `config`. An option that is to be
/// off may also be unknown there.
fn not_in_effect(wanted: &str, config: &str) -> Vec<String> {
    let is_set = |name: &str| config.lines().any(|l| l.starts_with(&format!("{name}=")));
    wanted
        .lines()
        .filter(|line| match line.strip_suffix("=n").or_else(|| off(line)) {
            Some(name) => is_set(name),
            None => line.starts_with("CONFIG_") && !config.lines().any(|l| l == *line),
        })
        .map(str::to_owned)
        .collect()
}

/// The objects in a dry run of make: before it makes something it says so by a command `echo '  CC      init/main.o'`.
fn objects_in(dry_run: &str) -> u64 {
    let said = dry_run
        .lines()
        .filter_map(|line| line.split_once("echo '")?.1.split_once('\''));
    said.filter(|(words, _)| is_object(words)).count() as u64
}

/// The option that a line of a configuration sets, or turns off.
fn option_of(line: &str) -> Option<&str> {
    match line.split_once('=') {
        Some((name, _)) if name.starts_with("CONFIG_") => Some(name),
        _ => off(line),
    }
}

/// The option that a line `# CONFIG_X is not set` names.
fn off(line: &str) -> Option<&str> {
    line.strip_prefix("# ")?
        .strip_suffix(" is not set")
        .filter(|name| name.starts_with("CONFIG_"))
}

/// A lock file, held until dropped.
struct Lock(#[allow(dead_code, reason = "closing it gives the lock back")] File);

impl Lock {
    fn take(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(io_error(path))?;
        // SAFETY: an open file.
        match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } {
            0 => Ok(Self(file)),
            _ => Err(io_error(path)(io::Error::last_os_error())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flavor::{Checks, Kcov};

    #[test]
    fn no_program_of_rustups_is_used() {
        let build = Build {
            flavor: Flavor {
                arch: Arch::Uml,
                kcov: Kcov::Rust,
                checks: Checks::Plain,
            },
            config: String::new(),
            has_modules: false,
            source: "/source".into(),
            folder: "/folder".into(),
            modules: None,
            log: "/log".into(),
            bindgen: "/bindgen".into(),
        };
        let command = build.command(&["vmlinux"]);
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        for variable in ["RUSTC", "HOSTRUSTC"] {
            assert!(
                words.contains(&format!("{variable}={RUSTC}").into()),
                "{words:?}"
            );
        }
        assert!(words.contains(&"BINDGEN=/bindgen".into()), "{words:?}");
    }

    #[test]
    fn objects_are_counted_where_make_would_make_them() {
        let dry_run = "make -f Makefile.build obj=init\n\
             set -e;  echo '  CC      init/main.o';   trap 'rm -f init/main.o' HUP;  clang -o init/main.o\n\
             :\n\
             set -e;  echo '  AR      init/built-in.a';  llvm-ar init/main.o\n\
             set -e;  echo '  RUSTC L rust/core.o';   rustc\n";
        assert_eq!(objects_in(dry_run), 2);
    }

    #[test]
    fn options_of_a_recipe_replace_those_of_the_flavor() {
        let flavor = Flavor {
            arch: Arch::Uml,
            kcov: Kcov::Rust,
            checks: Checks::Plain,
        };
        let mut recipe = Recipe::from(flavor);
        assert_eq!(recipe.config(), flavor.config());
        assert!(flavor.config().contains("CONFIG_TTY=y\n"));
        assert!(flavor.config().contains("# CONFIG_MODULES is not set\n"));
        recipe.config = "# CONFIG_TTY is not set\nCONFIG_MODULES=y\nCONFIG_NEW=7".to_owned();
        let config = recipe.config();
        assert!(config.ends_with("\n# CONFIG_TTY is not set\nCONFIG_MODULES=y\nCONFIG_NEW=7\n"));
        assert!(!config.contains("CONFIG_TTY=y"), "{config}");
        assert!(!config.contains("# CONFIG_MODULES"), "{config}");
        assert_eq!(config.lines().count(), flavor.config().lines().count() + 1);
    }

    #[test]
    fn options_without_effect_are_found() {
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=0x40\n";
        let wanted = "# a comment\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_C=0x40\n# CONFIG_D is not set\n";
        assert_eq!(not_in_effect(wanted, config), [""; 0]);
        let wanted = "CONFIG_A=m\nCONFIG_B=y\nCONFIG_C=n\n# CONFIG_A is not set\nCONFIG_E=y\n";
        let lines: Vec<&str> = wanted.lines().collect();
        assert_eq!(not_in_effect(wanted, config), lines);
    }
}
