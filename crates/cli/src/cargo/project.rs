// SPDX-License-Identifier: MIT OR Apache-2.0
//! The project, as cargo sees it.

use super::tools::Tool;
use super::Error;
use rkcov_report::sources::Pattern;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// The cargo that called us, or the one in `$PATH`.
#[must_use]
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// What `cargo metadata` says.
#[derive(Debug, Deserialize)]
pub struct Project {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    /// The folder of the workspace's own manifest.
    pub workspace_root: PathBuf,
    /// Where cargo builds when nobody says otherwise.
    pub target_directory: PathBuf,
    /// Where cargo puts what it needs in between, if it says so.
    #[serde(default)]
    pub build_directory: Option<PathBuf>,
}

/// A package.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    id: String,
    manifest_path: PathBuf,
    /// The native library that it brings.
    #[serde(default)]
    links: Option<String>,
}

impl Package {
    /// The folder of its manifest.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }

    /// Name and version, as cargo writes them.
    #[must_use]
    pub fn spec(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Whether `spec` is its name, a glob that matches it, or name and version.
    fn is(&self, spec: &str) -> bool {
        spec == self.name
            || spec == self.spec()
            || spec
                .parse::<Pattern>()
                .is_ok_and(|glob| glob.matches(Path::new(&self.name)))
    }
}

/// What the user has cargo run in the place of rustc and rustdoc, by variables or configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "kebab-case")]
pub struct Tools {
    /// Before every rustc: sccache.
    pub rustc_wrapper: Option<PathBuf>,
    /// Before the rustc of the workspace's packages.
    pub rustc_workspace_wrapper: Option<PathBuf>,
    /// Instead of rustdoc.
    pub rustdoc: Option<PathBuf>,
}

/// The packages that a user names.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only these of the workspace (`--package`); if none is named, all.
    pub only: Vec<String>,
    /// Not these (`--exclude`, `--exclude-from-report`).
    pub without: Vec<String>,
    /// These too, of the workspace or not (`--include`).
    pub with: Vec<String>,
}

/// The packages that are instrumented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// All of them.
    pub packages: Vec<Package>,
    /// They are the whole workspace and no more.
    pub is_workspace: bool,
    /// Some are not of the workspace.
    pub has_dependencies: bool,
}

impl Project {
    /// Asks cargo. `given` is what the user tells cargo of where the project is.
    ///
    /// # Errors
    /// There is no project, or it is not in order.
    pub fn read(given: &[OsString], with_dependencies: bool) -> Result<Self, Error> {
        let mut command = cargo();
        command.args(["metadata", "--format-version=1"]).args(given);
        if !with_dependencies {
            command.arg("--no-deps");
        }
        let output = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|source| Error::Start {
                program: command.get_program().to_owned(),
                source,
            })?;
        if !output.status.success() {
            return Err(Error::Metadata(status(output.status)));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The user's tools. `given` is what the user tells cargo of where the project is.
    #[must_use]
    pub fn tools(&self, given: &[OsString]) -> Tools {
        #[derive(Default, Deserialize)]
        struct Config {
            build: Tools,
        }
        // Stable cargos answer too, if they are told to. One that does not has no answer.
        let output = cargo()
            .args(["config", "get", "-Zunstable-options", "--format=json"])
            .args(config_of(given))
            .arg("build")
            .env("RUSTC_BOOTSTRAP", "1")
            .stdin(Stdio::null())
            .output();
        let config: Config = output
            .ok()
            .and_then(|output| serde_json::from_slice(&output.stdout).ok())
            .unwrap_or_default();
        // A bare name is looked for in `$PATH`. Other paths are relative to the folder of `.cargo`.
        let absolute = |tool: PathBuf| match tool.components().count() {
            1 => tool,
            _ => self.workspace_root.join(tool),
        };
        // Ours, by `cargo rkcov env`, stand before nobody.
        let users = |variable: &str| {
            env::var_os(variable).filter(|tool| Tool::of(Path::new(tool)).is_none())
        };
        let choose = |variable: &str, configured: Option<PathBuf>| match users(variable) {
            Some(tool) => Some(tool)
                .filter(|tool| !tool.is_empty())
                .map(PathBuf::from),
            None => configured
                .filter(|tool| !tool.as_os_str().is_empty())
                .map(absolute),
        };
        Tools {
            rustc_wrapper: choose("RUSTC_WRAPPER", config.build.rustc_wrapper),
            rustc_workspace_wrapper: choose(
                "RUSTC_WORKSPACE_WRAPPER",
                config.build.rustc_workspace_wrapper,
            ),
            rustdoc: choose("RUSTDOC", config.build.rustdoc),
        }
    }

    /// The packages of the workspace.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        let members: BTreeSet<&String> = self.workspace_members.iter().collect();
        self.packages
            .iter()
            .filter(move |package| members.contains(&package.id))
    }

    /// The folders of packages that bring native code.
    pub fn with_native_code(&self) -> impl Iterator<Item = &Path> {
        let bring = |package: &&Package| package.links.is_some();
        self.packages.iter().filter(bring).map(Package::folder)
    }

