// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work that kernel threads do for a client, made to happen from inside a guest: the USB hub's, when
//! a device is plugged in (raw-gadget on dummy_hcd), and a vhost worker's, when a guest of its own
//! would send a frame (vhost-net and a TAP interface).

use rkcov_guest::Device;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{fence, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long something may take that does happen; emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that is to happen.
const PAUSE: Duration = Duration::from_millis(10);
/// For how long nothing must have come until it is taken that no more comes.
const QUIET: Duration = Duration::from_millis(500);

/// `_IOC()` of Linux, with the direction in its two top bits.
const fn request(direction: u32, kind: u8, number: u8, bytes: usize) -> libc::c_ulong {
    (direction << 30 | (bytes as u32) << 16 | (kind as u32) << 8 | number as u32) as libc::c_ulong
}

const fn io(kind: u8, number: u8) -> libc::c_ulong {
    request(0, kind, number, 0)
}

const fn iow(kind: u8, number: u8, bytes: usize) -> libc::c_ulong {
    request(1, kind, number, bytes)
}

/// Calls `ioctl` with the address of what the call reads or writes, or with null.
fn call<T>(file: &File, request: libc::c_ulong, argument: *const T) -> io::Result<()> {
    // SAFETY: the callers below give what their request takes, and it lives through the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), request, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// No argument.
const NOTHING: *const u8 = ptr::null();

fn open(path: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))
}

fn wait_until(what: &str, mut happened: impl FnMut() -> bool) -> io::Result<()> {
    let began = Instant::now();
    while !happened() {
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("in vain waited until {what}")));
        }
        sleep(PAUSE);
    }
    Ok(())
}

/// Waits until a client's buffer has records and no more come, and answers how many.
///
/// # Errors
/// None came.
pub fn settle(device: &Device) -> io::Result<u64> {
    wait_until("something was recorded", || device.count() > 0)?;
    let (mut seen, mut since) = (device.count(), Instant::now());
    while since.elapsed() < QUIET {
        sleep(PAUSE);
        if device.count() != seen {
            (seen, since) = (device.count(), Instant::now());
        }
    }
    Ok(seen)
}

/// Waits as long as nothing must have come to be taken for an end.
pub fn quiet() {
    sleep(QUIET);
}

/// Waits for what is to come, as [`settle`] does, or long enough to say that nothing does.
///
/// # Errors
/// What was to come did not.
pub fn hear(device: &Device, something: bool) -> io::Result<()> {
    if something {
        settle(device).map(drop)
    } else {
        quiet();
        Ok(())
    }
}

/// A USB device, plugged into the hub of dummy_hcd as long as this lives.
pub struct UsbDevice {
    _file: File,
}

mod raw_gadget {
    use super::{io, iow, request};

    pub(super) const PATH: &str = "/dev/raw-gadget";
    const KIND: u8 = b'U';
    /// Two names of 128 bytes and a speed.
    pub(super) const INIT_BYTES: usize = 257;
    pub(super) const INIT: libc::c_ulong = iow(KIND, 0, INIT_BYTES);
    pub(super) const RUN: libc::c_ulong = io(KIND, 1);
    pub(super) const EVENT_FETCH: libc::c_ulong = request(2, KIND, 2, 8);
    pub(super) const EP0_WRITE: libc::c_ulong = iow(KIND, 3, 8);
    pub(super) const EP0_READ: libc::c_ulong = request(3, KIND, 4, 8);
    pub(super) const CONFIGURE: libc::c_ulong = io(KIND, 9);
    pub(super) const EP0_STALL: libc::c_ulong = io(KIND, 12);
    /// The type of an event that has a setup packet.
    pub(super) const CONTROL: u32 = 2;
    /// `USB_SPEED_HIGH`.
    pub(super) const HIGH_SPEED: u8 = 3;
}

/// A vendor's device without strings, USB 2.0.
const DEVICE_DESCRIPTOR: [u8; 18] = [
    18, 1, 0x00, 0x02, 0xff, 0, 0, 64, 0x09, 0x12, 0x01, 0x00, 0, 1, 0, 0, 0, 1,
];
/// One configuration with one interface, of which nobody is the driver, without endpoints.
const CONFIGURATION: [u8; 18] = [
    9, 2, 18, 0, 1, 1, 0, 0x80, 50, // the configuration
    9, 4, 0, 0, 0, 0xff, 0, 0, 0, // its interface
];

/// Head of an event or of a transfer over endpoint 0, with room for data.
#[repr(C)]
struct Transfer {
    /// An event's type; of a transfer, endpoint 0 and no flags.
    kind: u32,
    length: u32,
    data: [u8; 64],
}

