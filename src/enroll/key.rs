//! Main's ssh key pair.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ed25519_dalek::SigningKey;
use ssh_key::private::Ed25519Keypair;
use ssh_key::rand_core::CryptoRngCore;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey};

use super::ssh_keygen;
use crate::durable::{self, Options};

/// The key pair as it is now, and what was done to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPair {
    /// Whether the private key was made; an existing one stays as it is.
    pub(crate) made: bool,
    /// Whether the public key was written.
    pub(crate) public_written: bool,
    /// Whether others could read the private key, which ssh would have refused.
    pub(crate) tightened: bool,
    /// Of the public key, such as `ssh-ed25519`.
    pub(crate) algorithm: String,
    /// Of the public key, as `ssh-keygen -l` prints it: `SHA256:…`.
    pub(crate) fingerprint: String,
}

/// Makes the key pair `identity` and `identity.pub`, or what is missing of it. An existing private key is never
/// replaced, whatever its algorithm: nodes know it.
pub(crate) fn ensure(
    identity: &Path,
    comment: &str,
    random: &mut impl CryptoRngCore,
) -> anyhow::Result<KeyPair> {
    let public_path = public_path(identity);
    let mut made = false;
    let mut tightened = false;
    match fs::metadata(identity) {
        Ok(metadata) => {
            if metadata.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(identity, fs::Permissions::from_mode(0o600))
                    .with_context(|| format!("making {} readable for its owner alone", identity.display()))?;
                tightened = true;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let public = make(identity, random)?;
            // A public key that is left of an older pair would be handed to nodes in its place.
            write_public(&public_path, &public, comment)?;
            made = true;
        }
        Err(error) => {
            return Err(error).with_context(|| format!("looking at the private key {}", identity.display()));
        }
    }
    let mut public_written = made;
    let public = match fs::read_to_string(&public_path) {
        Ok(text) => PublicKey::from_openssh(&text)
            .with_context(|| format!("{} is no public key", public_path.display()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let public = public_of(identity)?;
            write_public(&public_path, &public, comment)?;
            public_written = true;
            public
        }
        Err(error) => {
            return Err(error).with_context(|| format!("reading {}", public_path.display()));
        }
    };
    Ok(KeyPair {
        made,
        public_written,
        tightened,
        algorithm: public.algorithm().to_string(),
        fingerprint: public.fingerprint(HashAlg::Sha256).to_string(),
    })
}

/// Path of the public key of `identity`.
#[must_use]
pub(crate) fn public_path(identity: &Path) -> PathBuf {
    let mut path = OsString::from(identity);
    path.push(".pub");
    path.into()
}

fn public_of(identity: &Path) -> anyhow::Result<PublicKey> {
    let text = fs::read(identity).with_context(|| format!("reading {}", identity.display()))?;
    match PrivateKey::from_openssh(&text) {
        Ok(key) => Ok(key.public_key().clone()),
        Err(_) => ssh_keygen::public_key(identity),
    }
}

fn make(identity: &Path, random: &mut impl CryptoRngCore) -> anyhow::Result<PublicKey> {
    let key = PrivateKey::from(Ed25519Keypair::from(SigningKey::generate(random)));
    let text = key.to_openssh(LineEnding::LF).context("writing a private key as text")?;
    let dir = identity.parent().unwrap_or(Path::new("/"));
    durable::make_dir(dir, 0o700).with_context(|| format!("making {}", dir.display()))?;
    // A fingerprint that is printed must not be of a key that a power cut takes away, with a directory that is new.
    durable::sync_parent(dir).with_context(|| format!("making {}", dir.display()))?;
    durable::create(identity, text.as_bytes(), Options::PRIVATE)
        .with_context(|| format!("writing the private key {}", identity.display()))?;
    Ok(key.public_key().clone())
}

fn write_public(path: &Path, key: &PublicKey, comment: &str) -> anyhow::Result<()> {
    let mut key = key.clone();
    key.set_comment(comment);
    let text = key.to_openssh().context("writing a public key as text")?;
    durable::replace(path, format!("{text}\n").as_bytes(), Options::PUBLIC)
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ssh_key::rand_core::OsRng;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_pair_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let identity = dir.path().join("ssh/rsync_xds");
        let first = ensure(&identity, "xds-sync main", &mut OsRng).unwrap();
        assert!(first.made && first.public_written);
        assert_eq!(first.algorithm, "ssh-ed25519");
        assert_eq!((mode(&identity), mode(identity.parent().unwrap())), (0o600, 0o700));
        assert!(fs::read_to_string(public_path(&identity)).unwrap().ends_with(" xds-sync main\n"));

        let before = fs::read(&identity).unwrap();
        let second = ensure(&identity, "other", &mut OsRng).unwrap();
        assert_eq!(second, KeyPair { made: false, public_written: false, ..first.clone() });
        assert_eq!(fs::read(&identity).unwrap(), before);

        fs::remove_file(public_path(&identity)).unwrap();
        fs::set_permissions(&identity, fs::Permissions::from_mode(0o644)).unwrap();
        let third = ensure(&identity, "xds-sync main", &mut OsRng).unwrap();
        assert_eq!(third, KeyPair { made: false, public_written: true, tightened: true, ..first });
        assert_eq!(mode(&identity), 0o600);
    }

    #[test]
    fn what_stands_there_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let identity = dir.path().join("rsync_xds");
        fs::write(&identity, "not a key").unwrap();
        assert!(ensure(&identity, "", &mut OsRng).is_err());
        assert_eq!(fs::read(&identity).unwrap(), b"not a key");
        assert!(!public_path(&identity).exists());
    }
}
