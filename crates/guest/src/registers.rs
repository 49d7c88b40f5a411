// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers of a stopped task, as far as system calls are made with them.

use crate::ptrace::request;
use libc::{c_long, iovec, pid_t};
use std::io;
use std::mem::zeroed;

pub(crate) use machine::CALL;
use machine::UNUSED_BELOW;

/// The general registers of a task.
#[derive(Clone, Copy)]
pub(crate) struct Registers(libc::user_regs_struct);

/// The set of general registers: `NT_PRSTATUS`.
const GENERAL: usize = 1;

/// Reads or writes a set of registers.
fn transfer<T>(what: libc::c_uint, task: pid_t, set: usize, registers: &mut T) -> io::Result<()> {
    let mut place = iovec {
        iov_base: (&raw mut *registers).cast(),
        iov_len: size_of::<T>(),
    };
    request(what, task, set, (&raw mut place) as usize).map(drop)
}

impl Registers {
    pub(crate) fn of(task: pid_t) -> io::Result<Self> {
        // SAFETY: a structure of numbers.
        let mut registers: libc::user_regs_struct = unsafe { zeroed() };
        transfer(libc::PTRACE_GETREGSET, task, GENERAL, &mut registers)?;
        Ok(Self(registers))
    }

    /// Gives them to a task, whose last system call the kernel then does not take up again.
    pub(crate) fn set(&self, task: pid_t) -> io::Result<()> {
        let mut registers = self.without_call();
        transfer(libc::PTRACE_SETREGSET, task, GENERAL, &mut registers)?;
        machine::forget_call(task)
    }

    /// Below it a task's stack may be written to.
    pub(crate) fn unused_stack(&self) -> u64 {
        self.stack().wrapping_sub(UNUSED_BELOW)
    }
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::{c_long, io, pid_t, Registers};

    /// The instruction of a system call: `syscall`.
    pub(crate) const CALL: &[u8] = &[0x0f, 0x05];
    /// Bytes below the stack pointer that may be in use.
    pub(super) const UNUSED_BELOW: u64 = 128;

    /// The number of the call is one of the general registers.
    pub(super) fn forget_call(_: pid_t) -> io::Result<()> {
        Ok(())
    }

    impl Registers {
        /// Where the instruction stands by which the task called the kernel.
        pub(crate) fn call_site(&self) -> u64 {
            self.0.rip.wrapping_sub(CALL.len() as u64)
        }

        /// As they are before a system call from the same place.
        pub(crate) fn before(&self, number: c_long, arguments: [u64; 4]) -> Self {
            let mut registers = self.0;
            registers.rip = self.call_site();
            registers.rax = number as u64;
            [registers.rdi, registers.rsi, registers.rdx, registers.r10] = arguments;
            Self(registers)
        }

        /// What the system call answered.
        pub(crate) fn answer(&self) -> i64 {
            self.0.rax as i64
        }

        pub(super) fn stack(&self) -> u64 {
            self.0.rsp
        }

        pub(super) fn without_call(&self) -> libc::user_regs_struct {
            libc::user_regs_struct {
                orig_rax: u64::MAX,
                ..self.0
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use super::{c_long, io, pid_t, transfer, Registers};

    /// The instruction of a system call: `svc #0`.
    pub(crate) const CALL: &[u8] = &[0x01, 0x00, 0x00, 0xd4];
    /// Nothing below the stack pointer is in use.
    pub(super) const UNUSED_BELOW: u64 = 0;
    /// The set of registers that is the number of the call: `NT_ARM_SYSTEM_CALL`.
    const NUMBER: usize = 0x404;

    pub(super) fn forget_call(task: pid_t) -> io::Result<()> {
        transfer(libc::PTRACE_SETREGSET, task, NUMBER, &mut -1_i32)
    }

    impl Registers {
        /// Where the instruction stands by which the task called the kernel.
        pub(crate) fn call_site(&self) -> u64 {
            self.0.pc.wrapping_sub(CALL.len() as u64)
        }

        /// As they are before a system call from the same place.
        pub(crate) fn before(&self, number: c_long, arguments: [u64; 4]) -> Self {
            let mut registers = self.0;
            registers.pc = self.call_site();
            registers.regs[8] = number as u64;
            registers.regs[..4].copy_from_slice(&arguments);
            Self(registers)
        }

        /// What the system call answered.
        pub(crate) fn answer(&self) -> i64 {
            self.0.regs[0] as i64
        }

        pub(super) fn stack(&self) -> u64 {
            self.0.sp
        }

        pub(super) fn without_call(&self) -> libc::user_regs_struct {
            self.0
        }
    }
}
