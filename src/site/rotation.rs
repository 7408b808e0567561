//! Another key for Main, on every node: the story behind `init --rotate`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ssh_key::rand_core::CryptoRngCore;

use super::Site;
use crate::config::Node;
use crate::enroll::{key, rotate};
use crate::node::{KeyChange, NodeError, NodeErrorKind, NodeSession};
use crate::threads::side_by_side;

/// What a rotation did.
#[derive(Debug)]
pub(crate) struct Rotated {
    /// Algorithm and fingerprint of the new key, if it was made now; `None`: an earlier rotation was continued.
    pub(crate) new_key: Option<(String, String)>,
    /// Each node that uses Main's common key, with the keys of xds-sync that it lets in now, or why it could not be moved to
    /// the new one.
    pub(crate) nodes: Vec<(String, Result<Vec<String>, String>)>,
    /// Where the rotation stands.
    pub(crate) end: RotationEnd,
}

/// Where a rotation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RotationEnd {
    /// Every node has the new key, and the previous one was removed.
    Complete,
    /// No node has moved, so this key stays in use.
    NoneMoved(PathBuf),
    /// The previous key is kept here for nodes that have not moved.
    NodesAway(PathBuf),
    /// The previous key is kept here because discovery failed, so that there may be nodes that know no other.
    NodesUnknown(PathBuf),
}

/// From one key to another.
struct Rotation<'a> {
    site: &'a Site,
    old: &'a Path,
    new: &'a Path,
    change: KeyChange,
    /// The id of this rotation, for the nodes' logs.
    run: String,
}

impl Site {
    /// Begins a rotation, or continues one during which some nodes were away. Main uses the new key as soon as one
    /// node has it; the previous one is kept until all have.
    pub(crate) fn rotate_key(&self, random: &mut impl CryptoRngCore) -> anyhow::Result<Rotated> {
        let config = self.config();
        let identity = &config.ssh.identity;
        let (next, previous) = (rotate::next(identity), rotate::previous(identity));
        let continues = previous.exists() && !next.exists();
        let (old, new) = if continues { (&previous, identity) } else { (identity, &next) };
        let new_key = if continues {
            None
        } else {
            let comment = format!("xds-sync {}", config.main.name);
            let pair = key::ensure(&next, &comment, random).context("making another key")?;
            Some((pair.algorithm, pair.fingerprint))
        };
        let change = rotate::propose(old, new)?;
        let rotation = Rotation { site: self, old, new, change, run: (self.services.new_id)() };

        // A node with a key of its own never had this one.
        let nodes: Vec<&Node> = config.nodes.iter().filter(|node| node.identity.is_none()).collect();
        let moved = side_by_side(&nodes, config.sync.parallel, |node| rotation.move_node(node));
        let away = moved.iter().filter(|moved| moved.is_err()).count();
        let nodes: Vec<(String, Result<Vec<String>, String>)> =
            nodes.iter().map(|node| node.name.clone()).zip(moved).collect();

        if away == nodes.len() && (away > 0 || !self.nodes.is_complete()) {
            return Ok(Rotated { new_key, nodes, end: RotationEnd::NoneMoved(old.clone()) });
        }
        if !continues {
            if config.store.is_some() {
                // While the old key is there to appoint the new one: nodes that follow the store know no other.
                let handed_over = self.store().and_then(|holder| Ok(holder.hand_over_key(&next)?));
                handed_over.context(
                    "letting the new key follow the old one in the store; the old one stays in use",
                )?;
            }
            rotate::switch(identity)?;
        }
        let end = if away > 0 {
            RotationEnd::NodesAway(previous)
        } else if !self.nodes.is_complete() {
            // Without the previous key, a node that is unknown now would be locked out.
            RotationEnd::NodesUnknown(previous)
        } else {
            rotate::forget_previous(identity)?;
            RotationEnd::Complete
        };
        Ok(Rotated { new_key, nodes, end })
    }
}

impl Rotation<'_> {
    /// The old key is removed from a node only once the new one has opened a session there.
    fn move_node(&self, node: &Node) -> Result<Vec<String>, String> {
        let connect = |identity| {
            let mut session = self.site.ssh.connect_with(node, identity)?;
            session.begin(&self.run, false)?;
            Ok::<_, NodeError>(session)
        };
        let mut session = match connect(self.new) {
            Ok(session) => session,
            // It does not know the new key yet.
            Err(error) if error.kind == NodeErrorKind::Refused => {
                let mut session = connect(self.old).map_err(|error| error.detail)?;
                replace_key(&mut *session, &self.change)?;
                connect(self.new).map_err(|error| error.detail)?
            }
            Err(error) => return Err(error.detail),
        };
        replace_key(&mut *session, &KeyChange { drop_old: true, ..self.change.clone() })
    }
}

fn replace_key(session: &mut dyn NodeSession, change: &KeyChange) -> Result<Vec<String>, String> {
    Ok(session.replace_key(change).map_err(|error| error.detail)??)
}
