// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hosts that the suite can be run against.

use std::path::PathBuf;

use rkcov_model::{Host, Model, Trouble};

use crate::live::program::{self, Program};
use crate::live::{kernel, Live};
use crate::sim;

/// A host by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The reference model, as in userspace.
    ModelUserspace,
    /// The reference model, as in a kernel.
    ModelKernel,
    /// `rkcov-core` on a played machine, as in userspace.
    CoreUserspace,
    /// `rkcov-core` on a played machine, as in a kernel.
    CoreKernel,
    /// The kcov of the kernel that runs, at this path.
    Device(PathBuf),
    /// What a program says that speaks the agents' protocol.
    Agent(Program),
}

/// Hosts that need nothing but this program.
pub const SIMULATED: [Kind; 4] = [
    Kind::ModelUserspace,
    Kind::ModelKernel,
    Kind::CoreUserspace,
    Kind::CoreKernel,
];

impl Kind {
    /// The host with this name; `device` is where a kernel's kcov is.
    ///
    /// # Errors
    /// The names that there are.
    pub fn named(name: &str, device: PathBuf) -> Result<Self, String> {
        let all = SIMULATED.into_iter().chain([Self::Device(device)]);
        let names: Vec<_> = all.clone().map(|kind| kind.name().to_owned()).collect();
        all.into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("no host is called {name}; there are {}", names.join(", ")))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::ModelUserspace => "model-userspace",
            Self::ModelKernel => "model-kernel",
            Self::CoreUserspace => "core-userspace",
            Self::CoreKernel => "core-kernel",
            Self::Device(_) => "device",
            Self::Agent(program) => &program.name,
        }
    }

    /// Whether its tasks are real ones.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Device(_) | Self::Agent(_))
    }

    /// A new one.
    ///
    /// # Errors
    /// If it cannot be had here.
    pub fn make(&self) -> Result<Box<dyn Host>, Trouble> {
        Ok(match self {
            Self::ModelUserspace => Box::new(Model::userspace()),
            Self::ModelKernel => Box::new(Model::kernel()),
            Self::CoreUserspace => sim::userspace(),
            Self::CoreKernel => sim::kernel(),
            Self::Device(path) => Box::new(Live::new(kernel::setup(path)?)?),
            Self::Agent(program) => Box::new(Live::new(program::setup(program))?),
        })
    }
}
