// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The calls of the device: every check, in the interface's order.

use crate::abi::{
    Command, CommonHandle, Errno, Handle, RemoteArg, TraceMode, Words, REMOTE_MAX_HANDLES,
};
use crate::rules::descriptor::{Listener, Memory, Phase, Ref, Refusal, State};
use crate::rules::host::{Context, Host};
use crate::rules::hot::Mode;
use crate::rules::kcov::Kcov;
use crate::rules::lock::Guard;
use crate::rules::registry::{Change, Handles, InsertError};
use crate::rules::sync::Ordering;
use crate::rules::task::Task;
use core::mem::{offset_of, size_of};

/// A remote argument, copied and not yet judged.
struct Request<H: Host> {
    arg: RemoteArg,
    /// `handles[]` and, behind them, the common handle if it is not 0.
    handles: Handles<H>,
}

impl<H: Host> Request<H> {
    /// `handles[]` and the common handle.
    fn len(&self) -> usize {
        (self.arg.num_handles as usize).wrapping_add(usize::from(self.arg.common_handle != 0))
    }
}

impl<H: Host> Kcov<H> {
    /// An `ioctl()` on `descriptor` by `task`: `number` is one of
    /// [`abi::ioctl`](crate::abi::ioctl)'s, `argument` a number or an address in the client's
    /// memory. Errors are those of the interface, and EBUSY in a signal handler that interrupted the
    /// rules.
    pub fn ioctl(
        &self,
        descriptor: &Ref<H>,
        task: &Task<H>,
        number: u32,
        argument: usize,
    ) -> Result<(), Errno> {
        if self.host().context() != Context::Task {
            return Err(Errno::Busy);
        }
        match Command::from_number(number).ok_or(Errno::NoTty)? {
            Command::InitTrace => descriptor.init_trace(argument as u64),
            Command::Enable => self.enable(descriptor, task, argument as u64),
            Command::UniqueEnable => self.unique_enable(descriptor, task, argument as u64),
            Command::RemoteEnable => self.remote_enable(descriptor, task, argument),
            Command::Disable if argument != 0 => Err(Errno::Inval),
            Command::Disable => self.disable(descriptor, task),
            Command::ResetTrace if argument != 0 => Err(Errno::Inval),
            Command::ResetTrace => descriptor.reset_trace(),
        }
    }

