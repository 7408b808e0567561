//! What a directory looks like at one moment.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::path::{RelPath, RelPathBuf};
use super::steps::step;

/// A snapshot: path → entry, in tree order (see [`RelPath`]); the root itself is not part of it.
///
/// All paths lie in one buffer: a tree of a million files is two allocations, not a million.
#[derive(Clone, Default)]
pub struct Tree {
    paths: Vec<u8>,
    nodes: Vec<Node>,
}

#[derive(Clone)]
struct Node {
    /// Where the path ends in `paths`; it starts where the one before ends.
    end: usize,
    entry: Entry,
}

impl Tree {
    /// Appends an entry. Entries must come in tree order; one that does not is refused and returned.
    pub fn push(&mut self, path: &RelPath, entry: Entry) -> Result<(), Entry> {
        if self.last_path().is_some_and(|last| last >= path) {
            return Err(entry);
        }
        self.paths.extend_from_slice(path.as_bytes());
        self.nodes.push(Node { end: self.paths.len(), entry });
        Ok(())
    }

    fn last_path(&self) -> Option<&RelPath> {
        self.nodes.len().checked_sub(1).map(|last| self.path(last))
    }

    fn path(&self, index: usize) -> &RelPath {
        step();
        let start = index.checked_sub(1).map_or(0, |before| self.nodes[before].end);
        RelPath::of_tree(&self.paths[start..self.nodes[index].end])
    }

    /// Every path with its entry, a directory right before what is in it.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&RelPath, &Entry)> {
        self.nodes.iter().enumerate().map(|(index, node)| (self.path(index), &node.entry))
    }

    /// The entry at a position in tree order.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<(&RelPath, &Entry)> {
        self.nodes.get(index).map(|node| (self.path(index), &node.entry))
    }

    /// What stands at `path`.
    #[must_use]
    pub fn get(&self, path: &RelPath) -> Option<&Entry> {
        self.index(path).ok().map(|index| &self.nodes[index].entry)
    }

    /// The position of `path` in tree order; for tables with one element per entry.
    #[must_use]
    pub fn position(&self, path: &RelPath) -> Option<usize> {
        self.index(path).ok()
    }

    /// Replaces the entry at a position in tree order.
    pub fn set(&mut self, index: usize, entry: Entry) {
        if let Some(node) = self.nodes.get_mut(index) {
            node.entry = entry;
        }
    }

    fn index(&self, path: &RelPath) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.nodes.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.path(middle).cmp(path) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// All that lies below `dir`, at any depth.
    pub fn below<'a>(&'a self, dir: &'a RelPath) -> impl Iterator<Item = (&'a RelPath, &'a Entry)> {
        let start = self.index(dir).map_or_else(|after| after, |at| at + 1);
        (start..self.nodes.len())
            .map(|index| (self.path(index), &self.nodes[index].entry))
            .take_while(move |(path, _)| path.is_below(dir))
    }

    /// Number of entries of every kind.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no entry of any kind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Number of regular files.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.nodes.iter().filter(|node| matches!(node.entry, Entry::File(_))).count() as u64
    }

    /// Whether it carries anything: a tree of excluded and unreadable entries alone is empty of content.
    #[must_use]
    pub fn has_content(&self) -> bool {
        self.nodes.iter().any(|node| !node.entry.is_opaque() && !matches!(node.entry, Entry::Dir(_)))
    }

    /// This tree with some paths set (`Some`) or removed (`None`).
    #[must_use]
    pub fn with(&self, changes: &BTreeMap<RelPathBuf, Option<Entry>>) -> Tree {
        let mut tree = Tree::default();
        let mut changes = changes.iter().peekable();
        let mut put = |path: &RelPath, entry: Entry| {
            // Both inputs are in tree order, so their merge is.
            let pushed = tree.push(path, entry);
            debug_assert!(pushed.is_ok());
        };
        for (path, entry) in self.iter() {
            while let Some((new, change)) = changes.next_if(|(changed, _)| &***changed < path) {
                change.iter().for_each(|entry| put(new, entry.clone()));
            }
            match changes.next_if(|(changed, _)| &***changed == path) {
                Some((_, change)) => change.iter().for_each(|new| put(path, new.clone())),
                None => put(path, entry.clone()),
            }
        }
        for (new, change) in changes {
            change.iter().for_each(|entry| put(new, entry.clone()));
        }
        tree
    }
}

