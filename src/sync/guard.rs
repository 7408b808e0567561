//! Every guard of a run: what stops a plan that would lose suspiciously much, or for which there is no room.

use std::path::Path;

use crate::model::{Action, Size, Step, Tree};
use crate::plan::{EdgePlan, Plan, safety};
use crate::report::{Guard, words};
use crate::snapshot::{Root, ScanSpec, Scanned};
use crate::sync::halt::Halt;
use crate::sync::origin::Origin;
use crate::sync::spec::DirectorySpec;
use crate::sync::{Run, room};

/// One node's part of a planned directory.
pub(super) struct Member<'m> {
    /// The node's name.
    pub(super) name: &'m str,
    pub(super) base: Option<&'m Tree>,
    pub(super) tree: &'m Tree,
    pub(super) scanned: &'m Scanned,
    /// Where it has the directory.
    pub(super) root: &'m Path,
}

/// Looks at a plan before anything is touched. Returns the members that are to be left alone, by their index,
/// each with the reason. The others may go on, once they have been planned without these.
pub(super) fn check(
    run: &Run<'_>,
    directory: &DirectorySpec,
    origin: &Origin,
    members: &[Member<'_>],
    plan: &Plan,
) -> Vec<(usize, Halt)> {
    let token = safety::token(&directory.name, plan);
    let of_deletions = |guard, detail| {
        Halt::new(guard, detail).released_by(&token).about(&safety::deleted_paths(plan), &origin.tree)
    };
    // What single nodes are halted for is judged by one and the same plan, so that their tokens hold together.
    let mut halts: Vec<(usize, Halt)> = Vec::new();
    let emptied = emptied_nodes(directory, origin, members);
    let is_released = emptied.is_empty() || run.is_accepted(&token);
    for index in 0..members.len() {
        if !is_released && emptied.contains(&index) {
            let (name, node) = (&directory.name, members[index].name);
            let detail = format!("{name} has become empty on {node}; its files would be deleted everywhere");
            halts.push((index, of_deletions(Guard::Emptied, detail)));
        } else if directory.is_two_way()
            && let Some(halt) = too_much_of_node(run, directory, origin, members, plan, index)
        {
            halts.push((index, halt));
        }
    }
    if !halts.is_empty() {
        return halts;
    }
    if let Some((guard, detail)) = too_many_deletions(directory, origin, members, plan)
        && !run.is_accepted(&token)
    {
        return (0..members.len()).map(|index| (index, of_deletions(guard, detail.clone()))).collect();
    }
    let rooms = members.iter().zip(&plan.edges).enumerate();
    rooms
        .filter_map(|(index, (member, plan))| Some((index, too_little_room(directory, member, plan)?)))
        .collect()
}

/// The nodes of a two-way directory that have lost all they had, while Main still has something.
fn emptied_nodes(directory: &DirectorySpec, origin: &Origin, members: &[Member<'_>]) -> Vec<usize> {
    if !directory.is_two_way() || !origin.tree.has_content() {
        return Vec::new();
    }
    let emptied = |member: &Member<'_>| safety::emptied_of_several(member.base, member.tree);
    (0..members.len()).filter(|index| emptied(&members[*index])).collect()
}

/// Whether any host would lose all, or more than `max_delete`.
fn too_many_deletions(
    directory: &DirectorySpec,
    origin: &Origin,
    members: &[Member<'_>],
    plan: &Plan,
) -> Option<(Guard, String)> {
    let main = &*origin.tree;
    let path = directory.scan.root.display();
    let deletes = plan.edges.iter().any(|edge| safety::deletes(&edge.actions));
    let main_emptied = |member: &Member<'_>| match directory.is_two_way() {
        true => safety::emptied_of_several(member.base, main),
        false => safety::emptied(member.base, main),
    };
    if deletes && members.iter().any(main_emptied) {
        let detail = match (directory.is_two_way(), members, plan.edges.as_slice()) {
            (false, [member], [edge]) => {
                let files = safety::deletions(member.tree, &edge.actions).lost.files;
                format!("{path} has become empty; {} would be deleted", words::count(files, "file", "files"))
            }
            _ => format!("{path} has become empty; its files would be deleted everywhere"),
        };
        return Some((Guard::Emptied, detail));
    }
    let nodes: Vec<&Tree> = members.iter().map(|member| member.tree).collect();
    let (host, deletions) = safety::exceeds(directory.policy.max_delete, plan, main, &nodes)?;
    let deletions = words::deletions(deletions);
    let detail = match (directory.is_two_way(), host) {
        (false, _) => deletions,
        (true, Some(index)) => format!("{deletions} on {}", members[index].name),
        (true, None) => format!("{deletions} on Main"),
    };
    Some((Guard::MaxDelete, detail))
}

/// Whether a node of a two-way directory would overwrite more than `max_change` elsewhere, or bring more than `max_add`.
fn too_much_of_node(
    run: &Run<'_>,
    directory: &DirectorySpec,
    origin: &Origin,
    members: &[Member<'_>],
    plan: &Plan,
    index: usize,
) -> Option<Halt> {
    let (policy, node) = (&directory.policy, members[index].name);
    let nodes: Vec<&Tree> = members.iter().map(|member| member.tree).collect();
    let overwrites = safety::overwrites(policy.max_change, plan, index, &origin.tree, &nodes);
    let (guard, detail) = if let Some((host, losses)) = overwrites {
        let host = host.map_or("Main", |host| members[host].name);
        (Guard::MaxChange, format!("{} on {host} by what {node} has", words::overwriting(losses)))
    } else {
        let (max, added) = (policy.max_add?, safety::added(plan, index));
        if added <= max {
            return None;
        }
        (Guard::MaxAdd, format!("{node} would bring {}, more than {}", Size(added), Size(max)))
    };
    let token = safety::token_of_node(&directory.name, node, plan, index);
    let about = || Halt::new(guard, detail).about(&safety::paths_of_node(plan, index), &origin.tree);
    (!run.is_accepted(&token)).then(|| about().released_by(&token))
}

/// Whether the node lacks room for what it is to get.
fn too_little_room(directory: &DirectorySpec, member: &Member<'_>, plan: &EdgePlan) -> Option<Halt> {
    // The disk of a root that does not exist yet is not known.
    if member.scanned.root == Root::Missing {
        return None;
    }
    // What others put into a two-way directory must not hold up the rest of it.
    let lacking = room::lacking(&plan.actions, member.scanned.free, directory.is_two_way())?;
    let root = member.root.display();
    let mount = match &*member.scanned.mount {
        "" => String::new(),
        mount => format!(", mounted at {mount},"),
    };
    Some(Halt::new(Guard::FreeSpace, format!("on the disk of {root}{mount} {lacking}")))
}

/// What a root's trash has to keep is beyond its limit by `excess` bytes: nothing more may go there.
pub(super) fn trash_is_full(root: &ScanSpec, excess: u64) -> Halt {
    let (root, excess) = (root.root.display(), Size(excess));
    Halt::new(
        Guard::FreeSpace,
        format!(
            "the trash of {root} is {excess} beyond trash_max, and all of it is younger than trash_min_keep: nothing \
             can be replaced or deleted there"
        ),
    )
}

/// Whether what stands at an action's path goes to the trash.
pub(super) fn replaces(action: &Action) -> bool {
    let is_dir = |entry: &crate::model::Entry| matches!(entry, crate::model::Entry::Dir(_));
    action.expected.as_ref().is_some_and(|expected| !is_dir(expected))
        && !matches!(action.step, Step::SetMeta(_))
}
