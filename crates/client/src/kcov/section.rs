// SPDX-License-Identifier: MIT OR Apache-2.0
//! Annotations of instrumented code.

use super::device::Device;
use crate::future::{Instrumented, Place};
use rkcov_abi::{CommonHandle, Handle};
use std::future::Future;
use std::marker::PhantomData;

/// `kcov_remote_start()`: begins a section. Until the returned guard is dropped, the code that the
/// calling thread runs is recorded for the client that listens to `handle`, if there is one.
/// Sections nest.
///
/// In a process without a runtime it does nothing.
pub fn section(handle: impl Into<Handle>) -> Section {
    let device = Device::of_process().ok();
    if let Some(device) = device {
        // SAFETY: takes any number.
        unsafe { (device.start)(handle.into().raw()) };
    }
    Section {
        device,
        bound_to_thread: PhantomData,
    }
}

/// Wraps a future so that it is polled and dropped in sections of `handle`, on any thread: a section
/// that may be held across `.await`.
pub fn instrument<F: Future>(handle: impl Into<Handle>, future: F) -> Instrumented<F> {
    Instrumented::new(Place::Section(handle.into()), future)
}

/// The calling thread's common handle, for sections that do work for this thread. Threads and
/// forked children inherit it.
#[must_use]
pub fn common_handle() -> Option<CommonHandle> {
    let device = Device::of_process().ok()?;
    // SAFETY: takes nothing.
    Handle::from_raw(unsafe { (device.common_handle)() }).and_then(CommonHandle::new)
}

/// A guard for a section. Dropping it ends the section, also during a panic. It cannot move to
/// another thread. Drop nested guards in reverse order.
///
/// ```compile_fail,E0277
/// fn goes_elsewhere<T: Send>() {}
/// goes_elsewhere::<rkcov::kcov::Section>();
/// ```
#[derive(Debug)]
#[must_use = "a section ends when this is dropped"]
pub struct Section {
    device: Option<&'static Device>,
    bound_to_thread: PhantomData<*const ()>,
}

impl Drop for Section {
    fn drop(&mut self) {
        if let Some(device) = self.device {
            // SAFETY: takes nothing.
            unsafe { (device.stop)() };
        }
    }
}
