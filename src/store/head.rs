//! A publication: which tree each directory has, for whom, and under which rules.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::envelope::Signed;
use super::group::{self, Group, MAX_GROUP, MAX_GROUPS};
use super::names::{is_name, is_root};
use super::{Sha256, StoreError};
use crate::model::bounded::at_most;
use crate::model::{ConflictPolicy, DeletePolicy, Direction, MaxLoss, Meta, Owner};

/// Most directories in a head; its length bounds the rest.
const MAX_DIRECTORIES: usize = 1_000;

/// A head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The format.
    pub v: u32,
    /// A ULID, made with the store: no head of another store is taken for one of this.
    pub cluster: String,
    /// That of the lease under which it was published.
    pub epoch: u64,
    /// Its number; 1 is the first.
    pub seq: u64,
    /// The hash of the head before, as an object; none before the first.
    pub prev: Option<Sha256>,
    /// The name of the Main that published it.
    pub main: String,
    /// When, in RFC 3339.
    pub time: String,
    /// The xds-sync that published it.
    pub agent: String,
    /// The oldest xds-sync that can follow it.
    pub min_agent: String,
    /// `publish`, or `rollback:SEQ` for one that was published before.
    pub reason: String,
    /// The nodes that follow, in groups: their number is a power of two, or there is none.
    #[serde(deserialize_with = "at_most::<MAX_GROUPS, _, _>")]
    pub groups: Vec<Group>,
    /// The directories.
    #[serde(deserialize_with = "at_most::<MAX_DIRECTORIES, _, _>")]
    pub directories: Vec<HeadDirectory>,
}

/// A directory and the tree that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadDirectory {
    /// Its name.
    pub name: String,
    /// Its root on Main, and on nodes that have no other path for it.
    pub path: String,
    /// Which way files go.
    pub direction: Direction,
    /// Only for nodes with one of these; empty: for all.
    pub labels: Vec<String>,
    /// What deletions do.
    pub delete: DeletePolicy,
    /// Who wins conflicts.
    pub conflict: ConflictPolicy,
    /// When the delete guard stops a run.
    #[serde(with = "text")]
    pub max_delete: MaxLoss,
    /// When what a node would overwrite elsewhere stops its part.
    #[serde(with = "text")]
    pub max_change: MaxLoss,
    /// Most bytes that a node may bring in a run; none: unlimited.
    pub max_add: Option<u64>,
    /// Owner where Main's is not known.
    pub owner: Option<StoredOwner>,
    /// Globs of excluded paths.
    pub exclude: Vec<String>,
    /// How old a file must be before it is synchronised, in milliseconds.
    pub settle_ms: u64,
    /// Reloads that are due after a change.
    pub reload: Vec<String>,
    /// Tokens of deletions that an administrator has released: a node need not be asked again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// Mode and owner of the root.
    pub root: Option<StoredMeta>,
    /// The object that is its tree, and its length.
    pub tree: Sha256,
    /// Bytes of that object.
    pub tree_len: u64,
    /// Files in the tree.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

/// A user's and a group's name, as far as they have names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredOwner {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Mode and owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredMeta {
    #[serde(with = "octal")]
    pub mode: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl From<&Owner> for StoredOwner {
    fn from(owner: &Owner) -> StoredOwner {
        StoredOwner { user: owner.user().map(str::to_owned), group: owner.group().map(str::to_owned) }
    }
}

impl From<&StoredOwner> for Owner {
    fn from(owner: &StoredOwner) -> Owner {
        Owner::new(owner.user.as_deref(), owner.group.as_deref())
    }
}

impl From<&Meta> for StoredMeta {
    fn from(meta: &Meta) -> StoredMeta {
        let StoredOwner { user, group } = (&meta.owner).into();
        StoredMeta { mode: meta.mode, user, group }
    }
}

impl From<&StoredMeta> for Meta {
    fn from(meta: &StoredMeta) -> Meta {
        Meta { mode: meta.mode, owner: Owner::new(meta.user.as_deref(), meta.group.as_deref()) }
    }
}

/// Permission bits as people write them: `"0644"`.
pub(super) mod octal {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::store) fn serialize<S: Serializer>(mode: &u16, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{mode:04o}"))
    }

    pub(in crate::store) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let is_mode = text.len() == 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let mode = is_mode.then(|| u16::from_str_radix(&text, 8).ok()).flatten();
        mode.ok_or_else(|| D::Error::custom("expected a mode of four octal digits"))
    }
}

/// A value that has one text.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Signed for Head {
    const NAMESPACE: &'static str = "xds-sync-head@v1";
    const WHAT: &'static str = "the publication";
}

