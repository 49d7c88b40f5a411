// SPDX-License-Identifier: MIT OR Apache-2.0
//! rkcov inside Linux: puts it into a kernel tree, builds the kernel, boots it in a guest, and runs
//! programs there.
//!
//! [`install`] changes a tree. A [`Workshop`] is the folder in which the other steps work, each
//! from where the one before left off: [`Workshop::setup`] what this machine lacks,
//! [`Workshop::build`] a [`Flavor`] of the kernel, [`Machine::run`] a [`Job`] in it. [`rkcov_guest`] is
//! the other end of that: the first process inside. [`hardware`] is what a program in there can move,
//! [`documentation`] has programs to run.

pub mod boot;
mod console;
pub mod documentation;
pub mod error;
pub mod flavor;
pub mod hardware;
mod init;
pub mod initramfs;
mod input;
pub mod install;
mod interrupt;
pub mod inventory;
pub mod kernel;
mod kvm;
pub mod module;
mod net;
pub mod own;
pub mod program;
pub mod progress;
pub mod setup;
mod verify;
mod vm;

pub use boot::{Clock, Machine};
pub use error::{Error, Result};
pub use flavor::{Arch, Checks, Flavor, Kcov};
pub use inventory::{Item, Kept};
pub use kernel::{Image, Layout, Recipe};
pub use kvm::Kvm;
pub use module::Module;
pub use own::Own;
pub use progress::Progress;
pub use rkcov_guest::job::Input;
pub use rkcov_guest::{answer, Coverage, Device, Job, Modules, Share};
pub use setup::Workshop;
