//! `init --rotate`: another key for Main, on every node.

use std::path::Path;

use anyhow::Context as _;

use super::connect::Ssh;
use super::discover::Known;
use super::steps::Steps;
use super::{exit, load};
use crate::config::Node;
use crate::enroll::{key, rotate};
use crate::host;
use crate::model::escape::{clean, escape_for_people};
use crate::node::{KeyChange, NodeError, NodeErrorKind, NodeSession};
use crate::report::exit::{ALL_LOST, SOME_LOST};
use crate::state::StateDir;
use crate::threads::side_by_side;

/// From one key to another, over all nodes.
struct Rotation<'a> {
    ssh: &'a Ssh,
    old: &'a Path,
    new: &'a Path,
    change: KeyChange,
    /// The id of this rotation, for the nodes' logs.
    run: String,
}

/// Begins a rotation, or goes on with one that some nodes were away from. Main uses the new key as soon as
/// one node has it; the old one is kept until all have.
pub(super) fn run(known: &Known, state: &StateDir, steps: &mut Steps) -> anyhow::Result<u8> {
    let config = &known.config;
    let identity = &config.ssh.identity;
    let (next, previous) = (rotate::next(identity), rotate::previous(identity));
    let ssh = Ssh::new(config, state, load::identity(state, false)?)?;
    let goes_on = previous.exists() && !next.exists();
    let (old, new) = if goes_on { (&previous, identity) } else { (identity, &next) };
    if !goes_on {
        let comment = format!("xds-sync {}", config.main.name);
        let pair = key::ensure(&next, &comment, &mut host::random()).context("making another key")?;
        steps.note("rotate", &format!("new key {} {}", pair.algorithm, pair.fingerprint));
    }
    let change = rotate::propose(old, new)?;
    let rotation = Rotation { ssh: &ssh, old, new, change, run: host::ulid() };

    // A node with a key of its own never had this one.
    let nodes: Vec<&Node> = config.nodes.iter().filter(|node| node.identity.is_none()).collect();
    let moved = side_by_side(&nodes, config.sync.parallel, |node| rotation.move_one(node));
    let mut away = 0;
    for (node, moved) in nodes.iter().zip(moved) {
        let name = escape_for_people(node.name.as_bytes());
        match moved {
            Ok(()) => steps.note("rotate", &format!("{name} has the new key alone")),
            Err(why) => {
                away += 1;
                steps.note("rotate", &format!("{name} has not moved: {}", clean(&why)));
            }
        }
    }
    if away == nodes.len() && (away > 0 || !known.is_complete()) {
        let kept = if goes_on { &previous } else { identity };
        steps.note("rotate", &format!("no node has moved: {} stays in use; try again", kept.display()));
        return Ok(ALL_LOST);
    }
    if !goes_on {
        rotate::switch(identity)?;
    }
    if away > 0 {
        let text = format!(
            "{} is kept for those that have not moved; run `xds-sync init --rotate` again when they are back",
            previous.display()
        );
        steps.note("rotate", &text);
        return Ok(SOME_LOST);
    }
    if !known.is_complete() {
        // A node that nobody knows of now would be locked out with the old key gone.
        let text = format!(
            "{} is kept for nodes that could not be found now; run `xds-sync init --rotate` again when they can",
            previous.display()
        );
        steps.note("rotate", &text);
        return Ok(SOME_LOST);
    }
    rotate::forget_former(identity)?;
    steps.note("rotate", "done: the old key is gone");
    Ok(exit::DONE)
}

impl Rotation<'_> {
    /// The old key goes once the new one has let us in.
    fn move_one(&self, node: &Node) -> Result<(), String> {
        let connect = |identity| {
            let mut session = self.ssh.connect_with(node, identity)?;
            session.begin(&self.run, false)?;
            Ok::<_, NodeError>(session)
        };
        let mut session = match connect(self.new) {
            Ok(session) => session,
            // It does not know the new key yet.
            Err(error) if error.kind == NodeErrorKind::Refused => {
                let mut session = connect(self.old).map_err(|error| error.detail)?;
                replace(&mut *session, &self.change)?;
                connect(self.new).map_err(|error| error.detail)?
            }
            Err(error) => return Err(error.detail),
        };
        replace(&mut *session, &KeyChange { drop_old: true, ..self.change.clone() })
    }
}

fn replace(session: &mut dyn NodeSession, change: &KeyChange) -> Result<(), String> {
    Ok(session.replace_key(change).map_err(|error| error.detail)??)
}
