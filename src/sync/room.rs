//! Room on a disk for what a plan makes there.

use std::collections::BTreeMap;

use crate::model::{Action, Need, RelPathBuf, Room, Shortage, Side, Space};
use crate::plan::Plan;

/// What lacks for what actions make on a disk. With `without_lone`, what would not even fit by itself is left out: it
/// fails alone, and holds up nothing else.
pub(super) fn lacking(actions: &[Action], space: Space, without_lone: bool) -> Option<Shortage> {
    let mut room = Room::of(space);
    let needs = actions.iter().map(|action| space.need_of(action));
    let counted = needs.filter(|need| !without_lone || room.is_ever_enough(*need));
    let needed = counted.fold(Need::default(), Need::and);
    if needed == Need::default() {
        return None;
    }
    room.take(needed).err()
}

/// The actions on Main for which there is no room, by their paths. Each node is judged by itself, in the order of the
/// plan: what one of them has too much of holds back nothing of the others.
pub(super) fn lacking_on_main(plan: &Plan, space: Space) -> BTreeMap<RelPathBuf, Shortage> {
    let mut room = Room::of(space);
    let mut lacking = BTreeMap::new();
    for edge in &plan.edges {
        let on_main = edge.changes.iter().filter(|planned| planned.change.to == Side::Main);
        let actions = on_main.filter_map(|planned| plan.main.get(planned.action));
        let needs = actions.map(|action| (action, space.need_of(action)));
        let mut together = Vec::new();
        for (action, need) in needs.filter(|(_, need)| *need != Need::default()) {
            match Room::of(space).take(need) {
                Ok(()) => together.push((action, need)),
                Err(shortage) => _ = lacking.insert(action.path.clone(), shortage),
            }
        }
        let needed = together.iter().map(|(_, need)| *need).fold(Need::default(), Need::and);
        if let Err(shortage) = room.take(needed) {
            lacking.extend(together.into_iter().map(|(action, _)| (action.path.clone(), shortage)));
        }
    }
    lacking
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Change, ChangeKind, Digest, Entry, File, Meta, Owner, PlannedChange, Step};
    use crate::plan::EdgePlan;

    fn put(at: &str, size: u64) -> Action {
        let meta = Meta { mode: 0o644, owner: Owner::default() };
        let file = File { size, mtime: 0, digest: Digest([0; 32]), meta };
        let path = RelPathBuf::new(at.as_bytes()).unwrap();
        Action { path, expected: None, step: Step::Put(Entry::File(file)) }
    }

    fn space(free: u64) -> Space {
        Space { block: 4096, blocks: 1 << 20, free_blocks: free / 4096, inodes: 100_000, free_inodes: 1000 }
    }

    #[test]
    fn many_tiny_files_need_as_many_blocks_and_inodes() {
        let tiny: Vec<Action> = (0..900).map(|number| put(&number.to_string(), 2)).collect();
        let shortage = lacking(&tiny[..400], space(1 << 20), false).unwrap();
        assert!(matches!(shortage, Shortage::Bytes { .. }), "{shortage}");
        assert!(lacking(&tiny[..400], space(64 << 20), false).is_none());
        let shortage = lacking(&tiny, space(64 << 20), false).unwrap();
        assert!(matches!(shortage, Shortage::Inodes { needed: 900, .. }), "{shortage}");
        assert_eq!(lacking(&[], space(0), false), None);
    }

    #[test]
    fn what_has_no_room_by_itself_holds_up_nothing_else() {
        let actions = [put("small", 2), put("huge", 15 << 40)];
        assert!(lacking(&actions, space(64 << 20), false).is_some());
        assert_eq!(lacking(&actions, space(64 << 20), true), None);
    }

    #[test]
    fn a_node_with_too_much_holds_back_no_other() {
        let main = vec![put("a", 20 << 20), put("b", 20 << 20), put("c", 15 << 40), put("d", 2)];
        let change = |action: usize| PlannedChange {
            change: Change {
                path: main[action].path.clone(),
                to: Side::Main,
                kind: ChangeKind::Create,
                bytes: 0,
                is_dir: false,
                reason: None,
            },
            action,
            clearing: None,
        };
        let edge = |actions: &[usize]| EdgePlan {
            changes: actions.iter().map(|a| change(*a)).collect(),
            ..EdgePlan::default()
        };
        let edges = vec![edge(&[0, 1]), edge(&[2, 3])];
        let plan = Plan { main: main.clone(), edges, ..Plan::default() };
        let lacking = lacking_on_main(&plan, space(32 << 20));
        let paths: Vec<String> = lacking.keys().map(|path| path.escaped()).collect();
        assert_eq!(paths, ["a", "b", "c"]);
    }
}