    /// The packages to instrument.
    ///
    /// # Errors
    /// A package that is named is not there, or none is left.
    pub fn choose(&self, choice: &Choice) -> Result<Chosen, Error> {
        let named = |specs: &[String], package: &Package| specs.iter().any(|s| package.is(s));
        if let Some(missing) = choice
            .with
            .iter()
            .find(|spec| !self.packages.iter().any(|package| package.is(spec)))
        {
            return Err(Error::NoPackage(missing.clone()));
        }
        let members: BTreeSet<&Package> = self.members().collect();
        let mut named_only = choice.only.iter();
        if let Some(missing) = named_only.find(|spec| !members.iter().any(|m| m.is(spec))) {
            return Err(Error::NoMember(missing.clone()));
        }
        let chosen = |package: &&Package| {
            let wanted = choice.only.is_empty() || named(&choice.only, package);
            let member = members.contains(package) && wanted;
            (member && !named(&choice.without, package)) || named(&choice.with, package)
        };
        let packages: Vec<Package> = self.packages.iter().filter(chosen).cloned().collect();
        if packages.is_empty() {
            return Err(Error::NothingLeft);
        }
        let has_dependencies = packages.iter().any(|package| !members.contains(package));
        Ok(Chosen {
            is_workspace: packages.len() == members.len() && !has_dependencies,
            has_dependencies,
            packages,
        })
    }
}

/// The programs of the packages that are instrumented, of what cargo says of a build, a line for each
/// thing that it made.
#[must_use]
pub fn programs(said: &[u8], chosen: &Chosen) -> Vec<PathBuf> {
    #[derive(Deserialize)]
    struct Made {
        package_id: String,
        executable: Option<PathBuf>,
    }
    let made = said
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Made>(line).ok());
    let chosen = |made: &Made| chosen.packages.iter().any(|p| p.id == made.package_id);
    made.filter(chosen)
        .filter_map(|made| made.executable)
        .collect()
}

/// Of what cargo is told of the project, what changes its configuration.
fn config_of(given: &[OsString]) -> impl Iterator<Item = &OsString> {
    let pairs = given.windows(2).filter(|pair| pair[0] == "--config");
    pairs.flatten()
}

/// The exit status that says how cargo ended: 1 if it ended by a signal.
pub fn status(of: ExitStatus) -> u8 {
    of.code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1)
}

/// The machine that we run on, as cargo names it.
///
/// # Errors
/// Cargo cannot be run.
pub fn host() -> Result<String, Error> {
    let mut command = cargo();
    let output = command.arg("-vV").stdin(Stdio::null()).output();
    let output = output.map_err(|source| Error::Start {
        program: command.get_program().to_owned(),
        source,
    })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    let ours = || format!("{}-unknown-linux-gnu", env::consts::ARCH);
    Ok(host.map_or_else(ours, str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> Project {
        let package = |name: &str| {
            serde_json::json!({
                "name": name, "version": "1.0.0", "id": name, "manifest_path": format!("/w/{name}/Cargo.toml"),
            })
        };
        serde_json::from_value(serde_json::json!({
            "packages": [package("app"), package("app-lib"), package("tool"), package("serde")],
            "workspace_members": ["app", "app-lib", "tool"],
            "workspace_root": "/w",
            "target_directory": "/w/target",
        }))
        .unwrap()
    }

    fn chosen(only: &[&str], without: &[&str], with: &[&str]) -> Result<Vec<String>, Error> {
        let strings = |specs: &[&str]| specs.iter().map(|&spec| spec.to_owned()).collect();
        let chosen = project().choose(&Choice {
            only: strings(only),
            without: strings(without),
            with: strings(with),
        })?;
        Ok(chosen
            .packages
            .into_iter()
            .map(|package| package.name)
            .collect())
    }

    #[test]
    fn the_workspace_or_what_is_named() {
        assert_eq!(chosen(&[], &[], &[]).unwrap(), ["app", "app-lib", "tool"]);
        assert_eq!(chosen(&["app"], &[], &[]).unwrap(), ["app"]);
        assert_eq!(chosen(&["app*"], &[], &[]).unwrap(), ["app", "app-lib"]);
        assert_eq!(chosen(&["tool@1.0.0"], &[], &[]).unwrap(), ["tool"]);
        assert_eq!(chosen(&[], &["tool"], &[]).unwrap(), ["app", "app-lib"]);
        assert_eq!(
            chosen(&["tool"], &[], &["serde"]).unwrap(),
            ["tool", "serde"]
        );
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert!(
            matches!(chosen(&[], &[], &["serd"]), Err(Error::NoPackage(spec)) if spec == "serd")
        );
        assert!(
            matches!(chosen(&["app", "serde"], &[], &[]), Err(Error::NoMember(spec)) if spec == "serde")
        );
        assert!(matches!(chosen(&[], &["*"], &[]), Err(Error::NothingLeft)));
    }
}
