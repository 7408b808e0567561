//! Main's ssh key pair.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ed25519_dalek::SigningKey;
use ssh_key::private::Ed25519Keypair;
use ssh_key::rand_core::CryptoRngCore;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey};

use crate::durable::{self, Options};
use crate::signing::ssh_keygen;

/// Most bytes that are read of a private key.
const MAX_KEY: u64 = 64 * 1024;

/// The key pair as it is now, and what was done to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPair {
    /// Whether the private key was made; an existing one stays as it is.
    pub(crate) made: bool,
    /// Whether the public key was written.
    pub(crate) public_written: bool,
    /// The fingerprint of the public key that stood there before, where it was of another private key.
    pub(crate) replaced_public: Option<String>,
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
    let own = public_of(identity)?;
    let there = durable::read(&public_path).with_context(|| format!("reading {}", public_path.display()))?;
    let there = there.map(|text| {
        let key = PublicKey::from_openssh(&String::from_utf8_lossy(&text));
        key.with_context(|| format!("{} is no public key: move it away", public_path.display()))
    });
    let there = there.transpose()?;
    // Nodes would let in a key that this Main has not, and ssh would offer it to them.
    let is_other = there.as_ref().is_some_and(|there| there.key_data() != own.key_data());
    let public_written = made || is_other || there.is_none();
    if is_other || there.is_none() {
        write_public(&public_path, &own, comment)?;
    }
    Ok(KeyPair {
        made,
        public_written,
        replaced_public: there
            .filter(|_| is_other)
            .map(|there| there.fingerprint(HashAlg::Sha256).to_string()),
        tightened,
        algorithm: own.algorithm().to_string(),
        fingerprint: own.fingerprint(HashAlg::Sha256).to_string(),
    })
}

/// Why ssh cannot use a private key, and what to do about it; `None`: nothing that can be seen from here.
pub(crate) fn trouble(identity: &Path) -> Option<String> {
    let shown = identity.display();
    let found = match fs::metadata(identity) {
        Ok(found) if !found.is_file() => return Some(format!("Main's own key {shown} is not a file")),
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(format!(
                "Main's own key {shown} is missing: put it back; where there never was one, run `xds-sync init`"
            ));
        }
        Err(error) => return Some(format!("Main's own key {shown} cannot be read: {error}")),
    };
    // As ssh does, which leaves the keys of others to them.
    if found.permissions().mode() & 0o077 != 0 && found.uid() == rustix::process::geteuid().as_raw() {
        return Some(format!(
            "Main's own key {shown} can be read by others, and ssh ignores it: chmod 600 {shown}"
        ));
    }
    let own = match read_private(identity) {
        Ok(own) if own.has_passphrase => {
            return Some(format!(
                "Main's own key {shown} has a passphrase, which nobody types in a run: take it off with `ssh-keygen -p -f \
                 {shown}`, or let ssh.options name an agent that has the key (IdentityAgent=…)"
            ));
        }
        Ok(own) => own.public?,
        Err(error) => return Some(format!("Main's own key {error:#}: put back a good copy of it")),
    };
    let public_path = public_path(identity);
    let there = PublicKey::read_openssh_file(&public_path).ok()?;
    (there.key_data() != own.key_data()).then(|| {
        format!(
            "{} is the public key of another key than {shown}, and ssh offers that one to nodes: run `xds-sync init`, \
             which makes it again",
            public_path.display()
        )
    })
}

/// Path of the public key of `identity`.
#[must_use]
pub(crate) fn public_path(identity: &Path) -> PathBuf {
    let mut path = OsString::from(identity);
    path.push(".pub");
    path.into()
}

/// What can be known of a private key without its passphrase.
struct Private {
    has_passphrase: bool,
    /// Some formats show it in spite of a passphrase.
    public: Option<PublicKey>,
}

fn read_private(identity: &Path) -> anyhow::Result<Private> {
    let file = fs::File::open(identity).with_context(|| format!("{} cannot be read", identity.display()))?;
    let mut text = Vec::new();
    file.take(MAX_KEY)
        .read_to_end(&mut text)
        .with_context(|| format!("{} cannot be read", identity.display()))?;
    if let Ok(key) = PrivateKey::from_openssh(&text) {
        return Ok(Private { has_passphrase: key.is_encrypted(), public: Some(key.public_key().clone()) });
    }
    match ssh_keygen::public_key(identity) {
        Ok(public) => Ok(Private { has_passphrase: false, public: Some(public) }),
        // PEM, of openssl or of PKCS 8.
        Err(_) if String::from_utf8_lossy(&text).contains("ENCRYPTED") => {
            Ok(Private { has_passphrase: true, public: None })
        }
        Err(error) => Err(error.context(format!("{} is damaged, or no private key", identity.display()))),
    }
}

/// The public key that belongs to a private one.
fn public_of(identity: &Path) -> anyhow::Result<PublicKey> {
    let private = read_private(identity)?;
    private.public.with_context(|| {
        format!("{} does not tell its public key without its passphrase", identity.display())
    })
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

    /// Two pairs: `key` and `other`.
    fn pairs() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["key", "other"] {
            ensure(&dir.path().join(name), name, &mut OsRng).unwrap();
        }
        let identity = dir.path().join("key");
        (dir, identity)
    }

    #[test]
    fn the_public_key_of_another_private_key_is_not_handed_out() {
        let (dir, identity) = pairs();
        let [own, other] =
            [&identity, &dir.path().join("other")].map(|path| ensure(path, "", &mut OsRng).unwrap());
        fs::copy(dir.path().join("other.pub"), public_path(&identity)).unwrap();
        assert!(trouble(&identity).unwrap().contains("public key of another key"));
        let again = ensure(&identity, "xds-sync main", &mut OsRng).unwrap();
        assert_eq!(again.fingerprint, own.fingerprint);
        assert_eq!(again.replaced_public, Some(other.fingerprint));
        assert_eq!(trouble(&identity), None);
        // Nor one of garbage.
        fs::write(&identity, "garbage").unwrap();
        assert!(ensure(&identity, "", &mut OsRng).is_err());
    }

    #[test]
    fn what_is_wrong_with_a_key_is_told_with_what_to_do() {
        let rsa = |passphrase: &str| {
            format!("rm $K $K.pub; ssh-keygen -q -t rsa -b 2048 -m PEM -N '{passphrase}' -f $K")
        };
        for (spoil, says) in [
            ("true", None),
            // ssh does without it.
            ("rm $K.pub", None),
            (&*rsa(""), None),
            ("rm $K", Some("is missing")),
            ("chmod 644 $K", Some("chmod 600")),
            ("chmod 640 $K", Some("chmod 600")),
            ("ssh-keygen -q -p -P '' -N secret -f $K", Some("ssh-keygen -p -f")),
            (&*rsa("secret"), Some("ssh-keygen -p -f")),
            ("echo garbage >$K", Some("is damaged")),
            (": >$K", Some("is damaged")),
            ("rm $K; mkdir $K", Some("is not a file")),
        ] {
            let (_dir, identity) = pairs();
            let mut sh = std::process::Command::new("sh");
            let spoilt = sh.args(["-ec", spoil]).env("K", &identity).stdout(std::process::Stdio::null());
            assert!(spoilt.status().unwrap().success());
            let told = trouble(&identity);
            assert_eq!(told.is_some(), says.is_some(), "{spoil}: {told:?}");
            let told = told.unwrap_or_else(|| "Main's own key".to_owned());
            assert!(
                told.contains(says.unwrap_or_default()) && told.contains("Main's own key"),
                "{spoil}: {told}"
            );
        }
    }
}
