// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where `cargo rkcov` builds a project, and what is reported of it.

use super::options::{Shown, Which};
use crate::cargo::args::Known;
use crate::cargo::project::{self, Chosen, Project};
use crate::cargo::tools::{self, moved, packages_left_out, quoted, Plan, Settings, Wishes};
use crate::cargo::traces::Traces;
use crate::cargo::Error as CargoError;
use crate::error::{say, Error};
use crate::record::Mode;
use crate::reporter::{self, Request};
use rkcov_report::sources::Pattern;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Where a build goes, and what it is of.
pub(super) struct Place {
    pub(super) known: Known,
    pub(super) project: Project,
    pub(super) chosen: Chosen,
    pub(super) host: String,
    /// Cargo's target folder.
    pub(super) target: PathBuf,
}

impl Place {
    pub(super) fn of(which: &Which) -> Result<Self, Error> {
        let packages = &which.packages;
        let known = Known::read(&which.cargo);
        let host = project::host()?;
        let other = known.targets.iter().find(|target| **target != host);
        if let Some(target) = other.cloned() {
            return Err(CargoError::Target { target, host }.into());
        }
        let project = Project::read(
            &known.project,
            !packages.include.is_empty() || packages.with_c,
        )?;
        let chosen =
            project.choose(&known.choice(&packages.include, &packages.exclude_from_report))?;
        let target = target_of(&known, &project);
        Ok(Self {
            known,
            project,
            chosen,
            host,
            target,
        })
    }

    /// Cargo's target folder for what is to be run in this mode. Every edge of a program has to call where
    /// more is wanted than whether it ran, so that is another build.
    pub(super) fn built(&self, mode: Mode) -> PathBuf {
        match mode {
            Mode::Trace | Mode::Cmp if HAS_STORES && self.known.target_dir.is_none() => {
                self.target.join("calls")
            }
            _ => self.target.clone(),
        }
    }

    /// The command line of cargo's `subcommand`, with all that makes it build what we want.
    pub(super) fn cargo(
        &self,
        subcommand: &[&str],
        which: &Which,
        mode: Mode,
    ) -> Result<Command, Error> {
        let with_config = self.known.project.iter().any(|word| word == "--config");
        let mut settings = self.tools(which, mode, with_config)?;
        // A crate is one codegen unit here: all of it is compiled anew anyway.
        settings.config.push("build.incremental=false".into());
        let mut cargo = project::cargo();
        cargo.args(subcommand).envs(settings.variables);
        if self.known.targets.is_empty() {
            cargo.args(["--target", &self.host]);
        }
        if self.known.target_dir.is_none() {
            cargo.arg("--target-dir").arg(self.built(mode));
        }
        if self.builds_elsewhere() {
            let ours = self.built(mode);
            let ours = ours.to_string_lossy();
            settings
                .config
                .push(format!("build.build-dir={}", quoted(&ours)));
        }
        for setting in settings.config {
            cargo.arg("--config").arg(setting);
        }
        cargo.args(&which.cargo);
        Ok(cargo)
    }

    /// Variables with which any cargo builds what we want. Other programs than cargo see them, too.
    pub(super) fn variables(
        &self,
        which: &Which,
        mode: Mode,
    ) -> Result<Vec<(&'static str, OsString)>, Error> {
        let mut variables = self.tools(which, mode, true)?.variables;
        let built = self.built(mode).into_os_string();
        if self.builds_elsewhere() {
            variables.push(("CARGO_BUILD_BUILD_DIR", built.clone()));
        }
        variables.extend([
            ("CARGO_BUILD_TARGET", self.host.clone().into()),
            ("CARGO_TARGET_DIR", built),
            ("CARGO_INCREMENTAL", "0".into()),
        ]);
        Ok(variables)
    }

    /// Our tools, in the places of the user's.
    fn tools(&self, which: &Which, mode: Mode, by_variables: bool) -> Result<Settings, Error> {
        let wishes = Wishes {
            comparisons: mode == Mode::Cmp,
            stores: mode == Mode::Unique && HAS_STORES,
            dead_code: !which.packages.without_dead_code,
            with_c: which.packages.with_c,
        };
        let users = self.project.tools(&self.known.project);
        let plan = Plan::new(&self.chosen, wishes, users, &self.target)?;
        Ok(plan.install(by_variables)?)
    }

    /// Whether the user's cargo does not keep all it makes in its target folder.
    fn builds_elsewhere(&self) -> bool {
        let folder = self.project.build_directory.as_ref();
        folder.is_some_and(|folder| *folder != self.project.target_directory)
    }

    /// Its traces.
    pub(super) fn traces(&self) -> Traces {
        Traces::new(self.target.join("trace"))
    }

    /// Reports these traces.
    pub(super) fn report(
        &self,
        traces: Vec<PathBuf>,
        which: &Which,
        shown: Shown,
    ) -> Result<ExitCode, Error> {
        if traces.is_empty() {
            return Err(CargoError::NoTraces(self.traces().folder().to_owned()).into());
        }
        let mut request = Request {
            files: traces,
            formats: shown.formats(),
            output: shown.output_path,
            exclude: shown.ignore_filename_regex,
            moved: moved(&self.target),
            options: shown.options,
            ..Request::default()
        };
        self.choose_sources(&mut request, which, shown.include_tests);
        for package in packages_left_out(&self.target) {
            say(format_args!(
                "rkcov: {package}: functions that nothing calls are not counted, because it does not link with them"
            ));
        }
        Ok(reporter::write(request)?)
    }

    /// Says which sources are shown.
    pub(super) fn choose_sources(&self, request: &mut Request, which: &Which, with_tests: bool) {
        // What build scripts make is in there.
        request.left_out.push(Pattern::below(&self.target));
        if !with_tests {
            for package in &self.chosen.packages {
                for folder in ["tests", "benches", "examples"] {
                    request
                        .left_out
                        .push(Pattern::below(&package.folder().join(folder)));
                }
            }
        }
        let with_c = which.packages.with_c;
        if with_c {
            let folders = self.project.with_native_code();
            request.project.extend(folders.map(Path::to_owned));
        }
        if !request.options.filter.is_empty()
            || request.options.all_sources
            || with_c
            || self.chosen.is_workspace
        {
            return;
        }
        let folders = || self.chosen.packages.iter().map(|package| package.folder());
        request.options.filter.extend(folders().map(Pattern::below));
        // A package's folder may hold other packages.
        for other in self.project.members().map(|package| package.folder()) {
            let inside = folders().any(|folder| other != folder && other.starts_with(folder));
            let around = folders().any(|folder| folder.starts_with(other));
            if inside && !around {
                request.left_out.push(Pattern::below(other));
            }
        }
    }
}

/// Cargo's target folder, as we choose it.
pub(super) fn target_of(known: &Known, project: &Project) -> PathBuf {
    match &known.target_dir {
        Some(folder) => std::path::absolute(folder).unwrap_or_else(|_| folder.clone()),
        // It is chosen already where the variables of `cargo rkcov env` are set.
        None if tools::target_of_environment().as_ref() == Some(&project.target_directory) => {
            project.target_directory.clone()
        }
        None => project.target_directory.join("rkcov"),
    }
}

/// Whether guards' calls become stores.
const HAS_STORES: bool = cfg!(target_arch = "x86_64");
