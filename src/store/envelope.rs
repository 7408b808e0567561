//! A signed object: an armoured signature (PROTOCOL.sshsig), and right behind it the very bytes that are signed.
//!
//! Signature and payload cannot be separated, and nothing is parsed before its signature is known to be good.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;

use super::{FORMAT, StoreError};
use crate::{signing, version};

const END: &[u8] = b"-----END SSH SIGNATURE-----\n";
/// Longest signature: that of an RSA key of 16384 bits is a third of it.
const MAX_SIGNATURE: usize = 16 << 10;

/// Something that is signed: what it is, so that no signature is good for something else.
pub trait Signed: Serialize + DeserializeOwned {
    /// The namespace of its signature.
    const NAMESPACE: &'static str;
    /// Its name in messages.
    const WHAT: &'static str;
}

/// The signature of `payload`, and `payload`.
pub fn seal_bytes(identity: &Path, namespace: &str, payload: &[u8]) -> Result<Vec<u8>, StoreError> {
    let pem = signing::sign(identity, namespace, payload).map_err(|error| StoreError::local(&error))?;
    let mut object = pem.trim_end().as_bytes().to_vec();
    object.push(b'\n');
    object.extend_from_slice(payload);
    Ok(object)
}

/// The payload of an object and the one of `keys` that has signed it. `what` names it in messages.
pub fn open_bytes<'o, 'k>(
    object: &'o [u8],
    namespace: &str,
    keys: &'k [PublicKey],
    what: &str,
) -> Result<(&'o [u8], &'k PublicKey), StoreError> {
    let tampered = |why: &str| StoreError::Tampered(format!("{what}: {why}"));
    let head = &object[..object.len().min(MAX_SIGNATURE)];
    let end = head.windows(END.len()).position(|window| window == END);
    let (pem, payload) = object.split_at(end.ok_or_else(|| tampered("it has no signature"))? + END.len());
    let pem = std::str::from_utf8(pem).map_err(|_| tampered("its signature is no text"))?;
    match signing::signer(pem, namespace, payload, keys) {
        Ok(Some(key)) => Ok((payload, key)),
        Ok(None) => Err(tampered("it is signed by a key that is not known here")),
        Err(error) => Err(tampered(&format!("{error:#}"))),
    }
}

/// `value` as JSON, signed.
pub fn seal<T: Signed>(identity: &Path, value: &T) -> Result<Vec<u8>, StoreError> {
    let mut payload = serde_json::to_vec_pretty(value)
        .map_err(|error| StoreError::Local(format!("writing {}: {error}", T::WHAT)))?;
    payload.push(b'\n');
    seal_bytes(identity, T::NAMESPACE, &payload)
}

/// What one of `keys` has signed. `name` is the object's, for messages.
pub fn open<T: Signed>(object: &[u8], keys: &[PublicKey], name: &str) -> Result<T, StoreError> {
    open_signed(object, keys, name).map(|(value, _)| value)
}

/// The same, with the key that has signed it.
pub fn open_signed<'k, T: Signed>(
    object: &[u8],
    keys: &'k [PublicKey],
    name: &str,
) -> Result<(T, &'k PublicKey), StoreError> {
    let what = format!("{} {name}", T::WHAT);
    let (payload, key) = open_bytes(object, T::NAMESPACE, keys, &what)?;
    Ok((parse(payload, &what)?, key))
}

/// What every signed object begins with, as far as it must be understood to refuse the rest well.
#[derive(Deserialize)]
struct Preamble {
    v: u32,
    #[serde(default)]
    min_agent: String,
}

fn parse<T: Signed>(payload: &[u8], what: &str) -> Result<T, StoreError> {
    let malformed = |error: serde_json::Error| StoreError::Tampered(format!("{what}: {error}"));
    let preamble: Preamble = serde_json::from_slice(payload).map_err(malformed)?;
    let newer = preamble.v > FORMAT || release(&preamble.min_agent) > release(&version::package());
    if newer {
        return Err(StoreError::Incompatible(format!(
            "{what} needs a newer xds-sync than {}: upgrade this host",
            version::package()
        )));
    }
    serde_json::from_slice(payload).map_err(malformed)
}

