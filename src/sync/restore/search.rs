//! Asks every host what it has of a path.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::thread;

use anyhow::bail;

use super::choose::{self, NotFound, Selection};
use super::standing::{Standing, standing};
use super::version::{Place, Version};
use crate::model::{MAIN, Meta, RelPath, RelPathBuf, Tree};
use crate::node::{Endpoint, NodeError, NodeSession, TrashReader};
use crate::snapshot::{Root, Rules, ScanSpec};
use crate::sync::permits::Permits;
use crate::sync::spec::{DirectorySpec, Spec};
use crate::sync::throttle::Throttle;
use crate::sync::{Environment, lock};
use crate::transfer::trash::TrashEntry;

/// The hosts that were searched, and what they have.
pub struct Search<'a> {
    pub(super) environment: &'a Environment<'a>,
    spec: &'a Spec,
    pub(super) directory: &'a DirectorySpec,
    /// The id of this restoration, which is made as a run's.
    pub(super) run: String,
    /// Main's root, as it was scanned.
    pub(super) main_root: Root,
    main_tree: Arc<Tree>,
    /// Connected nodes.
    pub(super) nodes: BTreeMap<String, Box<dyn NodeSession>>,
    versions: Vec<Version>,
    /// Directories on the nodes, as those that are missing on Main come back.
    pub(super) dirs: BTreeMap<RelPathBuf, Meta>,
    /// What stands on each host.
    trees: BTreeMap<String, Arc<Tree>>,
    /// Hosts on which it is being written.
    busy: Vec<String>,
    unreachable: Vec<(String, NodeError)>,
    unreadable: Vec<(String, String)>,
    pub(super) throttle: Throttle,
}

impl fmt::Debug for Search<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("versions", &self.versions).finish_non_exhaustive()
    }
}

