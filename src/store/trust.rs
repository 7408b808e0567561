//! Main's keys: each is signed by the one before it, so that a node which pinned an older key follows a rotation.

use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;

use super::envelope::{self, Signed};
use super::{MAX_SMALL, Objects, StoreError, names};
use crate::signing;

/// A key follows another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// The format.
    pub v: u32,
    /// The store's ULID.
    pub cluster: String,
    /// Its number; 1 is the first, which signs itself.
    pub n: u64,
    /// The key, in OpenSSH's format, without a comment.
    pub key: String,
    /// When, in RFC 3339.
    pub time: String,
}

impl Signed for Trust {
    const NAMESPACE: &'static str = "xds-sync-trust@v1";
    const WHAT: &'static str = "the key";
}

/// More rotations than this are not followed at once.
const MAX_ROTATIONS: u64 = 1_000;

/// A key of Main, and which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// Its number.
    pub n: u64,
    /// The key.
    pub key: PublicKey,
}

/// Main's key as it is now, for whoever trusts `pinned`. Where the chain does not lead from `pinned` to anywhere, that is the
/// key still.
///
/// Only what comes after `pinned` is checked: what was before it says nothing, since `pinned` is trusted by other means.
pub fn newest(objects: &dyn Objects, pinned: &PublicKey) -> Result<Trusted, StoreError> {
    let mut trusted = Trusted { n: 0, key: pinned.clone() };
    let mut found = false;
    for n in 1..=MAX_ROTATIONS {
        let name = names::trust(n);
        let Some(object) = objects.get(&name, MAX_SMALL)? else { return Ok(trusted) };
        if found {
            let next = open(&object, &trusted.key, n, &name)?;
            trusted = Trusted { n, key: next };
        } else if let Some(key) = claims(&object)
            && signing::same(&key, pinned)
        {
            // Who has signed this one is not known here, and does not matter.
            found = true;
            trusted.n = n;
        }
    }
    Err(StoreError::Tampered(format!("{} has more than {MAX_ROTATIONS} keys", names::TRUST)))
}

/// All of Main's keys, oldest first. The first one signs itself: who reads this trusts the place, or knows one of the keys.
pub fn all(objects: &dyn Objects) -> Result<Vec<PublicKey>, StoreError> {
    let mut keys: Vec<PublicKey> = Vec::new();
    for n in 1..=MAX_ROTATIONS {
        let name = names::trust(n);
        let Some(object) = objects.get(&name, MAX_SMALL)? else { return Ok(keys) };
        let unreadable = || StoreError::Tampered(format!("{name} has no key"));
        let signer = match keys.last() {
            Some(last) => last.clone(),
            None => claims(&object).ok_or_else(unreadable)?,
        };
        keys.push(open(&object, &signer, n, &name)?);
    }
    Err(StoreError::Tampered(format!("{} has more than {MAX_ROTATIONS} keys", names::TRUST)))
}

/// The key that follows `key`.
fn open(object: &[u8], key: &PublicKey, n: u64, name: &str) -> Result<PublicKey, StoreError> {
    let next: Trust = envelope::open(object, std::slice::from_ref(key), name)?;
    if next.n != n {
        return Err(StoreError::Tampered(format!("{name} is the key {}, not {n}", next.n)));
    }
    PublicKey::from_openssh(&next.key)
        .map_err(|error| StoreError::Tampered(format!("{name} has no key: {error}")))
}

/// The key that an object speaks of, whoever signed it.
fn claims(object: &[u8]) -> Option<PublicKey> {
    let text = String::from_utf8_lossy(object);
    let payload = text.split_once("-----END SSH SIGNATURE-----\n")?.1;
    let trust: Trust = serde_json::from_str(payload).ok()?;
    PublicKey::from_openssh(&trust.key).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::FORMAT;
    use crate::store::envelope::tests::Keys;
    use crate::store::objects::memory::Memory;

    fn put(objects: &Memory, n: u64, key: &PublicKey, signer: &Path) {
        let trust = Trust {
            v: FORMAT,
            cluster: "c".to_owned(),
            n,
            key: key.to_openssh().unwrap(),
            time: "2026-01-02T03:04:05Z".to_owned(),
        };
        objects.put(&names::trust(n), &envelope::seal(signer, &trust).unwrap()).unwrap();
    }

    #[test]
    fn a_pinned_key_leads_to_the_one_in_use() {
        let keys = Keys::new();
        let pairs: Vec<_> = (0..4).map(|seed| keys.pair(seed)).collect();
        let objects = Memory::default();
        put(&objects, 1, &pairs[0].1, &pairs[0].0);
        for n in 1..4 {
            put(&objects, n as u64 + 1, &pairs[n].1, &pairs[n - 1].0);
        }
        for (_, pinned) in &pairs {
            let newest = newest(&objects, pinned).unwrap();
            assert_eq!(newest.n, 4);
            assert!(signing::same(&newest.key, &pairs[3].1));
        }
        let (_, stranger) = keys.pair(9);
        assert!(signing::same(&newest(&objects, &stranger).unwrap().key, &stranger));
    }

    #[test]
    fn nobody_appoints_a_key_without_having_the_one_before() {
        let keys = Keys::new();
        let [(main, one), (_, two), (thief, _)] = [1, 2, 3].map(|seed| keys.pair(seed));
        let objects = Memory::default();
        put(&objects, 1, &one, &main);
        put(&objects, 2, &two, &thief);
        assert!(matches!(newest(&objects, &one), Err(StoreError::Tampered(_))));
    }
}
