//! Key rotation: a new key is made beside the one in use, installed on every node, and only then used.
//!
//! A node accepts a new key if the old one has signed both. So nobody can replace or remove a key without having it,
//! and the new key gets the permissions of the old one and no others.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use ssh_key::{PublicKey, SshSig};

use super::authorized_keys;
use super::join::check_kind;
use super::key::public_path;
use crate::durable::{self, Options};
use crate::node::KeyChange;
use crate::signing::sign;

/// The namespace of our signatures (PROTOCOL.sshsig): they are valid for nothing else.
const NAMESPACE: &str = "xds-sync rotate";

/// What there is to say while [`previous`] is there.
pub(crate) const UNFINISHED: &str = "a new key has not reached every node yet (`init --rotate`): run `xds-sync init --rotate` again; until then \
     remove no node that has not moved";

/// Path of the key that will become `identity`.
#[must_use]
pub(crate) fn next(identity: &Path) -> PathBuf {
    with_suffix(identity, ".next")
}

/// Path of the key that was `identity` before, kept while some node knows no other.
#[must_use]
pub(crate) fn previous(identity: &Path) -> PathBuf {
    with_suffix(identity, ".old")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The change from one key pair to another, signed by the old one. It keeps the old key.
pub(crate) fn propose(old: &Path, new: &Path) -> anyhow::Result<KeyChange> {
    let (old_key, new_key) = (read_public(old)?, read_public(new)?);
    let signature = sign(old, NAMESPACE, statement(&old_key, &new_key)?.as_bytes())?;
    let text = |key: &PublicKey| key.to_openssh().context("writing a public key as text");
    Ok(KeyChange { old: text(&old_key)?, new: text(&new_key)?, signature, drop_old: false })
}

/// What the old key signs.
fn statement(old: &PublicKey, new: &PublicKey) -> anyhow::Result<String> {
    let text = |key: &PublicKey| PublicKey::from(key.key_data().clone()).to_openssh();
    Ok(format!("{} is followed by {}\n", text(old)?, text(new)?))
}

fn read_public(identity: &Path) -> anyhow::Result<PublicKey> {
    let path = public_path(identity);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    PublicKey::from_openssh(&text).with_context(|| format!("{} is no public key", path.display()))
}

/// On a node: adds the new key beside the old one, or removes the old one. Either way no other key of the same Main stays:
/// whoever had the old one may have appointed successors of his own. Returns the lines of this program that are left.
pub(crate) fn accept(authorized_keys: &Path, change: &KeyChange) -> anyhow::Result<Vec<String>> {
    let (old, new) = (PublicKey::from_openssh(&change.old), PublicKey::from_openssh(&change.new));
    let (old, new) = (old.context("the old key cannot be read")?, new.context("the new key cannot be read")?);
    check_kind(&new)?;
    let signature = SshSig::from_pem(&change.signature).context("the signature cannot be read")?;
    old.verify(NAMESPACE, statement(&old, &new)?.as_bytes(), &signature)
        .context("the old key has not signed the new one")?;
    let (old, new) = (old.key_data(), new.key_data());
    ensure!(old != new, "the new key is the old one");
    let path = authorized_keys.display();
    authorized_keys::change(authorized_keys, |before| {
        if change.drop_old {
            // Without the new key, Main would be locked out.
            ensure!(authorized_keys::has(before, new), "the new key is not in {path}");
            return Ok(authorized_keys::with_new_alone(before, old, new));
        }
        authorized_keys::beside(before, old, new)?.with_context(|| format!("the old key is not in {path}"))
    })?;
    Ok(authorized_keys::ours(&authorized_keys::read(authorized_keys)?))
}

/// Makes the next key the one in use, and keeps the one in use as the previous key. At every moment there is a
/// private key at `identity`, from which a missing public key is derived.
pub(crate) fn switch(identity: &Path) -> anyhow::Result<()> {
    let (next, previous) = (next(identity), previous(identity));
    let switch = || -> io::Result<()> {
        match fs::hard_link(identity, &previous) {
            // A switch may have been killed after this step.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read(&previous)? != fs::read(identity)? {
                    return Err(error);
                }
            }
            linked => linked?,
        }
        let public = fs::read(public_path(identity))?;
        durable::replace(&public_path(&previous), &public, Options::PUBLIC)?;
        // A public key that does not belong to the private one would lock this Main out of new nodes; a missing one
        // is derived again.
        fs::remove_file(public_path(identity))?;
        fs::rename(&next, identity)?;
        fs::rename(public_path(&next), public_path(identity))?;
        durable::sync_parent(identity)
    };
    switch().with_context(|| format!("putting {} in the place of {}", next.display(), identity.display()))
}