/// Searches Main's trash, and all nodes that have `directory` with their trash, or `host` alone, for versions of `path` and
/// of what was below it. `directory` is one of `spec`, which has every directory and every node.
///
/// `Err`: Main's own disk cannot be read, or the path does not belong to the directory. A node that cannot be reached
/// is in the result.
pub fn search<'a>(
    environment: &'a Environment<'a>,
    spec: &'a Spec,
    directory: &'a DirectorySpec,
    path: &RelPath,
    host: Option<&str>,
) -> anyhow::Result<Search<'a>> {
    check_path(spec, directory, path)?;
    let mut search = Search {
        environment,
        spec,
        directory,
        run: (environment.new_id)(),
        main_root: Root::Missing,
        main_tree: Arc::default(),
        nodes: BTreeMap::new(),
        versions: Vec::new(),
        dirs: BTreeMap::new(),
        trees: BTreeMap::new(),
        busy: Vec::new(),
        unreachable: Vec::new(),
        unreadable: Vec::new(),
        throttle: Throttle::new(spec.bandwidth),
    };
    let is_meant = |name: &str| host.is_none_or(|host| host == name);
    // Nothing of what a follower has can be had from here.
    let nodes = spec.nodes.iter().filter(|node| is_meant(&node.name) && !node.is_follower);
    let edges = nodes.filter_map(|node| {
        let edge = node.edges.iter().find(|edge| edge.directory.name == directory.name)?;
        Some((&node.name, &edge.scan))
    });
    let permits = Permits::new(spec.parallel);
    let run = search.run.clone();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (node, scan) in edges {
            let (permits, run) = (&permits, &run);
            let thread = scope.spawn(move || {
                let _permit = permits.take();
                search_node(environment, node, scan, run, path)
            });
            threads.push((node, thread));
        }
        lock(&environment.main).begin(&run, false)?;
        let (main_root, found) = list_versions(&mut **lock(&environment.main), &directory.scan, path)?;
        search.main_root = main_root;
        search.main_tree = lock(&environment.main).tree(&directory.name, None)?;
        search.trees.insert(MAIN.to_owned(), Arc::clone(&search.main_tree));
        if is_meant(MAIN) {
            search.add(MAIN, found);
        }
        let mut all = Vec::new();
        for (node, thread) in threads {
            match thread.join() {
                Ok(Ok(found)) => all.push((node, found)),
                Ok(Err(error)) => search.unreachable.push((node.clone(), error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        let bases: Vec<Arc<Tree>> = all.iter().filter_map(|(_, found)| found.base.clone()).collect();
        let bases: Vec<&Tree> = bases.iter().map(|base| &**base).collect();
        for (node, found) in all {
            search.add(node, found.trash);
            let main = Arc::clone(&search.main_tree);
            search.add_standing(node, standing(node, &found.tree, &bases, &main, path));
            search.trees.insert(node.clone(), found.tree);
            search.nodes.insert(node.clone(), found.session);
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(search)
}

/// Refuses what the rules exclude, and what belongs to another directory.
fn check_path(spec: &Spec, directory: &DirectorySpec, path: &RelPath) -> anyhow::Result<()> {
    let name = &directory.name;
    let rules = Rules::new(&directory.scan.exclude, Vec::new()).map_err(anyhow::Error::msg)?;
    if rules.keeps_out(path) {
        bail!("{} is excluded from {name}", path.for_people());
    }
    let root = &directory.scan.root;
    let at = root.join(OsStr::from_bytes(path.as_bytes()));
    let inner = spec.directories.iter().find(|other| {
        other.name != *name && other.scan.root.starts_with(root) && at.starts_with(&other.scan.root)
    });
    if let Some(inner) = inner {
        bail!("{} belongs to the directory {}, not to {name}", path.for_people(), inner.name);
    }
    Ok(())
}

/// The versions on a host, or why its trash cannot be read.
type Listing = Result<Vec<TrashEntry>, String>;

/// What a node has.
struct Searched {
    session: Box<dyn NodeSession>,
    trash: Listing,
    tree: Arc<Tree>,
    /// What it and Main last agreed on.
    base: Option<Arc<Tree>>,
}

fn search_node(
    environment: &Environment<'_>,
    node: &str,
    scan: &ScanSpec,
    run: &str,
    path: &RelPath,
) -> Result<Searched, NodeError> {
    let mut session = environment.connect.connect(node)?;
    // Nodes are only searched: as in a dry run, they refuse to be changed.
    session.begin(run, true)?;
    let (root, trash) = list_versions(session.as_mut(), scan, path)?;
    // Without what was agreed on all that stands there counts as the node's own.
    let record = environment.state.edge(&scan.directory, node).ok().flatten();
    let base = record.filter(|record| record.agreed).and_then(|record| record.base().ok()).map(Arc::new);
    let tree = match root {
        Root::Marked(_) | Root::Unmarked => session.tree(&scan.directory, base.as_ref())?,
        Root::Missing | Root::Unusable(_) => Arc::default(),
    };
    Ok(Searched { session, trash, tree, base })
}

fn list_versions<E: Endpoint + TrashReader + ?Sized>(
    endpoint: &mut E,
    scan: &ScanSpec,
    path: &RelPath,
) -> Result<(Root, Listing), NodeError> {
    let root = endpoint.scan(scan)?.root;
    let found = match &root {
        Root::Missing => Ok(Vec::new()),
        Root::Unusable(why) => Err(why.clone()),
        Root::Marked(_) | Root::Unmarked => endpoint.versions(&scan.directory, path)?.map_err(String::from),
    };
    Ok((root, found))
}

impl Search<'_> {
    fn add(&mut self, host: &str, found: Listing) {
        match found {
            Ok(entries) => self.versions.extend(entries.into_iter().map(|entry| Version {
                host: host.to_owned(),
                path: entry.place.path,
                kind: entry.kind,
                size: entry.size,
                mtime: entry.mtime,
                place: Place::Trash(entry.place.id),
            })),
            Err(why) => self.unreadable.push((host.to_owned(), why)),
        }
    }

    fn add_standing(&mut self, host: &str, found: Standing) {
        self.versions.extend(found.versions);
        if found.is_busy {
            self.busy.push(host.to_owned());
        }
        for (dir, meta) in found.dirs {
            self.dirs.entry(dir).or_insert(meta);
        }
    }

    /// All that was found, the newest first: what stands on nodes, then what a later run put into a trash, and within a run
    /// what was modified later.
    #[must_use]
    pub fn versions(&self) -> Vec<&Version> {
        let mut versions: Vec<&Version> = self.versions.iter().collect();
        versions.sort_by_key(|version| std::cmp::Reverse(self.age(version)));
        versions
    }

    /// What stands at `path` on a host that was searched, whether Main has the same or not; `None`: no file.
    #[must_use]
    pub fn standing_on(&self, host: &str, path: &RelPath) -> Option<Version> {
        let found = standing(host, self.trees.get(host)?, &[], &Tree::default(), path);
        found.versions.into_iter().find(|version| *version.path == *path)
    }

    /// Nodes that could not be reached, and why.
    #[must_use]
    pub fn unreachable(&self) -> &[(String, NodeError)] {
        &self.unreachable
    }

    /// How many nodes were searched.
    #[must_use]
    pub fn searched_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes on which it is being written, so that it cannot be had from there now.
    #[must_use]
    pub fn busy(&self) -> &[String] {
        &self.busy
    }

    /// Hosts whose trash could not be read, and why.
    #[must_use]
    pub fn unreadable(&self) -> &[(String, String)] {
        &self.unreadable
    }

    /// What `selection` means: a version of `path`, or one of each path below it.
    pub fn choose(&self, path: &RelPath, selection: &Selection) -> Result<Vec<&Version>, NotFound> {
        choose::choose(&self.versions(), path, selection)
    }

    fn age<'v>(&self, version: &'v Version) -> choose::Age<'v> {
        let configured = self.spec.nodes.iter().position(|node| node.name == version.host);
        // Main comes before the first node.
        choose::Age::of(version, configured.map_or(0, |at| at + 1))
    }

    /// The id of this restoration, which is made as a run's.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }
}
