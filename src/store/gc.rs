//! Removes what nobody needs, in two steps a day apart: what is condemned today is looked at again before it goes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;

use super::blobs::get_object;
use super::envelope::{self, Signed, seal};
use super::holder::{Holder, Standing};
use super::names::{self, Area};
use super::objects::create_or_own;
use super::upload::{self, Upload};
use super::{FORMAT, MAX_CHANGES, MAX_UPLOAD, Objects, Sha256, StoreError, chain, group, publish};
use crate::model::bounded::at_most;
use crate::model::{read_rfc3339, rfc3339};

/// Publications that stay, whatever their age.
const KEEP_HEADS: usize = 10;
/// Publications that are younger stay, however many they are.
const KEEP_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// From being condemned to going: longer than anybody needs to fetch what a publication names.
const WAIT: Duration = Duration::from_secs(24 * 3600);
/// Most names in a list.
const MAX_NAMES: usize = 100_000;
/// Longest list.
const MAX_LIST: u64 = 32 << 20;

/// What was found to be needed by nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condemned {
    v: u32,
    cluster: String,
    epoch: u64,
    n: u64,
    /// When, in RFC 3339.
    time: String,
    #[serde(deserialize_with = "at_most::<MAX_NAMES, _, _>")]
    names: Vec<String>,
}

impl Signed for Condemned {
    const NAMESPACE: &'static str = "xds-sync-gc@v1";
    const WHAT: &'static str = "the list";
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects that go after a day, unless somebody needs them by then.
    pub condemned: u64,
    /// Objects that were removed.
    pub deleted: u64,
    /// Publications that stay.
    pub heads: u64,
}

/// Collects. The caller holds the lock of Main's state, so that nothing is published meanwhile; and the lease.
pub fn collect(holder: &Holder, standing: &Standing) -> Result<Collected, StoreError> {
    holder.check_held(standing)?;
    holder.check_not_fenced(standing)?;
    let objects = &*holder.objects;
    let live = Live::mark(holder, standing)?;
    let mut collected = Collected { heads: live.heads.len() as u64, ..Collected::default() };
    let mut pending: HashSet<String> = HashSet::new();
    let mut next = 1;
    for list in objects.list(names::GC)? {
        let Some((epoch, n)) = names::condemned_in(&list) else { continue };
        if epoch == standing.lease.epoch {
            next = next.max(n + 1);
        }
        let Some(object) = objects.get(&list, MAX_LIST)? else { continue };
        let condemned: Condemned = envelope::open(&object, &standing.keys, &list)?;
        let is_due = read_rfc3339(&condemned.time).is_some_and(|time| time + WAIT <= (holder.now)());
        if !is_due {
            pending.extend(condemned.names);
            continue;
        }
        for name in condemned.names.iter().filter(|name| !live.needs(name)) {
            objects.delete(name)?;
            collected.deleted += 1;
        }
        objects.delete(&list)?;
    }
    let dead: Vec<String> =
        live.all(objects)?.into_iter().filter(|name| !live.needs(name) && !pending.contains(name)).collect();
    collected.condemned = dead.len() as u64;
    for names in dead.chunks(MAX_NAMES) {
        let list = Condemned {
            v: FORMAT,
            cluster: standing.lease.cluster.clone(),
            epoch: standing.lease.epoch,
            n: next,
            time: rfc3339((holder.now)()),
            names: names.to_vec(),
        };
        create_or_own(objects, &names::condemned(list.epoch, list.n), &seal(&holder.identity, &list)?)?;
        next += 1;
    }
    Ok(collected)
}

/// What somebody needs.
struct Live {
    heads: BTreeSet<u64>,
    main: HashSet<Sha256>,
    /// By their names.
    nodes: BTreeMap<String, LiveNode>,
}

struct LiveNode {
    area: Area,
    /// Uploads up to here are part of a publication.
    taken: u64,
    objects: HashSet<Sha256>,
}

