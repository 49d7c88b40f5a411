// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's user mode network: the guest reaches what this machine can, and nothing reaches the guest.

/// The network, with addresses said in full: they are the guest's, and must be those below.
pub(crate) const DEVICE: &str = "user,id=net,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,ipv6=off";
/// The guest's file that says who knows names.
pub(crate) const RESOLVER: &str = "nameserver 10.0.2.3\n";

/// The kernel's parameter that brings its interface up, beside `others`.
pub(crate) fn parameter(others: &str) -> String {
    // The kernel also takes its name from here.
    let name = others
        .split_whitespace()
        .rev()
        .find_map(|word| word.strip_prefix("hostname="))
        .unwrap_or("guest");
    format!("ip=10.0.2.15::10.0.2.2:255.255.255.0:{name}:eth0:off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_the_user_gives_stays() {
        assert!(parameter("quiet").contains(":guest:"));
        assert!(parameter("hostname=a quiet hostname=b").contains(":b:"));
    }
}
