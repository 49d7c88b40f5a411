// SPDX-License-Identifier: MIT OR Apache-2.0
//! What instrumented code says of itself.

use super::device::Device;
use rkcov_abi::{CommonHandle, Handle};
use std::marker::PhantomData;

/// `kcov_remote_start()`: until the end of what is answered, what the calling thread runs is
/// recorded for the client that listens to `handle`, if there is one. Sections nest.
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

/// The handle that work on the calling thread's behalf is to be annotated with: threads and forked
/// children inherit it.
#[must_use]
pub fn common_handle() -> Option<CommonHandle> {
    let device = Device::of_process().ok()?;
    // SAFETY: takes nothing.
    Handle::from_raw(unsafe { (device.common_handle)() }).and_then(CommonHandle::new)
}

/// A section, which ends when this is dropped, also by a panic. It belongs to its thread; several
/// are dropped in the reverse order of their beginnings.
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
