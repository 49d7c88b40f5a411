// SPDX-License-Identifier: MIT OR Apache-2.0
//! Agents that are programs of their own: who has another kcov writes one.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rkcov_model::{Need, Nesting, Traits};

use super::Setup;

/// A program that speaks the agents' protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What its kcov is called in results.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// Its arguments before the socket and the task.
    pub arguments: Vec<OsString>,
    /// Variables of its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// How long a case may repeat itself.
    pub patience: Option<Duration>,
}

impl Program {
    /// A program without more arguments, called as its file is.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let name = path.file_stem().unwrap_or(path.as_os_str());
        Self {
            name: name.to_string_lossy().into_owned(),
            path,
            arguments: Vec::new(),
            environment: Vec::new(),
            patience: None,
        }
    }
}

/// A live host on what this program says. Until the program has described it, it is a kernel's.
#[must_use]
pub fn setup(program: &Program) -> Setup {
    let mut agent = Command::new(&program.path);
    agent.args(&program.arguments);
    agent.envs(
        program
            .environment
            .iter()
            .map(|(name, value)| (name, value)),
    );
    let traits = Traits {
        name: program.name.clone(),
        nesting: Nesting::Refuse,
        comparisons: true,
        unique: false,
        exact: false,
        markers: 0,
        first_index: 0,
        softirq_area: 0x40000,
        softirq_areas: 0,
        memory_noise: 0,
        patience: program.patience,
        lacks: Default::default(),
    };
    let traits = traits
        .lacking(&[Need::Signal], "a signal is nothing to a kernel's kcov")
        .lacking(&[Need::Nesting], "sections in each other are refused")
        .lacking(&[Need::Unique], "the agent does not say that there is one")
        .lacking(&[Need::Exact], "system calls are recorded too")
        .lacking(&[Need::Hardware], "the agent has none")
        .lacking(&[Need::Programs], "they are for a kernel's device");
    Setup { agent, traits }
}
