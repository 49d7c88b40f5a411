// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of kcov calls.

use rkcov_abi::Errno;
use std::io;

/// Why a call on a kcov failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This process has no runtime.
    #[error("this program does not contain the rkcov runtime; link it with \"rkcov cc\"")]
    NoRuntime,
    /// The device returned an error.
    #[error("{call}: {}", Errno::from_raw(*errno).map_or_else(
        || io::Error::from_raw_os_error(*errno).to_string(),
        |errno| errno.to_string(),
    ))]
    Call {
        /// The name of the call in C.
        call: &'static str,
        /// The error number.
        errno: i32,
    },
}

impl Error {
    pub(super) fn call(call: &'static str, errno: i32) -> Self {
        Self::Call { call, errno }
    }

    /// The error of a call that has just failed, from errno.
    pub(super) fn last(call: &'static str) -> Self {
        let errno = io::Error::last_os_error().raw_os_error();
        Self::call(call, errno.unwrap_or(libc::EIO))
    }

    /// The error number, if the device returned one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::NoRuntime => None,
            Self::Call { errno, .. } => Some(*errno),
        }
    }

    /// The error as an [`Errno`], if the interface defines it.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.raw_os_error().and_then(Errno::from_raw)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.raw_os_error() {
            Some(errno) => Self::from_raw_os_error(errno).kind(),
            None => io::ErrorKind::Unsupported,
        };
        Self::new(kind, error)
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

    #[test]
    fn an_io_error_keeps_the_kind_and_the_text() {
        let error = io::Error::from(Error::call("open", libc::ENOENT));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(
            error.to_string().starts_with("open: No such file"),
            "{error}"
        );
        let error = io::Error::from(Error::NoRuntime);
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.get_ref().is_some_and(|e| e.is::<Error>()));
    }
}