impl Head {
    /// What a signature does not say: that names are names and roots are roots. Main's own key may have been stolen, and no
    /// name may lead anywhere.
    pub fn check(&self) -> Result<(), StoreError> {
        let wrong = |what: String| Err(StoreError::Tampered(format!("publication {}: {what}", self.seq)));
        let is_count = self.groups.is_empty() || self.groups.len().is_power_of_two();
        if !is_count || self.groups.iter().any(|group| group.len > MAX_GROUP) {
            return wrong("its groups of nodes are too long, or too few or too many".to_owned());
        }
        let mut names = BTreeSet::new();
        for directory in &self.directories {
            if !is_name(&directory.name) || !names.insert(&*directory.name) {
                return wrong(format!("{:?} is no name of a directory, or that of two", directory.name));
            }
            if !is_root(&directory.path) {
                return wrong(format!("{:?} is no root of a directory", directory.path));
            }
            if directory.root.as_ref().is_some_and(|root| root.mode > 0o3777) {
                return wrong(format!("the mode of {:?} has bits that are never carried", directory.name));
            }
        }
        Ok(())
    }

    /// The group that a node is in, if it follows; none without any group.
    #[must_use]
    pub fn group_of(&self, node: &str) -> Option<Group> {
        self.groups.get(self.place_of(node).0).copied()
    }

    /// Which one it is, and of how many.
    #[must_use]
    pub fn place_of(&self, node: &str) -> (usize, usize) {
        (group::place(node, self.groups.len()), self.groups.len())
    }

    /// A directory by its name.
    #[must_use]
    pub fn directory(&self, name: &str) -> Option<&HeadDirectory> {
        self.directories.iter().find(|directory| directory.name == name)
    }
}

impl HeadDirectory {
    /// Whether a node with these labels has it.
    #[must_use]
    pub fn is_for(&self, labels: &[String]) -> bool {
        self.labels.is_empty() || self.labels.iter().any(|label| labels.contains(label))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use crate::store::envelope::tests::Keys;
    use crate::store::{FORMAT, envelope};

    /// A head with one directory, which nobody follows.
    pub(crate) fn head(seq: u64) -> Head {
        Head {
            v: FORMAT,
            cluster: "01JCLUSTER".to_owned(),
            epoch: 1,
            seq,
            prev: None,
            main: "main".to_owned(),
            time: "2026-01-02T03:04:05Z".to_owned(),
            agent: "0.1.0".to_owned(),
            min_agent: "0.1.0".to_owned(),
            reason: "publish".to_owned(),
            groups: Vec::new(),
            directories: vec![directory("moh")],
        }
    }

    pub(crate) fn directory(name: &str) -> HeadDirectory {
        HeadDirectory {
            name: name.to_owned(),
            path: format!("/var/lib/xivo/{name}"),
            direction: Direction::Push,
            labels: vec!["paris".to_owned()],
            delete: DeletePolicy::Propagate,
            conflict: ConflictPolicy::Main,
            max_delete: MaxLoss::Percent(50),
            max_change: MaxLoss::Files(7),
            max_add: None,
            owner: Some(StoredOwner { user: Some("asterisk".to_owned()), group: None }),
            exclude: vec!["*.bak".to_owned()],
            settle_ms: 2000,
            reload: vec!["moh".to_owned()],
            accepted: Vec::new(),
            root: Some(StoredMeta { mode: 0o2775, user: None, group: Some("www-data".to_owned()) }),
            tree: Sha256::of(b"tree"),
            tree_len: 4,
            files: 1,
            bytes: 3,
        }
    }

    #[test]
    fn a_head_is_read_as_it_is_written() {
        let keys = Keys::new();
        let (identity, public) = keys.pair(1);
        let object = envelope::seal(&identity, &head(1)).unwrap();
        let text = String::from_utf8(object.clone()).unwrap();
        assert!(
            text.contains("\"seq\": 1") && text.contains("\"02775\"") || text.contains("\"2775\""),
            "{text}"
        );
        let read: Head = envelope::open(&object, &[public], "v1/heads/1").unwrap();
        assert_eq!(read, head(1));
        read.check().unwrap();
        assert!(read.directories[0].is_for(&["paris".to_owned()]) && !read.directories[0].is_for(&[]));
    }

    #[test]
    fn names_and_roots_that_lead_elsewhere_are_refused() {
        let group = |len| Group { object: Sha256::of(b"group"), len };
        let changes: [&dyn Fn(&mut Head); 6] = [
            &|head| head.groups = vec![group(1); 3],
            &|head| head.groups = vec![group(MAX_GROUP + 1)],
            &|head| head.directories[0].name = "a/b".to_owned(),
            &|head| head.directories[0].path = "relative".to_owned(),
            &|head| head.directories[0].path = "/".to_owned(),
            &|head| head.directories.push(head.directories[0].clone()),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut head = head(1);
            change(&mut head);
            assert!(matches!(head.check(), Err(StoreError::Tampered(_))), "{index}");
        }
    }
}
