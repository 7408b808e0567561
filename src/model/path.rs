//! Paths below a directory's root, as bytes, and their one order.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::escape::{escape, escape_for_people, unescape};
use super::steps::step;

/// Longest name of one component in bytes (Linux `NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// Longest path in bytes; Linux's `PATH_MAX` (4096) less room for the root's own path.
pub const PATH_MAX: usize = 3072;

/// A relative path of plain names: never empty, no empty component, `.`, `..` or NUL, not absolute.
///
/// That holds for every value by construction, so that whoever has one may hand it to the kernel
/// below a held root. Paths compare in *tree order*: a directory comes right before all that is
/// below it (`a`, `a/b`, `a.c`), where plain byte order would put `a.c` between.
#[derive(Eq)]
#[repr(transparent)]
pub struct RelPath([u8]);

/// An owned [`RelPath`]. Clones share it: a plan names each path many times.
#[derive(Clone, Eq)]
pub struct RelPathBuf(Arc<[u8]>);

/// Why some bytes are no [`RelPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// Longer than [`PATH_MAX`].
    TooLong,
    /// A component is longer than [`NAME_MAX`].
    NameTooLong,
    /// Empty, absolute, or with an empty component.
    EmptyName,
    /// A component is `.` or `..`.
    Dots,
    /// Contains a NUL byte.
    Nul,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadPath::TooLong => "the path is too long",
            BadPath::NameTooLong => "a name in the path is too long",
            BadPath::EmptyName => "the path is absolute or has an empty name",
            BadPath::Dots => "the path contains '.' or '..'",
            BadPath::Nul => "the path contains a NUL byte",
        })
    }
}

impl std::error::Error for BadPath {}

impl RelPath {
    /// Checks `bytes`; the only way to a `RelPath` from outside.
    pub fn new(bytes: &[u8]) -> Result<&RelPath, BadPath> {
        if bytes.len() > PATH_MAX {
            return Err(BadPath::TooLong);
        }
        for name in bytes.split(|&b| b == b'/') {
            match name {
                b"" => return Err(BadPath::EmptyName),
                b"." | b".." => return Err(BadPath::Dots),
                _ if name.len() > NAME_MAX => return Err(BadPath::NameTooLong),
                _ if name.contains(&0) => return Err(BadPath::Nul),
                _ => {}
            }
        }
        Ok(RelPath::trusted(bytes))
    }

    #[allow(unsafe_code)]
    fn trusted(bytes: &[u8]) -> &RelPath {
        // SAFETY: RelPath is repr(transparent) over [u8], so the two references have the same layout,
        // and the lifetime is the argument's. The invariant is the caller's: `bytes` was checked.
        unsafe { &*(std::ptr::from_ref::<[u8]>(bytes) as *const RelPath) }
    }

    /// A path that a [`Tree`](super::Tree) copied from a `RelPath` into its own buffer.
    pub(super) fn of_tree(bytes: &[u8]) -> &RelPath {
        RelPath::trusted(bytes)
    }

    /// The path's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The last name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or(&self.0)
    }

    /// The path of the directory it is in; none for what is directly below the root.
    #[must_use]
    pub fn parent(&self) -> Option<&RelPath> {
        let slash = self.0.iter().rposition(|&b| b == b'/')?;
        // A prefix that ends before a slash consists of whole, checked names.
        Some(RelPath::trusted(&self.0[..slash]))
    }

    /// Every directory it is in, innermost first.
    pub fn ancestors(&self) -> impl Iterator<Item = &RelPath> {
        std::iter::successors(self.parent(), |path| path.parent())
    }

    /// The names, outermost first.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/')
    }

    /// Whether `self` lies below `dir`, at any depth; not `dir` itself.
    #[must_use]
    pub fn is_below(&self, dir: &RelPath) -> bool {
        self.0.strip_prefix(&dir.0).is_some_and(|rest| rest.first() == Some(&b'/'))
    }

    /// `self/name`.
    pub fn join(&self, name: &[u8]) -> Result<RelPathBuf, BadPath> {
        RelPathBuf::new([&self.0, b"/", name].concat())
    }

    /// As text for machines, see [`escape`].
    #[must_use]
    pub fn escaped(&self) -> String {
        escape(&self.0)
    }

    /// As text for people and logs, see [`escape_for_people`].
    #[must_use]
    pub fn for_people(&self) -> String {
        escape_for_people(&self.0)
    }
}

