//! The nodes of a publication, in groups. Each group is an object beside the trees: a publication names groups alone, and a
//! node reads the one that it is in.
//!
//! Its name alone and the number of groups decide in which group a node is. So what changes of one node makes one group
//! another object, and all others stay as they were published.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::blobs::{put_object, verified};
use super::names::{Area, is_name, is_root};
use super::objects::get_each;
use super::{Objects, Sha256, StoreError, several};
use crate::fault::{Point, reach};
use crate::threads::side_by_side;

/// Nodes of a group, on average, at most: ten thousand nodes have 128 groups. One group is to stay short beside what a node
/// reads anyway, and so is the list of all of them.
const NODES: usize = 100;
/// Most groups: their list takes half of a head then.
pub const MAX_GROUPS: usize = 1024;
/// Longest group: one that comes together with other objects.
pub const MAX_GROUP: u64 = several::LONGEST;
/// Groups that are put into the store at once.
const THREADS: usize = 4;

/// A group of nodes, as a head names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The object that it is.
    pub object: Sha256,
    /// Bytes of that object.
    pub len: u64,
}

/// A node with `via = "store"`, a line of its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadNode {
    /// Its name.
    pub name: String,
    /// What it signs with, in OpenSSH's format.
    pub key: String,
    /// What directories may ask for.
    pub labels: Vec<String>,
    /// Directory → its root on this node, where that differs from Main's.
    pub paths: BTreeMap<String, String>,
    /// The last upload of this node that is in this head; 0: none. It is Main's acknowledgement.
    pub taken: u64,
}

/// A group that may have to be put into the store.
pub struct Packed {
    /// As a head names it.
    pub group: Group,
    bytes: Vec<u8>,
}

/// The group that a node is in, of so many; their number is a power of two.
#[must_use]
pub fn place(node: &str, count: usize) -> usize {
    let Sha256([first, second, ..]) = Sha256::of(node.as_bytes());
    usize::from(u16::from_be_bytes([first, second])) & count.saturating_sub(1)
}

/// All nodes in groups, whatever order they have; none without any node.
pub fn pack(nodes: &[HeadNode]) -> Result<Vec<Packed>, StoreError> {
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let mut lines = nodes.iter().map(line).collect::<Result<Vec<(&str, Vec<u8>)>, StoreError>>()?;
    lines.sort_unstable();
    if let Some(two) = lines.windows(2).find(|two| two[0].0 == two[1].0) {
        return Err(StoreError::Local(format!("{} is the name of two nodes", two[0].0)));
    }
    let mut count = nodes.len().div_ceil(NODES).next_power_of_two();
    // Where nodes have many roots of their own, there are fewer in a group.
    while count <= MAX_GROUPS {
        let mut groups = vec![Vec::new(); count];
        for (name, line) in &lines {
            groups[place(name, count)].extend_from_slice(line);
        }
        if groups.iter().all(|group| group.len() as u64 <= MAX_GROUP) {
            return Ok(groups.into_iter().map(packed).collect());
        }
        count *= 2;
    }
    Err(StoreError::Local(format!(
        "{} nodes, with their paths and labels, are too many for one publication",
        nodes.len()
    )))
}

impl Packed {
    /// The bytes of the object.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn packed(bytes: Vec<u8>) -> Packed {
    Packed { group: Group { object: Sha256::of(&bytes), len: bytes.len() as u64 }, bytes }
}

fn line(node: &HeadNode) -> Result<(&str, Vec<u8>), StoreError> {
    check(node).map_err(|why| StoreError::Local(format!("{}: {why}", node.name)))?;
    let line = serde_json::to_vec(node);
    let mut line = line.map_err(|error| StoreError::Local(format!("writing {}: {error}", node.name)))?;
    line.push(b'\n');
    Ok((&node.name, line))
}

/// What a signature does not say of a node. Main's own key may have been stolen, and no name may lead anywhere.
fn check(node: &HeadNode) -> Result<(), String> {
    if !is_name(&node.name) {
        return Err(format!("{:?} is no name of a node", node.name));
    }
    if let Some(path) = node.paths.values().find(|path| !is_root(path)) {
        return Err(format!("{path:?} is no root of a directory"));
    }
    match node.labels.iter().find(|label| !is_name(label)) {
        Some(label) => Err(format!("{label:?} is no label")),
        None => Ok(()),
    }
}

