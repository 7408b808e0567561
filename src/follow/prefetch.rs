//! What a publication has and this node has not is fetched before anything is touched: should the store turn out to have been
//! tampered with, or break off, all files are as they were.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::{ConflictPolicy, Direction, Entry, Need, RelPath, Room, Space, Tree};
use crate::node::{Endpoint as _, Local, NodeError};
use crate::snapshot::Root;
use crate::state::StateDir;
use crate::store::StoreError;
use crate::sync::{DirectorySpec, EdgeSpec, Spec};
use crate::transfer::{BlobRequest, Signature, Sink, Source};

use super::spec::Asked;
use super::upstream::Upstream;

/// Fetches contents into the stages of this node's directories. Returns how many bytes came for each of them.
///
/// What cannot be staged here is left to the run, which tells of it.
pub(super) fn prefetch(
    disk: &mut Local,
    upstream: &Upstream,
    state: &StateDir,
    (spec, asked): (&Spec, &Asked),
    run: &str,
    stop: &AtomicBool,
) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut fetched = BTreeMap::new();
    if asked.dry_run || disk.is_read_only() || disk.begin(run, false).is_err() {
        return Ok(fetched);
    }
    let nodes = spec.nodes.iter();
    let edges = nodes.flat_map(|node| node.edges.iter().map(move |edge| (&*node.name, edge)));
    for (node, edge) in edges {
        let bytes = fetch_edge(disk, upstream, state, (node, edge), spec, stop);
        fetched.insert(edge.directory.name.clone(), bytes?);
    }
    // The run takes the locks of the roots.
    let _ = disk.end();
    Ok(fetched)
}

fn fetch_edge(
    disk: &mut Local,
    upstream: &Upstream,
    state: &StateDir,
    (node, edge): (&str, &EdgeSpec),
    spec: &Spec,
    stop: &AtomicBool,
) -> Result<u64, StoreError> {
    let name = &edge.directory.name;
    let (Some(published), Some(mut source)) = (upstream.tree_of(name), upstream.contents_of(name)) else {
        return Ok(0);
    };
    let record = state.edge(name, node).ok().flatten();
    let own = (|| {
        let scanned = disk.scan(&edge.scan)?;
        let is_usable = match (&scanned.root, &record) {
            (Root::Unusable(_), _) | (Root::Missing | Root::Unmarked, Some(_)) => false,
            // Another directory stands where the one was that was synchronised: a guard will ask about that.
            (Root::Marked(marker), Some(record)) => marker.id == record.root,
            (Root::Missing | Root::Unmarked | Root::Marked(_), None) => true,
        };
        let tree = disk.tree(name, None)?;
        Ok::<_, NodeError>(is_usable.then_some((tree, scanned.free)))
    })();
    let Ok(Some((own, space))) = own else { return Ok(0) };
    let base = record.filter(|record| record.agreed).and_then(|record| record.base().ok());
    let requests = requests(&published, &own, base.as_ref(), &edge.directory);
    let requests = with_room(requests, space, &edge.directory);
    if requests.is_empty() {
        return Ok(0);
    }
    let root = upstream.root_of(name);
    if !matches!(disk.prepare(name, &spec.trash, root.as_ref()), Ok(Ok(_))) {
        return Ok(0);
    }
    let mut counted = Counted { source: &mut source, stop, bytes: 0, failure: None };
    // What could not be staged is told of by the run.
    let _ = disk.stage(name, &requests, &mut counted);
    match counted.failure {
        Some(error) => Err(error.while_doing(name)),
        None => Ok(counted.bytes),
    }
}

/// What there is room for; nothing where there is too little: a guard will stop the directory, and the disk of a host that
/// telephones is not filled for it. What others put into a two-way directory must not hold up the rest of it.
fn with_room(mut requests: Vec<BlobRequest>, space: Space, directory: &DirectorySpec) -> Vec<BlobRequest> {
    let mut room = Room::of(space);
    if directory.direction == Direction::Both {
        requests.retain(|request| room.is_ever_enough(space.need(request.size)));
    }
    let needed = requests.iter().map(|request| space.need(request.size)).fold(Need::default(), Need::and);
    if room.take(needed).is_ok() { requests } else { Vec::new() }
}

/// What is to come: every content that Main has at a path where this node has another one, or none, and takes it. In a two-way
/// directory, where Main has what both last had in common, the node's own change goes to Main instead. Where the node's version
/// stays, or waits for a decision, nothing comes.
fn requests(
    published: &Tree,
    own: &Tree,
    base: Option<&Tree>,
    directory: &DirectorySpec,
) -> Vec<BlobRequest> {
    let has = |tree: &Tree, path: &RelPath, digest| matches!(tree.get(path), Some(Entry::File(file)) if file.digest == digest);
    let is_both = directory.direction == Direction::Both;
    let policy = &directory.policy;
    let may_stay = matches!(policy.conflict, ConflictPolicy::Node | ConflictPolicy::Manual);
    let is_nodes_own = |path: &RelPath, own: &Entry| {
        !base.and_then(|base| base.get(path)).is_some_and(|base| base.same_content(own))
    };
    let stays = |path: &RelPath| may_stay && own.get(path).is_some_and(|own| is_nodes_own(path, own));
    let is_left = |path: &RelPath| {
        std::iter::once(path).chain(path.ancestors()).any(|path| own.get(path).is_some_and(Entry::is_opaque))
    };
    let mut seen = HashSet::new();
    let is_taken =
        |(path, entry): &(&RelPath, &Entry)| policy.take.takes(own.get(path), Some(entry)) && !stays(path);
    let files = published.iter().filter(is_taken).filter_map(|(path, entry)| Some((path, entry.as_file()?)));
    files
        .filter(|(path, file)| {
            !has(own, path, file.digest)
                && !base.is_some_and(|base| is_both && has(base, path, file.digest))
                && !is_left(path)
                && seen.insert(file.digest)
        })
        .map(|(path, file)| BlobRequest {
            path: path.to_owned(),
            digest: file.digest,
            size: file.size,
            offset: 0,
        })
        .collect()
}

/// A source that counts, and remembers why it was lost.
struct Counted<'a> {
    source: &'a mut dyn Source,
    stop: &'a AtomicBool,
    bytes: u64,
    failure: Option<StoreError>,
}

impl Source for Counted<'_> {
    fn send(&mut self, requests: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        let mut sink = CountedSink { sink, stop: self.stop, bytes: &mut self.bytes };
        self.source.send(requests, &mut sink).inspect_err(|error| {
            self.failure = error.downcast_ref::<StoreError>().cloned();
        })
    }
}

struct CountedSink<'a> {
    sink: &'a mut dyn Sink,
    stop: &'a AtomicBool,
    bytes: &'a mut u64,
}

impl Sink for CountedSink<'_> {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        self.sink.begin(index)
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        anyhow::ensure!(!self.stop.load(Ordering::Relaxed), "interrupted by a signal");
        self.sink.data(bytes)?;
        *self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.sink.hole(length)
    }

    fn basis(&self, index: usize) -> Option<Arc<Signature>> {
        self.sink.basis(index)
    }

    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        self.sink.copy(from, length)
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.sink.end(result)
    }
}