/// Removes the previous key: no node knows it any more.
pub(crate) fn forget_previous(identity: &Path) -> anyhow::Result<()> {
    let previous = previous(identity);
    let remove = || -> io::Result<()> {
        for path in [public_path(&previous), previous.clone()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        durable::sync_parent(identity)
    };
    remove().with_context(|| format!("removing {}", previous.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::{Command, Stdio};

    use ssh_key::rand_core::OsRng;

    use super::*;
    use crate::enroll::key;

    /// Two key pairs, and a node's file with the first one's line between others.
    struct Site {
        dir: tempfile::TempDir,
    }

    const OPTIONS: &str = "restrict,command=\"/usr/bin/xds-sync agent\",from=\"10.0.0.0/8\"";

    impl Site {
        fn new() -> Site {
            let site = Site { dir: tempfile::tempdir().unwrap() };
            for name in ["key", "key.next", "stranger"] {
                key::ensure(&site.path(name), name, &mut OsRng).unwrap();
            }
            fs::write(site.keys(), site.file(&["key"])).unwrap();
            site
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn keys(&self) -> PathBuf {
            self.path("authorized_keys")
        }

        fn blob(&self, name: &str) -> String {
            let text = fs::read_to_string(public_path(&self.path(name))).unwrap();
            text.rsplit_once(' ').unwrap().0.to_owned()
        }

        /// The file with lines of Main with these keys.
        fn file(&self, names: &[&str]) -> String {
            let stranger = self.blob("stranger");
            let lines =
                names.iter().map(|name| format!("{OPTIONS} {} xds-sync from main\n", self.blob(name)));
            format!("# first\n{}{stranger} last", lines.collect::<String>())
        }

        fn now(&self) -> String {
            fs::read_to_string(self.keys()).unwrap()
        }

        fn refuses(&self, change: &KeyChange) -> String {
            let before = self.now();
            let why = format!("{:#}", accept(&self.keys(), change).unwrap_err());
            assert_eq!(self.now(), before, "{why}");
            why
        }
    }

    #[test]
    fn the_new_key_may_do_what_the_old_one_may() {
        let site = Site::new();
        let change = propose(&site.path("key"), &site.path("key.next")).unwrap();
        let done = KeyChange { drop_old: true, ..change.clone() };
        assert!(site.refuses(&done).contains("the new key is not in"), "never the last way in");
        for _ in 0..2 {
            accept(&site.keys(), &change).unwrap();
            assert_eq!(site.now(), site.file(&["key", "key.next"]));
        }
        for _ in 0..2 {
            accept(&site.keys(), &done).unwrap();
            assert_eq!(site.now(), site.file(&["key.next"]));
        }
    }

    #[test]
    fn what_a_stolen_key_has_added_is_gone_after_the_rotation() {
        let site = Site::new();
        for name in ["evil", "evil2"] {
            key::ensure(&site.path(name), name, &mut OsRng).unwrap();
        }
        let change = |old: &str, new: &str| propose(&site.path(old), &site.path(new)).unwrap();
        // A key has one successor at a time, whoever appoints it.
        accept(&site.keys(), &change("key", "evil")).unwrap();
        assert_eq!(site.now(), site.file(&["key", "evil"]));
        accept(&site.keys(), &change("key", "evil2")).unwrap();
        assert_eq!(site.now(), site.file(&["key", "evil2"]));

        let change = change("key", "key.next");
        let left = accept(&site.keys(), &change).unwrap();
        assert_eq!(site.now(), site.file(&["key", "key.next"]));
        assert_eq!(left.len(), 2, "{left:?}");
        // An open session of the thief adds a line once more.
        let before = site.now();
        let evil = before.lines().nth(1).unwrap().replace(&site.blob("key"), &site.blob("evil"));
        fs::write(site.keys(), format!("{evil}\n{before}")).unwrap();
        let left = accept(&site.keys(), &KeyChange { drop_old: true, ..change }).unwrap();
        assert_eq!(site.now(), site.file(&["key.next"]));
        let new = key::ensure(&site.path("key.next"), "", &mut OsRng).unwrap();
        assert_eq!(left, [format!("ssh-ed25519 {} xds-sync from main", new.fingerprint)]);
    }

    #[test]
    fn lines_of_another_main_and_of_people_stay() {
        let site = Site::new();
        key::ensure(&site.path("second"), "second", &mut OsRng).unwrap();
        let others =
            format!("{OPTIONS} {} xds-sync from second\n{} me\n", site.blob("second"), site.blob("stranger"));
        fs::write(site.keys(), format!("{others}{}", site.file(&["key"]))).unwrap();
        let change = propose(&site.path("key"), &site.path("key.next")).unwrap();
        accept(&site.keys(), &change).unwrap();
        let left = accept(&site.keys(), &KeyChange { drop_old: true, ..change }).unwrap();
        assert_eq!(site.now(), format!("{others}{}", site.file(&["key.next"])));
        assert_eq!(left.len(), 2, "the other Main's is told as well: {left:?}");
    }

    #[test]
    fn our_signature_is_one_of_ssh_keygen() {
        let site = Site::new();
        let signature = sign(&site.path("key"), NAMESPACE, b"statement").unwrap();
        fs::write(site.path("signature"), signature).unwrap();
        fs::write(site.path("signers"), format!("main {}\n", site.blob("key"))).unwrap();
        for (said, valid) in [("statement", true), ("another", false)] {
            fs::write(site.path("said"), said).unwrap();
            let mut verify = Command::new("ssh-keygen");
            verify.args(["-Y", "verify", "-I", "main", "-n", NAMESPACE, "-f"]).arg(site.path("signers"));
            verify.arg("-s").arg(site.path("signature")).stdin(fs::File::open(site.path("said")).unwrap());
            let verified = verify.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            assert_eq!(verified.success(), valid, "{said}");
        }
    }

    #[test]
    fn an_rsa_key_that_xds_used_is_replaced_as_well() {
        let site = Site::new();
        let rsa = site.path("rsa");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-C", "root@xivo", "-f"]);
        assert!(keygen.arg(&rsa).status().unwrap().success());
        fs::write(site.keys(), fs::read(public_path(&rsa)).unwrap()).unwrap();
        let change = propose(&rsa, &site.path("key.next")).unwrap();
        accept(&site.keys(), &change).unwrap();
        accept(&site.keys(), &KeyChange { drop_old: true, ..change }).unwrap();
        assert_eq!(site.now(), format!("{} root@xivo\n", site.blob("key.next")));
    }

    #[test]
    fn nobody_replaces_or_removes_a_key_without_having_it() {
        let site = Site::new();
        let change = propose(&site.path("key"), &site.path("key.next")).unwrap();
        let stranger = propose(&site.path("stranger"), &site.path("key.next")).unwrap();
        let key_of = |name: &str| fs::read_to_string(public_path(&site.path(name))).unwrap();
        for (what, refused) in [
            ("another's key", KeyChange { old: key_of("stranger"), ..change.clone() }),
            ("another's signature", KeyChange { signature: stranger.signature, ..change.clone() }),
            ("another new key", KeyChange { new: key_of("stranger"), ..change.clone() }),
            ("no signature", KeyChange { signature: String::new(), ..change.clone() }),
            ("no key", KeyChange { new: "ssh-ed25519 AAAA".to_owned(), ..change.clone() }),
            ("itself", propose(&site.path("key"), &site.path("key")).unwrap()),
        ] {
            site.refuses(&refused);
            site.refuses(&KeyChange { drop_old: true, ..refused });
            assert_eq!(site.now(), site.file(&["key"]), "{what}");
        }
        let unknown = propose(&site.path("key.next"), &site.path("stranger")).unwrap();
        fs::write(site.keys(), "# empty\n").unwrap();
        assert!(site.refuses(&unknown).contains("the old key is not in"));
    }

    #[test]
    fn a_switched_pair_is_whole_and_the_previous_one_is_kept_until_it_is_forgotten() {
        let site = Site::new();
        let (old, new) = (site.blob("key"), site.blob("key.next"));
        let identity = site.path("key");
        let private = fs::read(site.path("key.next")).unwrap();
        switch(&identity).unwrap();
        assert_eq!((site.blob("key"), site.blob("key.old")), (new, old));
        assert_eq!(fs::read(&identity).unwrap(), private);
        key::ensure(&next(&identity), "third", &mut OsRng).unwrap();
        assert!(switch(&identity).is_err(), "the previous key is not lost");
        fs::remove_file(next(&identity)).unwrap();
        fs::remove_file(public_path(&next(&identity))).unwrap();
        assert!(!next(&identity).exists() && !public_path(&next(&identity)).exists());
        assert!(propose(&previous(&identity), &identity).is_ok());
        forget_previous(&identity).unwrap();
        forget_previous(&identity).unwrap();
        assert!(!previous(&identity).exists() && !public_path(&previous(&identity)).exists());
        assert!(identity.exists());
    }
}
