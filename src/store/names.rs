//! What lies where in a store. Every name is made here, of checked parts.

use std::fmt;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A SHA-256 hash: the name of an object is that of what is stored.
///
/// sha256sum(1) checks it everywhere, where BLAKE3, the identity of files' content elsewhere, needs a tool of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Sha256 {
        Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// Reads 64 lower-case hex digits: one hash has one name.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Sha256> {
        let hash = crate::model::Digest::from_hex(text).map(|digest| Sha256(digest.0));
        hash.filter(|hash| hash.to_string() == text)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::model::Digest(self.0).fmt(f)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::model::Digest(self.0).fmt(f)
    }
}

impl From<Sha256> for String {
    fn from(hash: Sha256) -> String {
        hash.to_string()
    }
}

impl TryFrom<String> for Sha256 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Sha256, Self::Error> {
        Sha256::from_hex(&text).ok_or("expected 64 lower-case hex digits")
    }
}

/// Where all heads are.
pub const HEADS: &str = "v1/heads/";
/// Where all leases are.
pub const LEASES: &str = "v1/leases/";
/// Where all signs of life are.
pub const ALIVE: &str = "v1/alive/";
/// Where Main's keys are.
pub const TRUST: &str = "v1/trust/";
/// Where Main's trees and parts are.
pub const OBJECTS: &str = "v1/o/";
/// Where the lists of what goes are.
pub const GC: &str = "v1/gc/";
/// Where the areas of nodes are.
pub const NODES: &str = "v1/nodes/";

const SUFFIX: &str = ".xds";

/// A publication.
#[must_use]
pub fn head(seq: u64) -> String {
    format!("{HEADS}{seq:020}{SUFFIX}")
}

/// Who publishes from this epoch on.
#[must_use]
pub fn lease(epoch: u64) -> String {
    format!("{LEASES}{epoch:010}{SUFFIX}")
}

/// The newest head of an epoch.
#[must_use]
pub fn alive(epoch: u64) -> String {
    format!("{ALIVE}{epoch:010}{SUFFIX}")
}

/// Main's key with this number, from 1 on.
#[must_use]
pub fn trust(number: u64) -> String {
    format!("{TRUST}{number:010}{SUFFIX}")
}

/// What a garbage collection found to be needed by nobody.
#[must_use]
pub fn condemned(epoch: u64, number: u64) -> String {
    format!("{GC}{epoch:010}-{number:010}{SUFFIX}")
}

/// A number in a name, such as the sequence in that of a head.
#[must_use]
pub fn number_in(name: &str, prefix: &str, digits: usize) -> Option<u64> {
    let text = name.strip_prefix(prefix)?.strip_suffix(SUFFIX)?;
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// The sequence in the name of a head.
#[must_use]
pub fn seq_in(name: &str) -> Option<u64> {
    number_in(name, HEADS, 20)
}

/// The epoch in the name of a lease.
#[must_use]
pub fn epoch_in(name: &str) -> Option<u64> {
    number_in(name, LEASES, 10)
}

/// Epoch and number in the name of a list of what goes.
#[must_use]
pub fn condemned_in(name: &str) -> Option<(u64, u64)> {
    let text = name.strip_prefix(GC)?.strip_suffix(SUFFIX)?;
    let (epoch, number) = text.split_once('-')?;
    let read = |text: &str| {
        let is_number = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten()
    };
    Some((read(epoch)?, read(number)?))
}

/// Whose objects: a prefix below which objects are named by their hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area(String);

impl Area {
    /// Main's.
    #[must_use]
    pub fn main() -> Area {
        Area("v1/".to_owned())
    }

    /// A node's. `None`: that is no name of a node, and could lead anywhere.
    #[must_use]
    pub fn node(name: &str) -> Option<Area> {
        is_name(name).then(|| Area(format!("{NODES}{name}/")))
    }

    /// Below which all of it lies.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// Where its objects are.
    #[must_use]
    pub fn objects(&self) -> String {
        format!("{}o/", self.0)
    }

    /// An object by its hash.
    #[must_use]
    pub fn object(&self, hash: &Sha256) -> String {
        let hex = hash.to_string();
        format!("{}o/{}/{hex}", self.0, &hex[..2])
    }

    /// The hash in the name of one of its objects.
    #[must_use]
    pub fn object_in(&self, name: &str) -> Option<Sha256> {
        let (two, hex) = name.strip_prefix(&self.objects())?.split_once('/')?;
        Sha256::from_hex(hex).filter(|_| hex.starts_with(two) && two.len() == 2)
    }

    /// Where a node's uploads are.
    #[must_use]
    pub fn uploads(&self) -> String {
        format!("{}up/", self.0)
    }

    /// An upload of a node.
    #[must_use]
    pub fn upload(&self, seq: u64) -> String {
        format!("{}up/{seq:020}{SUFFIX}", self.0)
    }

    /// The sequence in the name of an upload.
    #[must_use]
    pub fn upload_in(&self, name: &str) -> Option<u64> {
        number_in(name, &self.uploads(), 20)
    }

    /// How a node is.
    #[must_use]
    pub fn status(&self) -> String {
        format!("{}status{SUFFIX}", self.0)
    }
}

/// Whether this can be the name of a node or a directory, as in the configuration.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= 64 && !text.starts_with(['-', '.']) && text.chars().all(allowed)
}

/// Whether this can be the root of a directory.
pub(super) fn is_root(path: &str) -> bool {
    let mut components = Path::new(path).components();
    let plain = |component: Component<'_>| matches!(component, Component::Normal(_));
    !path.contains('\0')
        && components.next() == Some(Component::RootDir)
        && components.clone().next().is_some()
        && components.all(plain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_made() {
        assert_eq!(head(42), "v1/heads/00000000000000000042.xds");
        assert_eq!(seq_in(&head(u64::MAX)), Some(u64::MAX));
        assert_eq!(epoch_in(&lease(7)), Some(7));
        assert_eq!(condemned_in(&condemned(7, 3)), Some((7, 3)));
        let node = Area::node("mds1").unwrap();
        assert_eq!(node.upload_in(&node.upload(9)), Some(9));
        assert_eq!(node.upload(9), "v1/nodes/mds1/up/00000000000000000009.xds");
        let hash = Sha256::of(b"x");
        for area in [Area::main(), node] {
            assert_eq!(area.object_in(&area.object(&hash)), Some(hash));
        }
        assert!(Area::main().object(&hash).starts_with("v1/o/2d/2d711642b726b044"));
    }

    #[test]
    fn other_names_are_not_read() {
        for name in
            ["v1/heads/1.xds", "v1/heads/+0000000000000000001.xds", "v1/heads/00000000000000000042", ""]
        {
            assert_eq!(seq_in(name), None, "{name}");
        }
        let hex = Sha256::of(b"x").to_string();
        for name in [
            format!("v1/o/00/{hex}"),
            format!("v1/o/2d/{}", hex.to_uppercase()),
            format!("v1/o/{hex}"),
            format!("v1/o/2d/x/{hex}"),
        ] {
            assert_eq!(Area::main().object_in(&name), None, "{name}");
        }
    }

    #[test]
    fn no_name_of_a_node_leads_out_of_its_area() {
        for name in ["", ".", "..", "a/b", "../x", "-a", ".a", "a\0", "é", &"a".repeat(65)] {
            assert_eq!(Area::node(name), None, "{name:?}");
        }
    }
}
