//! Main's ssh key pair.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use ssh_key::rand_core::CryptoRngCore;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey};

/// The key pair as it is now, and what was done to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// Whether the private key was made; otherwise it was there, and is as it was.
    pub made: bool,
    /// Whether the public key was written.
    pub public_written: bool,
    /// Whether the private key could be read by others, so that ssh would have refused it.
    pub tightened: bool,
    /// Of the public key, such as `ssh-ed25519`.
    pub algorithm: String,
    /// Of the public key, as `ssh-keygen -l` prints it: `SHA256:…`.
    pub fingerprint: String,
}

/// Sees to it that there is a key pair at `identity` and `identity.pub`. A private key that is there is
/// never replaced, whatever its type: nodes know it.
pub fn ensure(identity: &Path, comment: &str, random: &mut impl CryptoRngCore) -> anyhow::Result<KeyPair> {
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
            let key = PrivateKey::random(random, Algorithm::Ed25519).context("making a key")?;
            let text = key.to_openssh(LineEnding::LF).context("making a key")?;
            make_directory(identity)?;
            put_new(identity, text.as_bytes(), 0o600)
                .with_context(|| format!("writing the private key {}", identity.display()))?;
            // The public key of a key that was lost would lock this one out of every node.
            write_public(&public_path, key.public_key(), comment)?;
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

/// Where the public key of `identity` lies.
#[must_use]
pub fn public_path(identity: &Path) -> PathBuf {
    let mut path = OsString::from(identity);
    path.push(".pub");
    path.into()
}

fn public_of(identity: &Path) -> anyhow::Result<PublicKey> {
    let text = fs::read(identity).with_context(|| format!("reading {}", identity.display()))?;
    if let Ok(key) = PrivateKey::from_openssh(&text) {
        return Ok(key.public_key().clone());
    }
    // Older keys are in PEM, which ssh-keygen reads. The empty passphrase keeps it from asking for one.
    let output = Command::new("ssh-keygen")
        .args(["-y", "-P", "", "-f"])
        .arg(identity)
        .stdin(Stdio::null())
        .output()
        .context("running ssh-keygen")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!(
            "the public key of {} is missing and cannot be made from it: {}",
            identity.display(),
            why.trim()
        );
    }
    PublicKey::from_openssh(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("reading what ssh-keygen says of {}", identity.display()))
}

fn write_public(path: &Path, key: &PublicKey, comment: &str) -> anyhow::Result<()> {
    let mut key = key.clone();
    key.set_comment(comment);
    let text = key.to_openssh().context("writing a public key as text")?;
    let new = beside(path);
    let write = || {
        let _ = fs::remove_file(&new);
        write_file(&new, format!("{text}\n").as_bytes(), 0o644)?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

fn make_directory(identity: &Path) -> anyhow::Result<()> {
    let dir = identity.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("making {}", dir.display()))
}

/// Writes a whole file where there is none; never replaces one that came up meanwhile.
fn put_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let new = beside(path);
    let _ = fs::remove_file(&new);
    write_file(&new, content, mode)?;
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    linked
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut new = OsString::from(path);
    new.push(".new");
    new.into()
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
