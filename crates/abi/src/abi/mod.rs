// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The kcov interface, typed.
//!
//! Numbers and layouts are those of Linux's `include/uapi/linux/kcov.h`; a test compiles a C
//! program against the installed header and compares each of them. Calls that older headers lack
//! (unique mode and reset) follow the proposal "Coverage deduplication for KCOV", version 4.

pub mod errno;
pub mod handle;
pub mod ioctl;
pub mod record;
pub mod words;

pub use errno::Errno;
pub use handle::{CommonHandle, Handle, Subsystem};
pub use ioctl::{Command, RemoteArg, TraceMode, REMOTE_MAX_HANDLES};
pub use record::{CmpType, Comparison, CMP_WORDS, PC_WORDS};
pub use words::Words;