impl UsbDevice {
    /// Plugs it in and answers the hub's questions until it is configured.
    ///
    /// # Errors
    /// There is no raw-gadget or no dummy_hcd, or it is in use.
    pub fn plug() -> io::Result<Self> {
        let file = open(raw_gadget::PATH)?;
        let mut init = [0_u8; raw_gadget::INIT_BYTES];
        init[..9].copy_from_slice(b"dummy_udc");
        init[128..139].copy_from_slice(b"dummy_udc.0");
        init[256] = raw_gadget::HIGH_SPEED;
        call(&file, raw_gadget::INIT, init.as_ptr())?;
        call(&file, raw_gadget::RUN, NOTHING)?;
        while !answer(&file)? {}
        Ok(Self { _file: file })
    }
}

/// Deals with the device's next event. Answers whether it is configured now.
fn answer(file: &File) -> io::Result<bool> {
    const GET_DESCRIPTOR: (u8, u8) = (0x80, 6);
    const SET_CONFIGURATION: (u8, u8) = (0, 9);
    let mut transfer = Transfer {
        kind: 0,
        length: 64,
        data: [0; 64],
    };
    call(file, raw_gadget::EVENT_FETCH, &raw mut transfer)?;
    if transfer.kind != raw_gadget::CONTROL {
        return Ok(false);
    }
    let [kind, number, _, descriptor, _, _, low, high, ..] = transfer.data;
    let wanted = usize::from(u16::from_le_bytes([low, high]));
    let reply: Option<&[u8]> = match ((kind, number), descriptor) {
        (GET_DESCRIPTOR, 1) => Some(&DEVICE_DESCRIPTOR),
        (GET_DESCRIPTOR, 2) => Some(&CONFIGURATION),
        (SET_CONFIGURATION, _) => {
            call(file, raw_gadget::CONFIGURE, NOTHING)?;
            (transfer.kind, transfer.length) = (0, 0);
            call(file, raw_gadget::EP0_READ, &raw mut transfer)?;
            return Ok(true);
        }
        _ => None,
    };
    // A hub that has given up meanwhile asks again.
    let _ = match reply {
        Some(reply) => {
            let length = reply.len().min(wanted);
            transfer.data[..length].copy_from_slice(&reply[..length]);
            (transfer.kind, transfer.length) = (0, length as u32);
            call(file, raw_gadget::EP0_WRITE, &raw const transfer)
        }
        None => call(file, raw_gadget::EP0_STALL, NOTHING),
    };
    Ok(false)
}

/// The number of dummy_hcd's bus.
///
/// # Errors
/// There is none.
pub fn dummy_bus() -> io::Result<u32> {
    for entry in fs::read_dir("/sys/bus/usb/devices")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let product = fs::read_to_string(entry.path().join("product")).unwrap_or_default();
        if let (Some(bus), true) = (name.strip_prefix("usb"), product.contains("Dummy")) {
            return bus.parse().map_err(io::Error::other);
        }
    }
    Err(io::Error::other("no bus of dummy_hcd"))
}

/// A vhost-net with its worker, a ring of frames to send, and the TAP interface that gets them.
pub struct Vhost {
    file: File,
    _tap: File,
    kick: File,
    memory: *mut u8,
    sent: u16,
}

// SAFETY: the memory is the value's own.
unsafe impl Send for Vhost {}

mod vhost {
    use super::{io, iow};

    pub(super) const PATH: &str = "/dev/vhost-net";
    const KIND: u8 = 0xaf;
    pub(super) const SET_FEATURES: libc::c_ulong = iow(KIND, 0, 8);
    pub(super) const SET_OWNER: libc::c_ulong = io(KIND, 1);
    pub(super) const SET_MEM_TABLE: libc::c_ulong = iow(KIND, 3, 8);
    pub(super) const SET_VRING_NUM: libc::c_ulong = iow(KIND, 0x10, 8);
    pub(super) const SET_VRING_ADDR: libc::c_ulong = iow(KIND, 0x11, 40);
    pub(super) const SET_VRING_BASE: libc::c_ulong = iow(KIND, 0x12, 8);
    pub(super) const SET_VRING_KICK: libc::c_ulong = iow(KIND, 0x20, 8);
    pub(super) const NET_SET_BACKEND: libc::c_ulong = iow(KIND, 0x30, 8);
    /// The ring of frames to send.
    pub(super) const SEND: u32 = 1;
}

/// Bytes of the memory that the worker sees, and where what is in it.
const MEMORY: usize = 8192;
const ENTRIES: u16 = 8;
const AVAILABLE: usize = 256;
const USED: usize = 512;
const FRAME: usize = 4096;
/// A header of virtio's, all zero, and a broadcast of a type that nobody has.
const FRAME_BYTES: u32 = 10 + 60;