impl FromIterator<(RelPathBuf, Entry)> for Tree {
    /// From entries in any order; of several for one path the last stays.
    fn from_iter<I: IntoIterator<Item = (RelPathBuf, Entry)>>(entries: I) -> Tree {
        let changes = entries.into_iter().map(|(path, entry)| (path, Some(entry))).collect();
        Tree::default().with(&changes)
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Tree) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Tree {}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::super::digest::Digest;
    use super::super::entry::{Busy, EntryProblem, File, Meta, Owner, Symlink};
    use super::*;

    /// A small tree of any kinds of entries, where only directories have something below them.
    pub(crate) fn any_tree() -> impl Strategy<Value = Tree> {
        let name = prop_oneof!["[ab]", "[ab]\\.wav", Just("xds_override".to_owned())];
        let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
        prop::collection::btree_map(path, any_entry(), 0..8).prop_map(|entries| {
            let mut all = BTreeMap::new();
            for (path, entry) in entries {
                let path = RelPathBuf::new(path.into_bytes()).unwrap();
                for dir in path.ancestors() {
                    all.insert(dir.to_owned(), Entry::Dir(Meta { mode: 0o755, owner: Owner::default() }));
                }
                all.entry(path).or_insert(entry);
            }
            all.into_iter().collect()
        })
    }

    fn any_meta(mask: u16) -> impl Strategy<Value = Meta> {
        let owner = prop_oneof![
            Just(Owner::default()),
            Just(Owner::new(Some("asterisk"), Some("www-data"))),
            Just(Owner::new(Some("root"), None)),
        ];
        (any::<u16>(), owner).prop_map(move |(mode, owner)| Meta { mode: mode & mask, owner })
    }

    pub(crate) fn any_entry() -> impl Strategy<Value = Entry> {
        prop_oneof![
            1 => any_meta(0o3777).prop_map(Entry::Dir),
            4 => (0..4u8, 0..3i64, any_meta(0o777)).prop_map(|(content, mtime, meta)| {
                Entry::File(File { size: content.into(), mtime, digest: Digest([content; 32]), meta })
            }),
            1 => "[ab]{1,3}".prop_map(|target| Entry::Symlink(Symlink { target: target.into_bytes().into() })),
            1 => Just(Entry::Excluded),
            1 => Just(Entry::Busy(Busy::Young)),
            1 => prop_oneof![
                Just(EntryProblem::Special),
                Just(EntryProblem::Empty),
                Just(EntryProblem::Unreadable("EIO".into())),
                Just(EntryProblem::Sparse { size: 1 << 44, allocated: 4096 }),
            ]
                .prop_map(Entry::Problem),
        ]
    }

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn below_is_what_lies_below_and_no_neighbour() {
        let tree: Tree = ["a", "a/b", "a/b/c", "a.wav", "ab"]
            .map(|name| (path(name), Entry::Excluded))
            .into_iter()
            .collect();
        let below: Vec<_> = tree.below(&path("a")).map(|(path, _)| path.escaped()).collect();
        assert_eq!(below, ["a/b", "a/b/c"]);
    }

    #[test]
    fn push_refuses_what_is_out_of_order() {
        let mut tree = Tree::default();
        assert!(tree.push(&path("b"), Entry::Excluded).is_ok());
        assert!(tree.push(&path("a"), Entry::Excluded).is_err());
        assert!(tree.push(&path("b"), Entry::Excluded).is_err());
        assert_eq!(tree.len(), 1);
    }

    #[test]
    fn set_replaces_one_entry() {
        let mut tree: Tree = ["a", "b", "c"].map(|name| (path(name), Entry::Excluded)).into_iter().collect();
        tree.set(1, Entry::Busy(Busy::Young));
        let expected = [Entry::Excluded, Entry::Busy(Busy::Young), Entry::Excluded];
        assert!(tree.iter().map(|(_, entry)| entry).eq(&expected));
    }

    proptest! {
        #[test]
        fn get_finds_every_path(tree in any_tree()) {
            for (path, entry) in tree.iter() {
                prop_assert_eq!(tree.get(path), Some(entry));
                let position = tree.position(path).unwrap();
                prop_assert_eq!(tree.at(position), Some((path, entry)));
            }
            prop_assert_eq!(tree.get(&path("nowhere")), None);
        }

        #[test]
        fn with_sets_and_removes(a in any_tree(), b in any_tree()) {
            let mut changes: BTreeMap<_, _> = a.iter().map(|(path, _)| (path.to_owned(), None)).collect();
            changes.extend(b.iter().map(|(path, entry)| (path.to_owned(), Some(entry.clone()))));
            prop_assert_eq!(a.with(&changes), b);
        }
    }
}
