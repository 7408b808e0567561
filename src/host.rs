//! What only the machine knows: the time, chance, its name, its directories.
//!
//! Everything else is handed these as values, so that it can be tested without a machine.

use std::ffi::OsString;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::SystemTime;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::unistd::{Uid, User};
use rustix::fs::Mode;
use rustix::process::DumpableBehavior;

/// Makes this process what it is to be, whatever started it: cron, sshd, systemd or a shell.
pub fn settle() {
    // What is private is made so where it is made; what is for all, such as a new root, must not be private
    // because of whom we were started by.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    // No core and no other process of the same user gets at the keys and recordings that we hold. Unlike a limit
    // on core files, this is not inherited by an Asterisk that a reload may restart. No kernel refuses it.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The time.
#[must_use]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// A name that nothing else has or will have: of a run, a root, a base.
#[must_use]
pub fn ulid() -> String {
    ulid::Ulid::generate().to_string()
}

/// The addresses of its network interfaces; none when they cannot be asked for.
#[must_use]
pub fn addresses() -> Vec<IpAddr> {
    let of = |interface: InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    getifaddrs().map(|interfaces| interfaces.filter_map(of).collect()).unwrap_or_default()
}

/// The addresses that a host's name stands for; none when nobody knows it.
#[must_use]
pub fn lookup(name: &str) -> Vec<IpAddr> {
    (name, 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default()
}

/// Where key material comes from.
#[must_use]
pub fn random() -> ssh_key::rand_core::OsRng {
    ssh_key::rand_core::OsRng
}

/// The host's name, as `uname -n` says it.
#[must_use]
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The user's home directory: `$HOME`, or what the system knows where a service is started without it.
#[must_use]
pub fn home() -> Option<PathBuf> {
    let told = variable("HOME").map(PathBuf::from);
    told.or_else(|| User::from_uid(Uid::effective()).ok().flatten().map(|user| user.dir))
}

/// The environment; what is not text is left out, no variable of ours is.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

/// One variable of the environment; an empty one counts as not set.
#[must_use]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The program that runs, wherever it was called from.
pub fn program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

/// The content of the program that runs, even if another one was installed in its place since.
pub fn program_content() -> std::io::Result<Vec<u8>> {
    std::fs::read("/proc/self/exe")
}

/// The kind of processor, as uname(1) names it.
#[must_use]
pub fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// Whether the processor has instructions for AES.
#[must_use]
pub fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

/// This process.
#[must_use]
pub fn pid() -> u32 {
    std::process::id()
}