/// `0.1.0 (7aeae63)` as numbers that compare.
fn release(version: &str) -> [u64; 3] {
    let mut numbers = version.split([' ', '-', '+']).next().unwrap_or_default().split('.');
    std::array::from_fn(|_| numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;
    use ssh_key::private::Ed25519Keypair;
    use ssh_key::{LineEnding, PrivateKey};

    use super::*;

    /// Key pairs in files, each made of a seed.
    pub(crate) struct Keys(tempfile::TempDir);

    impl Keys {
        pub(crate) fn new() -> Keys {
            Keys(tempfile::tempdir().unwrap())
        }

        /// The private key of this name's seed, and its public key.
        pub(crate) fn pair(&self, seed: u8) -> (PathBuf, PublicKey) {
            let key = PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
            let path = self.0.path().join(format!("key{seed}"));
            let text = key.to_openssh(LineEnding::LF).unwrap();
            crate::durable::replace(&path, text.as_bytes(), crate::durable::Options::PRIVATE).unwrap();
            (path, key.public_key().clone())
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Note {
        v: u32,
        #[serde(default)]
        min_agent: String,
        text: String,
    }

    impl Signed for Note {
        const NAMESPACE: &'static str = "xds-sync-test@v1";
        const WHAT: &'static str = "the note";
    }

    fn note(text: &str) -> Note {
        Note { v: FORMAT, min_agent: String::new(), text: text.to_owned() }
    }

    #[test]
    fn what_was_signed_is_read_by_whom_knows_the_key() {
        let keys = Keys::new();
        let [(one, public), (_, other)] = [1, 2].map(|seed| keys.pair(seed));
        let object = seal(&one, &note("a")).unwrap();
        assert_eq!(open::<Note>(&object, &[other.clone(), public.clone()], "n").unwrap(), note("a"));
        let error = open::<Note>(&object, &[other], "n").unwrap_err();
        assert!(matches!(&error, StoreError::Tampered(why) if why.contains("not known here")), "{error}");
        let public = [public];
        let elsewhere = open_bytes(&object, "xds-sync-head@v1", &public, "n");
        assert!(matches!(elsewhere, Err(StoreError::Tampered(_))));
    }

    #[test]
    fn ssh_keygen_says_the_same() {
        let keys = Keys::new();
        let (identity, public) = keys.pair(1);
        let object = seal(&identity, &note("a")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = object.windows(END.len()).position(|window| window == END).unwrap() + END.len();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("sig"), &object[..at]).unwrap();
        std::fs::write(path("signers"), format!("main {}\n", public.to_openssh().unwrap())).unwrap();
        for (payload, good) in [(object[at..].to_vec(), true), (b"{}".to_vec(), false)] {
            std::fs::write(path("payload"), payload).unwrap();
            let mut verify = Command::new("ssh-keygen");
            verify.args(["-Y", "verify", "-I", "main", "-n", Note::NAMESPACE, "-f"]).arg(path("signers"));
            verify.arg("-s").arg(path("sig")).stdin(std::fs::File::open(path("payload")).unwrap());
            let status = verify.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            assert_eq!(status.success(), good);
        }
    }

    #[test]
    fn what_is_newer_is_not_called_tampered_with() {
        let keys = Keys::new();
        let (identity, public) = keys.pair(1);
        for newer in
            [Note { v: FORMAT + 1, ..note("a") }, Note { min_agent: "99.0.0".to_owned(), ..note("a") }]
        {
            let object = seal(&identity, &newer).unwrap();
            let error = open::<Note>(&object, std::slice::from_ref(&public), "n").unwrap_err();
            assert!(matches!(error, StoreError::Incompatible(_)), "{error}");
        }
        assert!(release("0.10.0 (abc)") > release("0.9.9"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_flipped_bit_is_refused(at in any::<proptest::sample::Index>(), bit in 0..8u32) {
            let keys = Keys::new();
            let (identity, public) = keys.pair(1);
            let mut object = seal(&identity, &note("a text")).unwrap();
            let at = at.index(object.len());
            object[at] ^= 1 << bit;
            let error = open::<Note>(&object, &[public], "n").unwrap_err();
            prop_assert!(matches!(error, StoreError::Tampered(_)), "{}", error);
        }

        #[test]
        fn any_cut_is_refused(at in any::<proptest::sample::Index>()) {
            let keys = Keys::new();
            let (identity, public) = keys.pair(1);
            let object = seal(&identity, &note("a text")).unwrap();
            prop_assert!(open::<Note>(&object[..at.index(object.len())], &[public], "n").is_err());
        }
    }
}
