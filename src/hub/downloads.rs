//! What a host gets from Main to become a node: this program, and what installs it.

use std::fs;
use std::io;

use crate::enroll::handover::sha256;

/// A file that is offered, with its checksum beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Its name below `/xds-sync/`.
    pub name: &'static str,
    /// MIME type.
    pub kind: &'static str,
    /// What is in it.
    pub content: Vec<u8>,
}

impl Download {
    /// Its SHA-256, in hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> String {
        sha256(&self.content)
    }

    /// What `sha256sum --check` reads.
    #[must_use]
    pub fn checksum_file(&self) -> String {
        format!("{}  {}\n", self.sha256(), self.name)
    }
}

/// Fetches the program, checks it, and joins; for a host that has nothing but a shell.
const INSTALLER: &[u8] = include_bytes!("../../scripts/mds_install.sh");

/// Everything that is offered.
pub fn all() -> io::Result<Vec<Download>> {
    // The file that runs, whatever has been installed in its place since.
    let program = fs::read("/proc/self/exe")?;
    Ok(vec![
        Download { name: "xds-sync", kind: "application/octet-stream", content: program },
        Download { name: "mds_install.sh", kind: "text/x-shellscript", content: INSTALLER.to_vec() },
    ])
}