/// Puts groups into the store that the last publication has not.
pub(super) fn put(objects: &dyn Objects, groups: &[Packed], last: &[Group]) -> Result<(), StoreError> {
    let last: HashSet<&Group> = last.iter().collect();
    let new: Vec<&Packed> = groups.iter().filter(|packed| !last.contains(&packed.group)).collect();
    let put = |packed: &&Packed| {
        reach(Point::StoreNodes).map_err(|error| StoreError::Local(error.to_string()))?;
        put_object(objects, &packed.group.object, packed.bytes())
    };
    side_by_side(&new, THREADS, put).into_iter().collect()
}

impl Group {
    /// Its name in the store.
    #[must_use]
    pub fn name(&self) -> String {
        Area::main().object(&self.object)
    }

    /// The nodes in it, from what lies at its name. It is the one at this place, of so many.
    pub fn open(
        &self,
        objects: &dyn Objects,
        (place, count): (usize, usize),
        bytes: Vec<u8>,
    ) -> Result<Vec<HeadNode>, StoreError> {
        let name = self.name();
        let bytes = verified(objects, &name, (&self.object, self.len), bytes)?;
        let wrong = |why: String| StoreError::Tampered(format!("the group of nodes {name}: {why}"));
        let mut nodes: Vec<HeadNode> = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let node: HeadNode = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
            check(&node).map_err(wrong)?;
            if nodes.last().is_some_and(|last| last.name >= node.name) {
                return Err(wrong("names are out of order".to_owned()));
            }
            if self::place(&node.name, count) != place {
                return Err(wrong(format!("{} is in another group", node.name)));
            }
            nodes.push(node);
        }
        Ok(nodes)
    }
}

