//! What this node has verified and what it has put in place. It never goes back: an older publication, or another one with
//! the same number, is refused from then on, whoever shows it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;

use crate::durable::{self, Options, sealed};
use crate::store::blobs::get_object;
use crate::store::chain::{self, ForNode, Newest, Seen};
use crate::store::group::{Group, HeadNode};
use crate::store::head::Head;
use crate::store::names::Area;
use crate::store::upload::On;
use crate::store::{Objects, Sha256, StoreError};

/// The newest publication that was verified, and what was done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trusted {
    /// The key of Main that was pinned on this node when it verified this.
    pinned: String,
    /// The key that it has led to since.
    key: String,
    /// The lease under which it is the newest.
    pub(crate) epoch: u64,
    /// Its hash, as an object.
    hash: Sha256,
    /// The publication, without its groups of nodes: each pass reads it, and there may be very many.
    pub(crate) head: Head,
    /// The name that this node had by then.
    node: String,
    /// The group of nodes that it is in; none: nobody follows.
    group: Option<Group>,
    /// This node, as Main knows it; none: Main does not.
    pub(crate) own: Option<HeadNode>,
    /// The one that this node has, wholly; none: no run has come to its end yet.
    pub(crate) applied: Option<On>,
    /// The number of the last upload that was put into the store.
    pub(crate) uploaded: u64,
}

/// Where it is kept.
#[derive(Clone, Debug)]
pub(crate) struct TrustedFile(PathBuf);

impl TrustedFile {
    pub(crate) fn in_dir(dir: &Path) -> TrustedFile {
        TrustedFile(dir.join("trusted.json"))
    }

    /// What was saved; `None`: nothing was verified on this node before.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Trusted>> {
        let path = self.0.display();
        let bytes = durable::read(&self.0).with_context(|| format!("cannot read {path}"))?;
        let read = bytes.map(|bytes| sealed::open(&bytes)).transpose();
        read.with_context(|| {
            format!(
                "{path} is damaged; move it away to trust whatever Main's key has signed, as on a new node"
            )
        })
    }

    pub(crate) fn save(&self, trusted: &Trusted) -> anyhow::Result<()> {
        let bytes = sealed::seal(trusted)?;
        let options = Options { points: super::POINTS, ..Options::PRIVATE };
        durable::replace(&self.0, &bytes, options)
            .with_context(|| format!("cannot write {}", self.0.display()))
    }

    /// The store is another one than before: says what to do about it, should that be meant.
    pub(crate) fn explain(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Tampered(detail) if detail.contains("another store") => StoreError::Tampered(
                format!("{detail}; if it was made anew, move {} away on this node", self.0.display()),
            ),
            error => error,
        }
    }
}

impl Trusted {
    /// A publication that was just verified, after `before`, for the node with this name.
    pub(crate) fn of(
        newest: Newest,
        objects: &dyn Objects,
        node: &str,
        pinned: &PublicKey,
        before: Option<&Trusted>,
    ) -> Result<Trusted, StoreError> {
        let Newest { lease, head, hash, group: found, key, .. } = newest;
        let known = before.filter(|before| before.node == node && before.group == head.group_of(node));
        let own = match known {
            Some(before) => before.own.clone(),
            None => own(&head, objects, node, found)?,
        };
        Ok(Trusted {
            pinned: text(pinned)?,
            key: text(&key)?,
            epoch: lease.epoch,
            hash,
            group: head.group_of(node),
            own,
            head: Head { groups: Vec::new(), ..head },
            node: node.to_owned(),
            applied: before.and_then(|before| before.applied),
            uploaded: before.map_or(0, |before| before.uploaded),
        })
    }

    /// The same publication for the node with this name. It is read again where this node had another name when it was
    /// verified.
    pub(crate) fn for_node(
        self,
        objects: &dyn Objects,
        node: &str,
        keys: &[PublicKey],
    ) -> Result<Trusted, StoreError> {
        if self.node == node {
            return Ok(self);
        }
        let seq = self.head.seq;
        match chain::head(objects, keys, seq)? {
            Some((head, hash)) if hash == self.hash => {
                let group = head.group_of(node);
                let found = match &group {
                    Some(group) => get_object(objects, &Area::main(), &group.object, group.len)?,
                    None => None,
                };
                let own = own(&head, objects, node, found)?;
                Ok(Trusted { group, own, node: node.to_owned(), ..self })
            }
            Some(_) => Err(StoreError::Tampered(format!(
                "rollback: publication {seq} is another one than what was seen before"
            ))),
            None => Err(StoreError::Unreachable(format!(
                "{}: the publication {seq} is not there yet, or not any more",
                objects.place()
            ))),
        }
    }

    /// As the chain of publications asks for what is new for the node with this name.
    pub(crate) fn asks<'n>(before: Option<&Trusted>, name: &'n str) -> ForNode<'n> {
        let known = before.filter(|before| before.node == name);
        ForNode { name, has: known.and_then(|before| before.group) }
    }

    /// The last upload of this node that is part of the publication; 0: none.
    pub(crate) fn taken(&self) -> u64 {
        self.own.as_ref().map_or(0, |own| own.taken)
    }

    /// As the chain of publications asks for it.
    pub(crate) fn seen(&self) -> Seen {
        Seen { cluster: self.head.cluster.clone(), epoch: self.epoch, seq: self.head.seq, head: self.hash }
    }

    /// The publication's place.
    pub(crate) fn on(&self) -> On {
        On { epoch: self.epoch, seq: self.head.seq }
    }

    /// The key that what comes next must be signed with: the one that the pinned key has led to, unless another one was pinned
    /// on this node since.
    pub(crate) fn key(&self, pinned: &PublicKey) -> Result<PublicKey, StoreError> {
        if text(pinned)? != self.pinned {
            return Ok(pinned.clone());
        }
        PublicKey::from_openssh(&self.key)
            .map_err(|error| StoreError::Local(format!("the trusted key cannot be read: {error}")))
    }
}

/// A node as a publication has it: `found` lies where its group is.
fn own(
    head: &Head,
    objects: &dyn Objects,
    node: &str,
    found: Option<Vec<u8>>,
) -> Result<Option<HeadNode>, StoreError> {
    let Some(group) = head.group_of(node) else { return Ok(None) };
    // Replicas of a store lag behind.
    let bytes = found.ok_or_else(|| {
        StoreError::Unreachable(format!(
            "{}: the group of nodes {} is not there yet, or not any more",
            objects.place(),
            group.name()
        ))
    })?;
    let nodes = group.open(objects, head.place_of(node), bytes)?;
    Ok(nodes.into_iter().find(|known| known.name == node))
}

/// A key without its comment.
fn text(key: &PublicKey) -> Result<String, StoreError> {
    let bare = PublicKey::from(key.key_data().clone());
    bare.to_openssh().map_err(|error| StoreError::Local(format!("a key cannot be written: {error}")))
}

/// Main's key, as an administrator has pinned it.
pub(crate) fn pinned_key(path: &Path) -> anyhow::Result<PublicKey> {
    let shown = path.display();
    let content = durable::read(path).with_context(|| format!("cannot read {shown}"))?;
    let content = content.with_context(|| {
        format!("{shown} is missing: it is to have Main's public key, which `xds-sync init` prints there")
    })?;
    let text = String::from_utf8_lossy(&content);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match lines.collect::<Vec<_>>().as_slice() {
        [line] => PublicKey::from_openssh(line).with_context(|| format!("{shown} has no public key")),
        _ => anyhow::bail!("{shown} is to have one public key, in one line"),
    }
}
