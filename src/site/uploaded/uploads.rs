//! What a node has uploaded and Main has not taken in, all of it together.

use std::collections::BTreeMap;

use ssh_key::PublicKey;

use super::Followers;
use crate::model::{Entry, RelPathBuf, Tree};
use crate::snapshot::Rules;
use crate::store::blobs::get_object;
use crate::store::names::Area;
use crate::store::tree::Parts;
use crate::store::upload::{Upload, UploadedChange, UploadedDirectory};
use crate::store::{MAX_CHANGES, MAX_UPLOAD, StoreError, envelope, upload};

/// More uploads than this are not taken in by one run: the next one goes on, once it has been decided on these. Tests have fewer.
pub(super) const MOST: u64 = if cfg!(test) { 8 } else { 1000 };

/// Memory that the uploads of a node take, at least: beyond this no more are read by one run.
const ENOUGH: usize = 256 << 20;
/// What one that is beyond this takes is no honest node's: four million files that it has recorded in one pass take less.
const TOO_MUCH: usize = 2 << 30;

/// What became of the paths of one directory.
#[derive(Default)]
pub(super) struct Changed {
    /// What the node knew Main to have before its first change of a path.
    expected: BTreeMap<RelPathBuf, Option<Entry>>,
    /// What the node has after its last one.
    now: BTreeMap<RelPathBuf, Option<Entry>>,
}

/// The uploads of a node.
#[derive(Default)]
pub(super) struct Uploads {
    pub(super) directories: BTreeMap<String, Changed>,
    /// Where the contents are.
    pub(super) contents: Parts,
    /// Each upload, with the paths that it tells of.
    pub(super) read: Vec<(u64, BTreeMap<String, Vec<RelPathBuf>>)>,
    /// Memory that all of this takes, roughly.
    weight: usize,
}

impl Uploads {
    /// Reads all that Main has not taken in. Nothing of one is believed that its node has not signed, for this store and under
    /// this number.
    pub(super) fn read(of: &Followers, node: &str, key: &PublicKey) -> Result<Uploads, StoreError> {
        let area =
            Area::node(node).ok_or_else(|| StoreError::Local(format!("{node} is no name of a node")))?;
        let first = of.taken.get(node).copied().unwrap_or(0) + 1;
        let mut known = of.first.take(&*of.objects, node);
        let mut all = Uploads::default();
        for seq in first..first.saturating_add(MOST) {
            let name = area.upload(seq);
            let found = known.take().map_or_else(|| of.objects.get(&name, MAX_UPLOAD), Ok)?;
            let Some(object) = found else { break };
            let upload: Upload = envelope::open(&object, std::slice::from_ref(key), &name)?;
            upload.check()?;
            if (upload.seq, upload.node.as_str(), upload.cluster.as_str()) != (seq, node, of.cluster.as_str())
            {
                return Err(StoreError::Tampered(format!("{name} is another upload than its name says")));
            }
            all.add(of, &area, &upload)?;
            if all.weight > ENOUGH {
                break;
            }
        }
        Ok(all)
    }

    fn add(&mut self, of: &Followers, area: &Area, upload: &Upload) -> Result<(), StoreError> {
        let mut paths: BTreeMap<String, Vec<RelPathBuf>> = BTreeMap::new();
        for UploadedDirectory { name, changes, changes_len } in &upload.directories {
            let Some(hash) = changes else { continue };
            if *changes_len > MAX_CHANGES {
                return Err(StoreError::Tampered(format!("the upload {} has too many changes", upload.seq)));
            }
            let object = get_object(&*of.objects, area, hash, *changes_len)?.ok_or_else(|| {
                StoreError::Unreachable(format!("the changes of upload {} are not there yet", upload.seq))
            })?;
            let (changes, contents) = upload::decode(&object)?;
            self.weight = self.weight.saturating_add(weight(&changes, &contents));
            if self.weight > TOO_MUCH {
                return Err(StoreError::Tampered(format!("the upload {} has too many changes", upload.seq)));
            }
            self.contents.extend(contents);
            let directory = self.directories.entry(name.clone()).or_default();
            paths.entry(name.clone()).or_default().extend(changes.iter().map(|change| change.path.clone()));
            for change in changes {
                directory.expected.entry(change.path.clone()).or_insert(change.expected);
                directory.now.insert(change.path, change.now);
            }
        }
        self.read.push((upload.seq, paths));
        Ok(())
    }

