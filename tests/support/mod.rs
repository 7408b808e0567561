//! The test bed: whole clusters on one machine, made of real parts.
//!
//! A [`Cluster`] has Main and nodes. Each is a host of its own: a network namespace, wired to a switch, and
//! mount, PID, UTS and IPC namespaces, so that it has its own address, name, processes, /etc/asterisk,
//! /var/lib/xivo, /root and so on under their real paths, and its own real sshd, syslog daemon and Asterisk.
//!
//! ```ignore
//! let cluster = Cluster::new().node("mds1").node("mds2").build();
//! cluster.main.write("/etc/asterisk/extensions_extra.d/10-doors.conf", "[doors]\n");
//! cluster.main.xds_sync(["sync"]).ok();
//! assert_eq!(cluster["mds1"].reload_count("dialplan"), 1);
//! ```

// Shared by several test programs and the demo, each of which uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::print_stderr)]

mod cluster;
mod files;
mod host;
mod output;
mod tree;
pub mod wait;

#[allow(unused_imports)]
pub use self::{
    cluster::{Builder, Cluster},
    host::{Host, Run},
    output::{Output, Running},
    tree::{Entry, Kind, Tree},
    wait::{LIMIT, eventually},
};

/// A WAV file as Asterisk takes it: 8 kHz, 16 bit, mono, silent.
pub fn wav(samples: u32) -> Vec<u8> {
    let data = samples * 2;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
    bytes.extend(data.to_le_bytes());
    bytes.resize(bytes.len() + data as usize, 0);
    bytes
}

/// Content that no compression makes shorter, and another for each seed.
pub fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
    bytes
}
