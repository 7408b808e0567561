//! What a new node downloads: this program, and the script that installs it.

use crate::enroll::handover::sha256;

/// Directory of downloads.
pub(super) const DOWNLOADS: &str = "/xds-sync";

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

/// The script that downloads the program, verifies it and joins; it needs nothing but a shell.
pub(crate) const INSTALLER: &str = "mds_install.sh";
const INSTALLER_TEXT: &str = include_str!("../../scripts/mds_install.sh");
/// The line of the script that Main completes.
const PROGRAM_SUM: &str = "\nprogram_sum=\n";

/// Everything that is offered; `program` is this program. The script knows the program's checksum, so that whoever
/// checks the script has checked both.
pub(crate) fn all(program: Vec<u8>) -> [Download; 2] {
    let script = INSTALLER_TEXT.replacen(PROGRAM_SUM, &format!("\nprogram_sum={}\n", sha256(&program)), 1);
    [
        Download { name: "xds-sync", kind: "application/octet-stream", content: program },
        Download { name: INSTALLER, kind: "text/x-shellscript", content: script.into_bytes() },
    ]
}

/// The lines that make a host without xds-sync a node of the Main at `address` (HOST or HOST:PORT), as root: with curl,
/// and with wget. `script` is the script's SHA-256, which is checked before any of it runs, so the server's certificate
/// need not be trusted. Redirects are not followed; bytes and time have a bound. The script lies in /root, where nobody
/// else can exchange it between the check and the call.
pub(crate) fn install_lines(address: &str, script: &str, fingerprint: &str) -> [String; 2] {
    let url = format!("https://{address}{DOWNLOADS}/{INSTALLER}");
    ["curl -sSfkm60", "timeout 60 wget -qO- --no-check-certificate --max-redirect=0"].map(|get| {
        format!(
            "cd /root && {get} {url} | head -c64K >{INSTALLER} && echo '{script}  {INSTALLER}' | sha256sum -c && \
             sh {INSTALLER} --fingerprint {fingerprint} {address}"
        )
    })
}