impl RelPathBuf {
    /// Checks `bytes`, see [`RelPath::new`].
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Result<RelPathBuf, BadPath> {
        let bytes = bytes.into();
        RelPath::new(&bytes)?;
        Ok(RelPathBuf(bytes))
    }
}

impl Deref for RelPathBuf {
    type Target = RelPath;

    fn deref(&self) -> &RelPath {
        RelPath::trusted(&self.0)
    }
}

impl Borrow<RelPath> for RelPathBuf {
    fn borrow(&self) -> &RelPath {
        self
    }
}

impl AsRef<RelPath> for RelPathBuf {
    fn as_ref(&self) -> &RelPath {
        self
    }
}

impl ToOwned for RelPath {
    type Owned = RelPathBuf;

    fn to_owned(&self) -> RelPathBuf {
        RelPathBuf(self.0.into())
    }
}

impl PartialEq for RelPath {
    fn eq(&self, other: &RelPath) -> bool {
        step();
        self.0 == other.0
    }
}

impl PartialEq for RelPathBuf {
    fn eq(&self, other: &RelPathBuf) -> bool {
        **self == **other
    }
}

impl Hash for RelPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Hash for RelPathBuf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &RelPath) -> Ordering {
        step();
        let common = self.0.iter().zip(&other.0).take_while(|(a, b)| a == b).count();
        // The slash sorts before every other byte, and the end of a path before the slash.
        let rank = |path: &RelPath| path.0.get(common).map(|&b| (b != b'/', b));
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &RelPath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RelPathBuf {
    fn cmp(&self, other: &RelPathBuf) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl PartialOrd for RelPathBuf {
    fn partial_cmp(&self, other: &RelPathBuf) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.escaped())
    }
}

impl fmt::Debug for RelPathBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for RelPathBuf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // JSON has no bytes; what people read there is the escaped text.
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.escaped())
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for RelPathBuf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RelPathBuf, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = RelPathBuf;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a relative path")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RelPathBuf, E> {
                let bytes =
                    unescape(text).ok_or_else(|| E::custom("the path is not escaped as it should be"))?;
                RelPathBuf::new(bytes).map_err(E::custom)
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<RelPathBuf, E> {
                RelPathBuf::new(bytes).map_err(E::custom)
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Bytes)
        } else {
            deserializer.deserialize_bytes(Bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_plain_relative_paths() {
        for (bytes, reason) in [
            (&b""[..], BadPath::EmptyName),
            (b"/etc/passwd", BadPath::EmptyName),
            (b"a//b", BadPath::EmptyName),
            (b"a/", BadPath::EmptyName),
            (b".", BadPath::Dots),
            (b"..", BadPath::Dots),
            (b"a/../../x", BadPath::Dots),
            (b"a\0b", BadPath::Nul),
            (&[b'x'; 256], BadPath::NameTooLong),
            (&b"dir/".repeat(1000), BadPath::TooLong),
        ] {
            assert_eq!(RelPath::new(bytes), Err(reason), "{bytes:?}");
        }
        for bytes in [&b"a"[..], b"-rf", b"...", b"a\nb/\xff", &[b'x'; 255]] {
            assert!(RelPath::new(bytes).is_ok());
        }
    }

    #[test]
    fn a_directory_stands_right_before_what_is_below_it() -> Result<(), BadPath> {
        let sorted = ["a", "a/b", "a/b/c", "a/b.c", "a.c", "ab"];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                let order = RelPath::new(a.as_bytes())?.cmp(RelPath::new(b.as_bytes())?);
                assert_eq!(order, i.cmp(&j), "{a} {b}");
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn tree_order_is_the_order_of_the_names(a in "[a/.-]{1,6}", b in "[a/.-]{1,6}") {
            if let (Ok(a), Ok(b)) = (RelPath::new(a.as_bytes()), RelPath::new(b.as_bytes())) {
                prop_assert_eq!(a.cmp(b), a.names().cmp(b.names()));
            }
        }
    }
}
