// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a kcov answers.

use rkcov_abi::Errno;
use std::io;

/// Why a call on a kcov failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no runtime in this process.
    #[error("this program has no rkcov runtime in it; link it with \"rkcov cc\"")]
    NoRuntime,
    /// The device refused.
    #[error("{call}: {}", Errno::from_raw(*errno).map_or_else(
        || io::Error::from_raw_os_error(*errno).to_string(),
        |errno| errno.to_string(),
    ))]
    Call {
        /// The call, by its name in C.
        call: &'static str,
        /// The error number.
        errno: i32,
    },
}

impl Error {
    pub(super) fn call(call: &'static str, errno: i32) -> Self {
        Self::Call { call, errno }
    }

    /// What errno says of a call that has just failed.
    pub(super) fn last(call: &'static str) -> Self {
        let errno = io::Error::last_os_error().raw_os_error();
        Self::call(call, errno.unwrap_or(libc::EIO))
    }

    /// The error number, if the device refused.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::NoRuntime => None,
            Self::Call { errno, .. } => Some(*errno),
        }
    }

    /// The error, if it is one of those that the interface names.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.raw_os_error().and_then(Errno::from_raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_interfaces_names() {
        let said = |errno| Error::call("KCOV_ENABLE", errno).to_string();
        assert_eq!(said(524), "KCOV_ENABLE: ENOTSUPP");
        assert!(said(libc::EBADF).starts_with("KCOV_ENABLE: Bad file descriptor"));
    }
}
