//! Both ways: what each path shall become on Main and on every reachable node, planned once for all.
//!
//! Each end's entry is compared with the base of its own edge, so a node that was away is judged by what it last
//! agreed on, and the result does not depend on the order of the nodes. Main's entry can be unchanged on one edge and
//! changed on another (that of a node that was away); where a node changed the very version that Main still has, that
//! change supersedes Main's.
//!
//! Five passes go over all paths. A path *lives* if it becomes an entry, or stays as it is. What each pass
//! guarantees to those after it:
//!
//! 1. [`decide`]: what each path becomes, looked at by itself.
//!    - (I1) Every path that a host that takes part has, or its base, is decided once, in tree order; none is decided below one that is
//!      [untouchable](Decided::Untouchable), [excluded](Decided::Excluded) or [waiting](Decided::Waiting). Of the
//!      paths that wait for another run, the first in each directory is.
//!    - (I2) An edge takes part at a path only if its node has nothing busy or unreadable there or above it.
//!    - (I3) What a path becomes is a directory, file or symlink, with the content of a host that takes part.
//! 2. [`keep_parents`](shape::keep_parents): a directory lives while anything below it does.
//!    - (I4) Everything above a path that lives, lives.
//! 3. [`clear_below_files`](shape::clear_below_files): where a file or symlink won over a directory, nothing of the
//!    directory stays, or the file does not come.
//!    - (I5) Below a path that becomes a file or symlink no path lives, and no host has an opaque entry. Below an
//!      untouchable path every path is untouchable.
//!
//!    By I4 and I5 what lives is a tree: its inner paths are directories.
//! 4. [`metadata`]: whose mode and owner each directory gets.
//! 5. [`assign`]: what that means for each host, as ordered actions.
//!    - (I6) Every action belongs to exactly one planned change, of the edge whose node's copy it alters, or from whose
//!      node Main's new entry comes.
//!    - (I7) No action is at or below an entry that is opaque on its host.

mod assign;
mod decide;
mod intake;
mod metadata;
mod shape;

use std::collections::BTreeMap;

pub(crate) use intake::MAX_NEW;

use super::{EdgeInput, Host, OwnerMap, Plan, Policy};
use crate::model::{Entry, HostName, Meta, Reason, RelPath, RelPathBuf, Tree};

/// An administrator's decisions on conflicts: path → whose version stays.
pub(crate) type Resolutions = BTreeMap<RelPathBuf, Host>;

/// Plans a both-ways directory over all edges together. `root` is the mode and owner of Main's root.
#[must_use]
pub(crate) fn both(
    policy: &Policy,
    root: Option<&Meta>,
    main: &Tree,
    main_names: &OwnerMap,
    edges: &[EdgeInput<'_>],
    resolutions: &Resolutions,
) -> Plan {
    let input = Input { policy, root, main, main_names, edges, resolutions };
    let empty = Tree::default();
    let decide::Decisions { mut paths, mut plans, conflicts } = decide::decide(input, &empty);
    shape::keep_parents(input, &mut paths);
    for blocked in shape::clear_below_files(input, &mut paths) {
        plans.iter_mut().for_each(|plan| plan.left.block(blocked.clone()));
    }
    metadata::of_directories(input, &mut paths);
    Plan { conflicts, ..assign::assign(input, &paths, plans) }
}

/// What the planner is given.
#[derive(Clone, Copy)]
struct Input<'a> {
    policy: &'a Policy,
    root: Option<&'a Meta>,
    main: &'a Tree,
    main_names: &'a OwnerMap,
    edges: &'a [EdgeInput<'a>],
    resolutions: &'a Resolutions,
}

impl Input<'_> {
    fn host_name(self, host: Host) -> HostName {
        match host {
            Host::Main => HostName::Main,
            Host::Node(index) => HostName::Node(self.edges[index].name.to_owned()),
        }
    }
}

/// A path, and what was decided about it.
struct DecidedPath<'a> {
    path: &'a RelPath,
    decided: Decided,
    /// Indexes of the edges that take part at this path.
    edges: Vec<usize>,
}

enum Decided {
    /// It is not known what Main has, a file cannot come for what has to stay, or it waits for another run: nothing is
    /// done on any host.
    Untouchable,
    /// Some host keeps it out: nothing is done on any. The directory it is in stays where it is, and comes to nobody
    /// because of it.
    Excluded,
    /// Several hosts changed it differently, and an administrator decides: until then nothing is done on any.
    Waiting,
    /// What it shall be on Main, and on the node of every edge that takes part.
    Becomes(Goal),
}

struct Goal {
    /// `None`: nothing.
    entry: Option<Entry>,
    /// Who has the content; for a deletion, who deleted it.
    source: Host,
    /// Whose own change is overruled.
    losers: Vec<Host>,
    reason: Option<Reason>,
}

impl Decided {
    /// Whether something is there on some host when all is done.
    fn lives(&self) -> bool {
        match self {
            Decided::Untouchable | Decided::Waiting => true,
            Decided::Excluded => false,
            Decided::Becomes(goal) => goal.entry.is_some(),
        }
    }
}
