//! Signatures with the ssh keys that hosts have anyway (PROTOCOL.sshsig): `ssh-keygen -Y verify` checks the same ones.

pub(crate) mod ssh_keygen;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

/// A signature of `message` in PEM, good for this namespace alone. Keys that this program does not make are left to
/// ssh-keygen(1).
pub(crate) fn sign(identity: &Path, namespace: &str, message: &[u8]) -> anyhow::Result<String> {
    let text = fs::read(identity).with_context(|| format!("reading {}", identity.display()))?;
    match PrivateKey::from_openssh(&text) {
        Ok(key) if key.key_data().ed25519().is_some() => {
            let signature = key.sign(namespace, HashAlg::Sha512, message);
            let signature = signature.with_context(|| format!("{} cannot sign", identity.display()))?;
            signature.to_pem(LineEnding::LF).context("writing a signature as text")
        }
        _ => ssh_keygen::sign(identity, namespace, message),
    }
}

/// The public key that belongs to a private one, without its comment.
pub(crate) fn public_key(identity: &Path) -> anyhow::Result<PublicKey> {
    let text = fs::read(identity).with_context(|| format!("reading {}", identity.display()))?;
    let key = match PrivateKey::from_openssh(&text) {
        Ok(key) => key.public_key().clone(),
        Err(_) => ssh_keygen::public_key(identity)?,
    };
    Ok(PublicKey::from(key.key_data().clone()))
}

/// Which of `keys` has signed `message`, where exactly these bytes are its signature.
pub(crate) fn signer<'k>(
    pem: &str,
    namespace: &str,
    message: &[u8],
    keys: &'k [PublicKey],
) -> anyhow::Result<Option<&'k PublicKey>> {
    let signature = SshSig::from_pem(pem).context("the signature cannot be read")?;
    // One signature has one text: nothing in an object can be changed unnoticed.
    let text = signature.to_pem(LineEnding::LF).context("the signature cannot be written")?;
    anyhow::ensure!(text.trim_end() == pem.trim_end(), "the signature is not written as it should be");
    let Some(key) = keys.iter().find(|key| key.key_data() == signature.public_key()) else { return Ok(None) };
    key.verify(namespace, message, &signature).context("the signature is not of these bytes")?;
    Ok(Some(key))
}

/// The same key without its comment: what tells keys apart.
pub(crate) fn same(a: &PublicKey, b: &PublicKey) -> bool {
    a.key_data() == b.key_data()
}