impl Live {
    fn mark(holder: &Holder, standing: &Standing) -> Result<Live, StoreError> {
        let objects = &*holder.objects;
        let mut seqs: Vec<u64> =
            objects.list(names::HEADS)?.iter().filter_map(|name| names::seq_in(name)).collect();
        seqs.sort_unstable_by(|a, b| b.cmp(a));
        let mut live = Live { heads: BTreeSet::new(), main: HashSet::new(), nodes: BTreeMap::new() };
        for (index, seq) in seqs.into_iter().enumerate() {
            let Some((head, _)) = chain::head(objects, &standing.keys, seq)? else { continue };
            let age = read_rfc3339(&head.time).and_then(|time| (holder.now)().duration_since(time).ok());
            if index >= KEEP_HEADS && age.is_some_and(|age| age > KEEP_AGE) {
                continue;
            }
            live.heads.insert(seq);
            live.main.extend(head.groups.iter().map(|group| group.object));
            for directory in &head.directories {
                if live.main.insert(directory.tree) {
                    live.main.extend(publish::read_tree(objects, directory)?.parts.objects());
                }
            }
        }
        let groups = standing.head.as_ref().map_or(&[][..], |(head, _)| &head.groups);
        for node in group::read_all(objects, groups)? {
            if let (Some(area), Ok(key)) = (Area::node(&node.name), PublicKey::from_openssh(&node.key))
                && let Some(marked) = LiveNode::mark(objects, area, &key, node.taken)?
            {
                live.nodes.insert(node.name, marked);
            }
        }
        Ok(live)
    }

    /// All that may go once nobody needs it. Leases, keys and signs of life stay for ever, and so does what a node that is
    /// not known any more has uploaded.
    fn all(&self, objects: &dyn Objects) -> Result<Vec<String>, StoreError> {
        let mut all = objects.list(names::OBJECTS)?;
        all.extend(objects.list(names::HEADS)?);
        for node in self.nodes.values() {
            all.extend(objects.list(&node.area.objects())?);
            all.extend(objects.list(&node.area.uploads())?);
        }
        Ok(all)
    }

    /// Whether something is needed; what has no name of ours is.
    fn needs(&self, name: &str) -> bool {
        if let Some(seq) = names::seq_in(name) {
            return self.heads.contains(&seq);
        }
        if let Some(hash) = Area::main().object_in(name) {
            return self.main.contains(&hash);
        }
        let node = name.strip_prefix(names::NODES).and_then(|below| self.nodes.get(below.split_once('/')?.0));
        let Some(node) = node else { return true };
        match (node.area.object_in(name), node.area.upload_in(name)) {
            (Some(hash), _) => node.objects.contains(&hash),
            (_, Some(seq)) => seq > node.taken,
            _ => true,
        }
    }
}

impl LiveNode {
    /// What Main has not taken yet of a node. `None`: it cannot be told, and all of it stays.
    fn mark(
        objects: &dyn Objects,
        area: Area,
        key: &PublicKey,
        taken: u64,
    ) -> Result<Option<LiveNode>, StoreError> {
        let mut live = HashSet::new();
        for name in objects.list(&area.uploads())? {
            if area.upload_in(&name).is_none_or(|seq| seq <= taken) {
                continue;
            }
            match LiveNode::objects_of(objects, &area, key, &name) {
                Ok(needed) => live.extend(needed),
                // What is wrong with it is told by whoever takes it in.
                Err(StoreError::Tampered(_) | StoreError::Incompatible(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(LiveNode { area, taken, objects: live }))
    }

    fn objects_of(
        objects: &dyn Objects,
        area: &Area,
        key: &PublicKey,
        name: &str,
    ) -> Result<Vec<Sha256>, StoreError> {
        let Some(object) = objects.get(name, MAX_UPLOAD)? else { return Ok(Vec::new()) };
        let upload: Upload = envelope::open(&object, std::slice::from_ref(key), name)?;
        let mut needed = Vec::new();
        for directory in &upload.directories {
            let Some(hash) = directory.changes else { continue };
            needed.push(hash);
            if directory.changes_len <= MAX_CHANGES
                && let Some(changes) = get_object(objects, area, &hash, directory.changes_len)?
            {
                needed.extend(upload::decode(&changes)?.1.objects());
            }
        }
        Ok(needed)
    }
}
