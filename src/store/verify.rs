//! Reads all that lies in a store, and says what is not what it should be.

use std::collections::BTreeMap;

use ssh_key::PublicKey;

use super::envelope;
use super::group::HeadNode;
use super::head::Head;
use super::names::{self, Area};
use super::tree::Part;
use super::upload::Upload;
use super::{MAX_TREE, MAX_UPLOAD, Objects, Sha256, StoreError, chain, group, publish, trust};

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Publications.
    pub heads: u64,
    /// Trees, groups of nodes, parts, and what nodes uploaded.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, a line each.
    pub wrong: Vec<String>,
}

struct Verifier<'a> {
    objects: &'a dyn Objects,
    keys: &'a [PublicKey],
    found: Verified,
    /// Objects that some publication needs, and their length.
    needed: BTreeMap<Sha256, u64>,
}

/// Reads everything. `keys` are those that this Main knows beside the ones in the store. `Err`: the store cannot be read.
pub fn verify(objects: &dyn Objects, keys: &[PublicKey]) -> Result<Verified, StoreError> {
    let mut found = Verified::default();
    let mut all = keys.to_vec();
    match trust::all(objects) {
        Ok(keys) => all.extend(keys),
        Err(StoreError::Tampered(why)) => found.wrong.push(why),
        Err(error) => return Err(error),
    }
    let mut verifier = Verifier { objects, keys: &all, found, needed: BTreeMap::new() };
    verifier.leases()?;
    let last = verifier.heads()?;
    verifier.contents(&Area::main())?;
    let groups = last.as_ref().map_or(&[][..], |head| &head.groups);
    let nodes = verifier.note(group::read_all(objects, groups))?.unwrap_or_default();
    let nodes: BTreeMap<&str, &HeadNode> = nodes.iter().map(|node| (&*node.name, node)).collect();
    for name in verifier.node_names()? {
        verifier.node(&name, nodes.get(&*name).copied())?;
    }
    Ok(verifier.found)
}

impl Verifier<'_> {
    /// Notes what is wrong with something, and goes on.
    fn note<T>(&mut self, result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::Tampered(why) | StoreError::Incompatible(why)) => {
                self.found.wrong.push(why);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn leases(&mut self) -> Result<(), StoreError> {
        let (objects, keys) = (self.objects, self.keys);
        for name in objects.list(names::LEASES)? {
            match names::epoch_in(&name) {
                Some(epoch) => {
                    self.note(chain::lease(objects, keys, epoch))?;
                    self.note(chain::alive(objects, keys, epoch))?;
                }
                None => self.found.wrong.push(format!("{name} is no name of ours")),
            }
        }
        Ok(())
    }

    /// Reads every publication with its trees; returns the last.
    fn heads(&mut self) -> Result<Option<Head>, StoreError> {
        let (objects, keys) = (self.objects, self.keys);
        let mut last: Option<(Head, Sha256)> = None;
        for name in objects.list(names::HEADS)? {
            let Some(seq) = names::seq_in(&name) else {
                self.found.wrong.push(format!("{name} is no name of ours"));
                continue;
            };
            let Some(Some((head, hash))) = self.note(chain::head(objects, keys, seq))? else { continue };
            self.found.heads += 1;
            if let Some((before, before_hash)) = &last
                && before.seq + 1 == seq
                && head.prev != Some(*before_hash)
            {
                self.found.wrong.push(format!("{name} does not follow the one before it"));
            }
            self.needed.extend(head.groups.iter().map(|group| (group.object, group.len)));
            for directory in &head.directories {
                if self.needed.insert(directory.tree, directory.tree_len).is_some() {
                    continue;
                }
                let read = publish::read_tree(objects, directory).map_err(|error| error.while_doing(&name));
                if let Some(stored) = self.note(read)? {
                    self.needed.extend(stored.parts.stored().filter_map(|part| match part {
                        Part::Stored { object, len, .. } => Some((*object, *len)),
                        Part::Zeros(_) => None,
                    }));
                }
            }
            last = Some((head, hash));
        }
        Ok(last.map(|(head, _)| head))
    }

    /// Reads every object of an area; in Main's, those that are needed must be there.
    fn contents(&mut self, area: &Area) -> Result<(), StoreError> {
        for name in self.objects.list(&area.objects())? {
            let Some(hash) = area.object_in(&name) else {
                self.found.wrong.push(format!("{name} is no name of ours"));
                continue;
            };
            let objects = self.objects;
            let Some(Some(bytes)) = self.note(objects.get(&name, MAX_TREE))? else { continue };
            self.found.objects += 1;
            self.found.bytes += bytes.len() as u64;
            if Sha256::of(&bytes) != hash {
                self.found.wrong.push(format!("{name} is not what its name says"));
            }
            if *area == Area::main() {
                self.needed.remove(&hash);
            }
        }
        if *area == Area::main() {
            let missing = std::mem::take(&mut self.needed);
            let told = missing
                .keys()
                .map(|hash| format!("{} is missing, and is part of a publication", area.object(hash)));
            self.found.wrong.extend(told);
        }
        Ok(())
    }

    fn node_names(&self) -> Result<Vec<String>, StoreError> {
        let mut nodes: Vec<String> = self
            .objects
            .list(names::NODES)?
            .iter()
            .filter_map(|name| Some(name.strip_prefix(names::NODES)?.split_once('/')?.0.to_owned()))
            .collect();
        nodes.dedup();
        Ok(nodes)
    }

    fn node(&mut self, node: &str, known: Option<&HeadNode>) -> Result<(), StoreError> {
        let Some(area) = Area::node(node) else {
            self.found.wrong.push(format!("{}{node} is no name of a node", names::NODES));
            return Ok(());
        };
        self.contents(&area)?;
        let Some(key) = known.and_then(|node| PublicKey::from_openssh(&node.key).ok()) else { return Ok(()) };
        for name in self.objects.list(&area.uploads())? {
            let Some(object) = self.objects.get(&name, MAX_UPLOAD)? else { continue };
            let opened = envelope::open::<Upload>(&object, std::slice::from_ref(&key), &name);
            self.note(opened.and_then(|upload| upload.check()))?;
        }
        Ok(())
    }
}