    /// Forgets what Main's rules keep out of a directory: they may be newer than those that the node knew.
    pub(super) fn keep_out(&mut self, directory: &str, rules: &Rules) {
        let Some(changed) = self.directories.get_mut(directory) else { return };
        changed.expected.retain(|path, _| !rules.keeps_out(path));
        changed.now.retain(|path, _| !rules.keeps_out(path));
        for (_, directories) in &mut self.read {
            if let Some(paths) = directories.get_mut(directory) {
                paths.retain(|path| !rules.keeps_out(path));
            }
        }
    }
}

impl Changed {
    /// Whether nothing has changed, by Main's rules.
    pub(super) fn is_empty(&self) -> bool {
        self.now.is_empty()
    }

    /// What the node has, which had `base` before.
    pub(super) fn now(&self, base: &Tree) -> Tree {
        sound(base.with(&self.now))
    }

    /// What both ends had in common before the node's changes, where Main has decided on none of them yet: `published` is
    /// what all who had changed nothing have in common with it.
    pub(super) fn before_any(&self, published: &Tree) -> Tree {
        sound(published.with(&self.expected))
    }

    /// The same, where Main has decided on some of them, and `base` is on record. That may be later: at such a path Main has
    /// changed something as well, and the node did not know of it.
    pub(super) fn before(&self, base: &Tree) -> Tree {
        let is_new =
            |path: &RelPathBuf| !super::same(base.get(path), self.now.get(path).and_then(Option::as_ref));
        let expected = self.expected.iter().filter(|(path, _)| is_new(path));
        sound(base.with(&expected.map(|(path, entry)| (path.clone(), entry.clone())).collect()))
    }
}

/// Memory that changes take, roughly: each path is kept several times.
fn weight(changes: &[UploadedChange], contents: &Parts) -> usize {
    let parts = |change: &UploadedChange| match &change.now {
        Some(Entry::File(file)) => contents.get(&file.digest).map_or(0, |parts| parts.len()),
        _ => 0,
    };
    changes.iter().map(|change| 256 + 3 * change.path.as_bytes().len() + 64 * parts(change)).sum()
}

/// Without what lies in no directory: a tree is planned with as a scan would have found it, whatever a node says.
fn sound(tree: Tree) -> Tree {
    let mut sound = Tree::default();
    for (path, entry) in tree.iter() {
        let is_in_dir = path.parent().is_none_or(|parent| matches!(sound.get(parent), Some(Entry::Dir(_))));
        if is_in_dir {
            // It comes in tree order.
            let _ = sound.push(path, entry.clone());
        }
    }
    sound
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Digest, File, Meta, Owner};

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes()).unwrap()
    }

    fn file(content: u8) -> Entry {
        let meta = Meta { mode: 0o644, owner: Owner::default() };
        Entry::File(File { size: 1, mtime: 0, digest: Digest([content; 32]), meta })
    }

    fn tree(entries: &[(&str, Entry)]) -> Tree {
        entries.iter().map(|(name, entry)| (path(name), entry.clone())).collect()
    }

    fn changed(changes: &[(&str, Option<Entry>, Option<Entry>)]) -> Changed {
        let mut all = Changed::default();
        for (name, expected, now) in changes {
            all.expected.insert(path(name), expected.clone());
            all.now.insert(path(name), now.clone());
        }
        all
    }

    #[test]
    fn only_what_the_node_changed_counts_as_its_change() {
        let base = tree(&[("a", file(1)), ("b", file(2)), ("c", file(3))]);
        // The node knew nothing of Main's change of b to 2.
        let changed = changed(&[
            ("b", Some(file(9)), Some(file(8))),
            ("c", Some(file(3)), None),
            ("d", None, Some(file(4))),
        ]);
        assert_eq!(changed.now(&base), tree(&[("a", file(1)), ("b", file(8)), ("d", file(4))]));
        assert_eq!(changed.before(&base), tree(&[("a", file(1)), ("b", file(9)), ("c", file(3))]));
    }

    #[test]
    fn what_was_taken_in_already_is_no_change_again() {
        let base = tree(&[("a", file(8))]);
        let changed = changed(&[("a", Some(file(1)), Some(file(8))), ("b", Some(file(2)), None)]);
        assert_eq!(changed.before(&base), base);
        assert_eq!(changed.now(&base), base);
    }

    #[test]
    fn what_lies_in_no_directory_is_not_believed() {
        let changed = changed(&[
            ("a", None, Some(file(1))),
            ("a/b", None, Some(file(2))),
            ("x/y", None, Some(file(3))),
        ]);
        assert_eq!(changed.now(&Tree::default()), tree(&[("a", file(1))]));
    }
}
