//! What ssh-keygen(1) does with keys that this program did not make, such as the RSA key in PEM of an XDS
//! installation: it reads every format, and signs through ssh-agent where a key has a passphrase.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};
use ssh_key::PublicKey;

/// The public key that belongs to a private one.
pub(crate) fn public_key(identity: &Path) -> anyhow::Result<PublicKey> {
    // The empty passphrase keeps it from asking for one.
    let output = run(Command::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(identity), b"")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("ssh-keygen says: {}", why.trim());
    }
    PublicKey::from_openssh(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("reading what ssh-keygen says of {}", identity.display()))
}

/// A signature (PROTOCOL.sshsig) in PEM.
pub(crate) fn sign(identity: &Path, namespace: &str, message: &[u8]) -> anyhow::Result<String> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(identity);
    let output = run(&mut keygen, message)?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{} cannot sign: {}", identity.display(), why.trim());
    }
    String::from_utf8(output.stdout).context("reading a signature of ssh-keygen")
}

fn run(keygen: &mut Command, input: &[u8]) -> anyhow::Result<Output> {
    let mut child = keygen
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running ssh-keygen")?;
    if let Some(mut stdin) = child.stdin.take() {
        // Where it has ended already, its exit status and stderr say why.
        let _ = stdin.write_all(input);
    }
    child.wait_with_output().context("running ssh-keygen")
}