    /// The buffer, for a client that maps `bytes` of it from `offset`. EINVAL unless `bytes` is the
    /// buffer's size rounded up to whole pages of `page_bytes` (a power of two) and `offset` is 0.
    pub fn map<'d>(
        &self,
        descriptor: &'d Ref<H>,
        bytes: usize,
        offset: u64,
        page_bytes: usize,
    ) -> Result<&'d H::Buffer, Errno> {
        let memory = descriptor.memory().ok_or(Errno::Inval)?;
        let pages = memory.words.bytes().checked_next_multiple_of(page_bytes);
        if offset != 0 || Some(bytes) != pages {
            return Err(Errno::Inval);
        }
        Ok(&memory.buffer)
    }

    /// `KCOV_ENABLE`.
    fn enable(&self, descriptor: &Ref<H>, task: &Task<H>, mode: u64) -> Result<(), Errno> {
        self.enable_local(descriptor, task, |_| {
            Ok((Self::trace_mode(mode)?.into(), Words::default()))
        })
    }

    /// `KCOV_UNIQUE_ENABLE`.
    fn unique_enable(&self, descriptor: &Ref<H>, task: &Task<H>, bitmap: u64) -> Result<(), Errno> {
        if !H::UNIQUE {
            return Err(Errno::NotSupp);
        }
        self.enable_local(descriptor, task, |memory| {
            // The count word and one record must remain.
            let most = u64::from(memory.words.get()).saturating_sub(2);
            let bitmap = Words::new(bitmap).filter(|b| (1..=most).contains(&u64::from(b.get())));
            Ok((Mode::Unique, bitmap.ok_or(Errno::Inval)?))
        })
    }

    fn enable_local(
        &self,
        descriptor: &Ref<H>,
        task: &Task<H>,
        choose: impl Fn(&Memory<H::Buffer>) -> Result<(Mode, Words), Errno>,
    ) -> Result<(), Errno> {
        let owner = self.host().owner();
        // Taken before the state says so: a task that is killed in between leaves one reference
        // too many, which costs memory, and never one too few.
        let reference = descriptor.clone();
        let (memory, mode, bitmap) = self.claim(descriptor, |state| {
            let memory = descriptor.memory().ok_or(Errno::Inval)?;
            if task.has_local(self.host()) {
                return Err(Errno::Busy);
            }
            let (mode, bitmap) = choose(memory)?;
            let local_before = descriptor.drops().local.load(Ordering::Relaxed);
            state.go(Phase::Local {
                owner,
                bitmap,
                local_before,
            });
            Ok((memory, mode, bitmap))
        })?;
        task.set_local(self.host(), reference, mode, memory, bitmap);
        Ok(())
    }

    /// `KCOV_REMOTE_ENABLE`. A call that fails changes nothing.
    fn remote_enable(
        &self,
        descriptor: &Ref<H>,
        task: &Task<H>,
        address: usize,
    ) -> Result<(), Errno> {
        let request = self.copy_request(descriptor, address)?;
        let owner = self.host().owner();
        // First, as above: registering takes its time.
        let reference = descriptor.clone();
        let claimed = self.claim(descriptor, |state| {
            descriptor.memory().ok_or(Errno::Inval)?;
            if task.pinned(self.host(), |own| own.remote.is_some()) {
                return Err(Errno::Busy);
            }
            let mode = Self::trace_mode(u64::from(request.arg.trace_mode))?;
            let area = Words::new(u64::from(request.arg.area_size))
                .filter(|words| words.records(mode.record_words()) > 0)
                .ok_or(Errno::Inval)?;
            let listener = Listener {
                owner,
                mode,
                area,
                handles: request.handles,
            };
            state.go(Phase::Changing(listener));
            // That of the phase in which they will be found.
            request.handles.number(state.next_sequence());
            Ok(listener)
        });
        let listener = match claimed {
            Ok(listener) => listener,
            Err(errno) => {
                // SAFETY: none was registered, and the request ends here.
                unsafe { request.handles.free(self.host()) };
                return Err(errno);
            }
        };

        let mut change = self.registry().change();
        for i in 0..request.len() {
            if let Err(errno) = self.register(&mut change, &request, i) {
                descriptor.release_remote(&mut change);
                return Err(errno);
            }
        }
        drop(change);

        // Only the task that changes takes the phase further.
        descriptor.state.lock().go(Phase::Remote(listener));
        task.pinned(self.host(), |own| {
            own.remote = Some(reference);
            own.common = request.handles.common.or(own.common);
        });
        Ok(())
    }

    /// Copies a remote argument into memory that the client cannot change.
    fn copy_request(&self, descriptor: &Ref<H>, address: usize) -> Result<Request<H>, Errno> {
        const HEAD: usize = size_of::<RemoteArg>();
        const WORD: usize = size_of::<u64>();
        const SOME: usize = 32;
        let at = |offset: usize| address.checked_add(offset).ok_or(Errno::Fault);

        let mut num = [0; size_of::<u32>()];
        self.host()
            .read_client(at(offset_of!(RemoteArg, num_handles))?, &mut num)?;
        let num = u32::from_ne_bytes(num);
        if num > REMOTE_MAX_HANDLES {
            return Err(Errno::Inval);
        }
        // One more than `handles[]` for a common handle.
        let len = (num as usize).wrapping_add(1);
        let raw = core::ptr::from_ref(&**descriptor);
        let mut handles = Handles::alloc(self.host(), len, raw).ok_or(Errno::NoMem)?;

        let copy = || -> Result<RemoteArg, Errno> {
            let mut head = [0; HEAD];
            self.host().read_client(address, &mut head)?;
            let mut done = 0_usize;
            while done < num as usize {
                // Some at a time: each reading is a system call in userspace.
                let mut some = [0; SOME.wrapping_mul(WORD)];
                let left = (num as usize).saturating_sub(done).wrapping_mul(WORD);
                let offset = done.wrapping_mul(WORD).wrapping_add(HEAD);
                let mut words: &[u8] = match some.get_mut(..left) {
                    Some(last) => {
                        self.host().read_client(at(offset)?, last)?;
                        last
                    }
                    None => {
                        self.host().read_client(at(offset)?, &mut some)?;
                        &some
                    }
                };
                while let Some((handle, rest)) = words.split_first_chunk() {
                    handles.set(done, u64::from_ne_bytes(*handle));
                    done = done.wrapping_add(1);
                    words = rest;
                }
            }
            let arg = RemoteArg::from_ne_bytes(head);
            if arg.num_handles != num {
                return Err(Errno::Inval);
            }
            Ok(arg)
        };
        match copy() {
            Ok(arg) => {
                handles.set(num as usize, arg.common_handle);
                handles.common = Handle::from_raw(arg.common_handle).and_then(CommonHandle::new);
                Ok(Request { arg, handles })
            }
            Err(errno) => {
                // SAFETY: none was registered, and nobody else has it.
                unsafe { handles.free(self.host()) };
                Err(errno)
            }
        }
    }

    /// Registers handle `i` of a request; the one behind `handles[]` is the common one.
    fn register(
        &self,
        change: &mut Change<'_, H>,
        request: &Request<H>,
        i: usize,
    ) -> Result<(), Errno> {
        let is_last = i == request.arg.num_handles as usize;
        Handle::from_raw(request.handles.get(i))
            .filter(|h| h.subsystem().is_common() == is_last && Self::is_usable(*h))
            .ok_or(Errno::Inval)?;
        loop {
            match change.insert(self.host(), &request.handles, i) {
                Ok(()) => return Ok(()),
                Err(InsertError::NoMemory) => return Err(Errno::NoMem),
                Err(InsertError::Taken(holder)) => {
                    if !self.reap_if_gone(&holder, change) {
                        return Err(Errno::Exist);
                    }
                }
            }
        }
    }

    /// `KCOV_DISABLE`.
    fn disable(&self, descriptor: &Ref<H>, task: &Task<H>) -> Result<(), Errno> {
        let is_mine = |mine: &Option<Ref<H>>| mine.as_ref().is_some_and(|d| d.is(descriptor));
        let (local, remote) = task.pinned(self.host(), |own| {
            (is_mine(&own.local), is_mine(&own.remote))
        });
        if local {
            self.disable_local(task);
        } else if remote {
            self.disable_remote(task);
        } else {
            return Err(Errno::Inval);
        }
        Ok(())
    }

    fn trace_mode(raw: u64) -> Result<TraceMode, Errno> {
        match TraceMode::from_raw(raw).ok_or(Errno::Inval)? {
            TraceMode::Cmp if !H::COMPARISONS => Err(Errno::NotSupp),
            mode => Ok(mode),
        }
    }

    /// Runs `f` on a descriptor that can be enabled, under its lock; else EINVAL. A descriptor that
    /// a task left enabled when it was killed can be enabled.
    fn claim<R>(
        &self,
        descriptor: &Ref<H>,
        f: impl Fn(&mut Guard<'_, H::Lock, State<H>>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        loop {
            let mut state = descriptor.state.lock();
            let refusal = match state.check_ready() {
                Ok(()) => return f(&mut state),
                Err(refusal) => refusal,
            };
            drop(state);
            match refusal {
                Refusal::Error(errno) => return Err(errno),
                Refusal::EnabledBy(owner, sequence) => {
                    // Asked first: whoever registers handles holds the lock for as long as that takes.
                    if !self.host().is_gone(owner) {
                        return Err(Errno::Inval);
                    }
                    descriptor.reap(sequence, &mut self.registry().change());
                }
            }
        }
    }

    /// If the task that enabled this descriptor was killed unheard, does what its end would have
    /// done. `false` if it lives.
    fn reap_if_gone(&self, descriptor: &Ref<H>, change: &mut Change<'_, H>) -> bool {
        let refusal = descriptor.state.lock().check_ready();
        match refusal {
            Err(Refusal::EnabledBy(owner, sequence)) => {
                let gone = self.host().is_gone(owner);
                if gone {
                    descriptor.reap(sequence, change);
                }
                gone
            }
            _ => true,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
