//! The machine: clock, randomness, names, directories, this process.
//!
//! All other code takes these as values, so that it can be tested without a machine.

use std::ffi::OsString;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::Mode;
use rustix::process::DumpableBehavior;
use ssh_key::rand_core::RngCore as _;

/// Sets up this process in the same way whatever started it: cron, sshd, systemd or a shell.
pub fn settle() {
    // Private files get their mode where they are made. Public ones, such as a new root, must not become private
    // because of an inherited umask.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    // Keeps keys and recordings in memory from core files and from other processes of the same user. Unlike a limit
    // on core files, this is not inherited by an Asterisk that a reload may restart. It cannot fail on Linux.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The clock.
#[must_use]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The time zone of this host, or of whoever is logged in with `TZ`.
#[must_use]
pub fn time_zone() -> jiff::tz::TimeZone {
    jiff::tz::TimeZone::system()
}

/// A ULID, unique for ever: for a run, a root or a base.
#[must_use]
pub fn ulid() -> String {
    ulid::Ulid::generate().to_string()
}

/// Time since some moment in the past, on the clock that nobody sets.
#[must_use]
pub fn monotonic() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A number from 0 to 1 by chance.
#[must_use]
pub fn chance() -> f64 {
    f64::from(random().next_u32()) / f64::from(u32::MAX)
}

/// Tells systemd how this service is, as sd_notify(3) does: `READY=1` and the like. Nothing happens elsewhere.
pub fn notify_systemd(state: &str) {
    let Some(socket) = variable("NOTIFY_SOCKET") else { return };
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&socket),
    };
    // Nobody else could be told that systemd does not listen.
    let _ = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
}

/// The addresses of the network interfaces; empty when they cannot be read.
#[must_use]
pub fn addresses() -> Vec<IpAddr> {
    let of = |interface: InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    getifaddrs().map(|interfaces| interfaces.filter_map(of).collect()).unwrap_or_default()
}

/// The addresses of a host name; empty when it cannot be resolved.
#[must_use]
pub fn lookup(name: &str) -> Vec<IpAddr> {
    (name, 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default()
}

/// The name of the user that this process runs as, and the groups that the user is in.
#[must_use]
pub fn user() -> Option<(String, Vec<String>)> {
    let user = User::from_uid(Uid::effective()).ok().flatten()?;
    let name = std::ffi::CString::new(user.name.clone()).ok()?;
    let groups = nix::unistd::getgrouplist(&name, user.gid).unwrap_or_default();
    let name_of = |group| Group::from_gid(group).ok().flatten().map(|group| group.name);
    Some((user.name, groups.into_iter().filter_map(name_of).collect()))
}

/// The source of randomness for keys.
#[must_use]
pub fn random() -> ssh_key::rand_core::OsRng {
    ssh_key::rand_core::OsRng
}

/// The host name, as `uname -n` prints it.
#[must_use]
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The home directory of the user: `$HOME`, or that of the user database for a service that is started without it.
#[must_use]
pub fn home() -> Option<PathBuf> {
    let told = variable("HOME").map(PathBuf::from);
    told.or_else(|| User::from_uid(Uid::effective()).ok().flatten().map(|user| user.dir))
}

/// Whether this process may do all that root may.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// The id of a group; `None`: there is none of this name.
#[must_use]
pub fn group(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| Gid::as_raw(group.gid))
}

/// The environment, without variables that are not UTF-8; ours are.
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

/// What tells this machine from one that was copied from it, as far as the system knows: copies of a virtual machine get
/// another UUID, and careful ones another machine-id.
#[must_use]
pub fn hardware() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    [read("/etc/machine-id"), read("/sys/class/dmi/id/product_uuid")].join(" ")
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
#[must_use]
pub fn pid() -> u32 {
    std::process::id()
}