impl Vhost {
    /// Makes it. The worker is the calling task's, and so listened to by its common handle.
    ///
    /// # Errors
    /// There is no vhost-net, or no TAP.
    pub fn new() -> io::Result<Self> {
        let tap = tap()?;
        let file = open(vhost::PATH)?;
        // SAFETY: new memory, at a place that the kernel chooses.
        let memory = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(ptr::null_mut(), MEMORY, protection, flags, -1, 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = memory as u64;
        // SAFETY: no pointers; the answer is a file descriptor of ours.
        let kick = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if kick == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made.
        let kick = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(kick) };
        let vhost = Self {
            file,
            _tap: tap,
            kick,
            memory: memory.cast(),
            sent: 0,
        };
        let call = |request, words: &[u64]| call(&vhost.file, request, words.as_ptr());
        let pair = |second: u32| [u64::from(vhost::SEND) | u64::from(second) << 32];
        call(vhost::SET_OWNER, &[])?;
        call(vhost::SET_FEATURES, &[0])?;
        // One region, whose guest's addresses are offsets.
        call(vhost::SET_MEM_TABLE, &[1, 0, MEMORY as u64, at, 0])?;
        call(vhost::SET_VRING_NUM, &pair(ENTRIES.into()))?;
        call(vhost::SET_VRING_BASE, &pair(0))?;
        let [available, used] = [AVAILABLE, USED].map(|offset| at + offset as u64);
        call(
            vhost::SET_VRING_ADDR,
            &[u64::from(vhost::SEND), at, used, available, 0],
        )?;
        call(vhost::SET_VRING_KICK, &pair(vhost.kick.as_raw_fd() as u32))?;
        call(vhost::NET_SET_BACKEND, &pair(vhost._tap.as_raw_fd() as u32))?;
        Ok(vhost)
    }

    /// Puts a frame into the ring, wakes the worker, and waits until it has taken the frame.
    ///
    /// # Errors
    /// It does not take it.
    pub fn send(&mut self) -> io::Result<()> {
        let slot = self.sent % ENTRIES;
        // SAFETY: all within the mapping, and aligned.
        unsafe {
            // The frame: to everybody, from somebody.
            let frame = self.memory.add(FRAME + 10);
            frame.write_bytes(0xff, 6);
            frame.add(6).write_bytes(0x02, 6);
            frame
                .add(12)
                .cast::<u16>()
                .write_unaligned(0x88b5_u16.to_be());
            let descriptor = self.memory.add(usize::from(slot) * 16);
            descriptor.cast::<u64>().write(FRAME as u64);
            descriptor.add(8).cast::<u32>().write(FRAME_BYTES);
            descriptor.add(12).cast::<u32>().write(0);
            let available = self.memory.add(AVAILABLE).cast::<u16>();
            available.add(2 + usize::from(slot)).write(slot);
            fence(Ordering::SeqCst);
            self.sent = self.sent.wrapping_add(1);
            available.add(1).write_volatile(self.sent);
        }
        io::Write::write_all(&mut &self.kick, &1_u64.to_ne_bytes())?;
        // SAFETY: as above.
        let used = unsafe { self.memory.add(USED + 2).cast::<u16>() };
        // SAFETY: as above; the worker writes it.
        wait_until("the worker took a frame", || unsafe {
            used.read_volatile() == self.sent
        })
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        // The worker must not find the ring gone: without an owner it is not there any more.
        let no_backend = [u64::from(vhost::SEND) | u64::from(u32::MAX) << 32];
        let _ = call(&self.file, vhost::NET_SET_BACKEND, no_backend.as_ptr());
        // SAFETY: mapped by `new`, and used by nobody any more.
        unsafe { libc::munmap(self.memory.cast(), MEMORY) };
    }
}

/// A new TAP interface that is up, as a file.
fn tap() -> io::Result<File> {
    if !Path::new("/dev/net/tun").exists() {
        return Err(io::Error::other("there is no /dev/net/tun"));
    }
    let file = open("/dev/net/tun")?;
    // SAFETY: every bit pattern is one.
    let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    interface.ifr_ifru.ifru_flags = flags as i16;
    call(&file, libc::TUNSETIFF as libc::c_ulong, &raw mut interface)?;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let socket = File::from(std::os::fd::OwnedFd::from(socket));
    interface.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
    call(
        &socket,
        libc::SIOCSIFFLAGS as libc::c_ulong,
        &raw mut interface,
    )?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_headers() {
        // Printed by a C program that includes linux/usb/raw_gadget.h and linux/vhost.h.
        assert_eq!(raw_gadget::INIT, 0x4101_5500);
        assert_eq!(raw_gadget::EVENT_FETCH, 0x8008_5502);
        assert_eq!(raw_gadget::EP0_READ, 0xc008_5504);
        assert_eq!(vhost::SET_VRING_ADDR, 0x4028_af11);
        assert_eq!(vhost::NET_SET_BACKEND, 0x4008_af30);
    }
}