/// All nodes of a publication with these groups.
pub fn read_all(objects: &dyn Objects, groups: &[Group]) -> Result<Vec<HeadNode>, StoreError> {
    let names: Vec<String> = groups.iter().map(Group::name).collect();
    let found = get_each(objects, &names, MAX_GROUP);
    let mut nodes = Vec::new();
    for (place, (group, found)) in groups.iter().zip(found).enumerate() {
        let missing = || StoreError::Tampered(format!("the group of nodes {} is missing", group.name()));
        nodes.extend(group.open(objects, (place, groups.len()), found?.ok_or_else(missing)?)?);
    }
    Ok(nodes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::store::objects::memory::Memory;

    fn node(name: &str) -> HeadNode {
        HeadNode {
            name: name.to_owned(),
            key: "ssh-ed25519 AAAA".to_owned(),
            labels: vec!["paris".to_owned()],
            paths: [("moh".to_owned(), "/srv/moh".to_owned())].into(),
            taken: 7,
        }
    }

    fn nodes(count: usize) -> Vec<HeadNode> {
        (1..=count).map(|number| node(&format!("mds{number}"))).collect()
    }

    fn groups(nodes: &[HeadNode]) -> Vec<Group> {
        pack(nodes).unwrap().iter().map(|packed| packed.group).collect()
    }

    #[test]
    fn how_many_groups_there_are_follows_the_number_of_nodes() {
        for (count, expected) in
            [(0, 0), (1, 1), (100, 1), (101, 2), (200, 2), (201, 4), (10_000, 128), (12_801, 256)]
        {
            let packed = pack(&nodes(count)).unwrap();
            assert_eq!(packed.len(), expected, "{count} nodes");
            let longest = packed.iter().map(|packed| packed.bytes.len()).max().unwrap_or(0);
            assert!(longest < 200 * 150, "{count} nodes: {longest} bytes");
        }
        // Which group it is can be told without this program: the first two bytes of sha256sum(1) of the name.
        assert_eq!((place("mds1", 1), place("mds1", 128), place("mds1", 65536)), (0, 0x3d, 0xadbd));
    }

    #[test]
    fn long_nodes_have_more_groups_until_there_are_too_many() {
        let long = |paths: usize| {
            let path = |number: usize| (format!("d{number}"), format!("/{}", "x".repeat(1000)));
            (1..=50).map(move |number| HeadNode {
                paths: (0..paths).map(path).collect(),
                ..node(&format!("mds{number}"))
            })
        };
        let packed = pack(&long(100).collect::<Vec<_>>()).unwrap();
        assert!(packed.len() > 4, "{}", packed.len());
        assert!(packed.iter().all(|packed| packed.bytes.len() as u64 <= MAX_GROUP));
        assert!(matches!(pack(&long(1100).collect::<Vec<_>>()), Err(StoreError::Local(_))));
    }

    proptest! {
        #[test]
        fn every_node_is_in_one_group_and_in_whatever_order_they_came(
            names in prop::collection::btree_set("[a-z][a-z0-9]{0,8}", 0..600),
            seed in any::<u64>(),
        ) {
            let sorted: Vec<HeadNode> = names.iter().map(|name| node(name)).collect();
            let mut mixed = sorted.clone();
            mixed.sort_by_key(|node| blake3::hash(format!("{seed} {}", node.name).as_bytes()).to_hex());
            let (store, packed) = (Memory::default(), pack(&mixed).unwrap());
            prop_assert!(packed.is_empty() == names.is_empty());
            prop_assert!(packed.is_empty() || packed.len().is_power_of_two());
            put(&store, &packed, &[]).unwrap();
            let mut read = read_all(&store, &groups(&sorted)).unwrap();
            read.sort_by(|a, b| a.name.cmp(&b.name));
            prop_assert_eq!(read, sorted);
        }

        #[test]
        fn a_change_of_one_node_changes_one_group(count in 1..1500usize, which in any::<proptest::sample::Index>()) {
            let before = nodes(count);
            let mut after = before.clone();
            after[which.index(count)].taken += 1;
            let [a, b] = [&before, &after].map(|nodes| groups(nodes));
            let changed = a.iter().zip(&b).filter(|(a, b)| a != b).count();
            prop_assert_eq!((a.len(), changed), (b.len(), 1));
        }
    }

    #[test]
    fn only_what_the_last_publication_has_not_is_put() {
        let store = Memory::default();
        let mut all = nodes(1000);
        let before = pack(&all).unwrap();
        put(&store, &before, &[]).unwrap();
        let names = |store: &Memory| store.0.lock().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let known = names(&store);
        assert_eq!(known.len(), before.len());
        all[17].labels.clear();
        let last: Vec<Group> = before.iter().map(|packed| packed.group).collect();
        store.0.lock().unwrap().clear();
        put(&store, &pack(&all).unwrap(), &last).unwrap();
        assert_eq!(names(&store).len(), 1);
        assert!(names(&store).is_disjoint(&known));
    }

    #[test]
    fn what_is_no_group_of_mains_is_refused() {
        let store = Memory::default();
        let two = [node("a"), node("b")];
        let lines: BTreeMap<&str, Vec<u8>> = two.iter().map(|node| line(node).unwrap()).collect();
        let good = lines.values().flatten().copied().collect::<Vec<u8>>();
        let swapped = lines.values().rev().flatten().copied().collect::<Vec<u8>>();
        let text = String::from_utf8(good.clone()).unwrap();
        for (what, bytes, is_fine) in [
            ("as it is", good.clone(), true),
            ("empty", Vec::new(), true),
            ("out of order", swapped, false),
            ("twice", lines["a"].repeat(2), false),
            ("a name that leads elsewhere", text.replace("\"a\"", "\"../a\"").into_bytes(), false),
            ("a root that leads elsewhere", text.replace("/srv/moh", "/srv/../etc").into_bytes(), false),
            ("no label", text.replace("paris", "-").into_bytes(), false),
            ("more", text.replace("\"taken\"", "\"more\":1,\"taken\"").into_bytes(), false),
            ("cut", good[..good.len() - 3].to_vec(), false),
        ] {
            let group = packed(bytes.clone()).group;
            let opened = group.open(&store, (0, 1), bytes.clone());
            assert_eq!(opened.is_ok(), is_fine, "{what}: {opened:?}");
            assert!(is_fine || matches!(opened, Err(StoreError::Tampered(_))), "{what}");
        }
        let group = packed(good.clone()).group;
        assert!(group.open(&store, (0, 2), good.clone()).is_err(), "one of them is in the other group");
        for bytes in [good[1..].to_vec(), [good, b"\n".to_vec()].concat()] {
            assert!(matches!(group.open(&store, (0, 1), bytes), Err(StoreError::Tampered(_))));
        }
    }
}
