//! What a new node downloads: this program, and the script that installs it.

use crate::enroll::handover::sha256;

/// A file that is offered, with its checksum beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Download {
    /// Its name below `/xds-sync/`.
    pub(crate) name: &'static str,
    /// MIME type.
    pub(crate) kind: &'static str,
    /// What is in it.
    pub(crate) content: Vec<u8>,
}

impl Download {
    /// Its SHA-256, in hexadecimal.
    #[must_use]
    pub(crate) fn sha256(&self) -> String {
        sha256(&self.content)
    }

    /// What `sha256sum --check` reads.
    #[must_use]
    pub(crate) fn checksum_file(&self) -> String {
        format!("{}  {}\n", self.sha256(), self.name)
    }
}

/// Downloads the program, verifies it and joins; needs nothing but a shell.
const INSTALLER: &[u8] = include_bytes!("../../scripts/mds_install.sh");

/// Everything that is offered; `program` is this program.
pub(crate) fn all(program: Vec<u8>) -> [Download; 2] {
    [
        Download { name: "xds-sync", kind: "application/octet-stream", content: program },
        Download { name: "mds_install.sh", kind: "text/x-shellscript", content: INSTALLER.to_vec() },
    ]
}
