//! What must never be, and how all must be once nothing is left to do.

use std::collections::BTreeSet;
use std::fs;

use xds_sync::model::NodeChange;
use xds_sync::report::Report;
use xds_sync::state::StateDir;

use super::disk::{self, Listing, Thing};
use super::history::{DIRECTORIES, History, Listings};
use super::script::{BOTH, PUSH, Setup};
use super::world::{World, names_and_contents};

impl History {
    /// Nodes and Main that do not agree on a base merge without one.
    pub(super) fn check_bases(&mut self) {
        let state = StateDir::open(&self.world.state_dir(0)).unwrap();
        for node in 1..=self.world.nodes {
            for dir in self.world.setup.directories().iter().copied() {
                let marker = fs::read_to_string(self.world.root(node, dir).join(".xds-sync/root.json"));
                let generation = marker.ok().and_then(|text| {
                    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
                    Some(value.get("generation")?.as_str()?.to_owned())
                });
                let name = format!("node{node}");
                let edges = [state.edge(DIRECTORIES[dir], &name), state.next_edge(DIRECTORIES[dir], &name)];
                let known = edges.into_iter().filter_map(Result::ok).flatten().map(|edge| edge.generation);
                if !known.collect::<Vec<_>>().contains(&generation) {
                    self.merged = true;
                    self.buried.retain(|(of, ..)| *of != dir);
                }
            }
        }
    }

    /// On every host, what stood there stands there still, or lies in that host's trash.
    pub(super) fn check_nothing_lost(
        &self,
        before: &Listings,
        after: &Listings,
        by_hand: &BTreeSet<u32>,
    ) -> Result<(), String> {
        for ((host, dir), was) in before {
            let mut left = numbers(&after[&(*host, *dir)]);
            let gone = |left: &BTreeSet<u32>| {
                numbers(was).into_iter().find(|number| !left.contains(number) && !by_hand.contains(number))
            };
            if gone(&left).is_some() {
                left.extend(disk::trash(&self.world.root(*host, *dir)));
            }
            if let Some(number) = gone(&left) {
                let path = was.iter().find(|(_, seen)| seen.thing == Thing::File(number)).unwrap().0;
                return Err(format!(
                    "host {host} lost content {number} of {}/{path}: it is in neither tree nor trash",
                    DIRECTORIES[*dir]
                ));
            }
        }
        Ok(())
    }

    /// No run deletes more of a host's files than `max_delete` lets go unasked.
    pub(super) fn check_guard(&self, before: &Listings, after: &Listings) -> Result<(), String> {
        for ((host, dir), was) in before {
            let now = &after[&(*host, *dir)];
            let still = numbers(now);
            let is_deleted = |(path, seen): &(&String, &disk::Seen)| match seen.thing {
                Thing::File(number) => !now.contains_key(*path) && !still.contains(&number),
                _ => false,
            };
            let deleted = was.iter().filter(is_deleted).count();
            let files = was.values().filter(|seen| matches!(seen.thing, Thing::File(_))).count();
            let too_many = match self.world.setup.max_delete {
                "3" => deleted > 3,
                _ => deleted > 10 && deleted * 2 > files,
            };
            if too_many {
                return Err(format!(
                    "{deleted} of {files} files of {} went on host {host}",
                    DIRECTORIES[*dir]
                ));
            }
        }
        Ok(())
    }

    pub(super) fn check_in_step(&mut self, report: &Report) -> Result<(), String> {
        // Files that cannot be carried because something that must stay is in their way.
        let in_the_way: BTreeSet<(usize, String)> = report
            .problems
            .iter()
            .filter(|problem| problem.fails)
            .map(|problem| {
                let dir = usize::from(problem.directory.as_deref() == Some("rec"));
                let path = problem.path.as_ref().map(|path| path.escaped()).unwrap_or_default();
                match problem.detail.contains("must stay") {
                    true => Ok((dir, path)),
                    false => Err(format!("a problem remains: {problem:?}")),
                }
            })
            .collect::<Result<_, String>>()?;
        if in_the_way.is_empty() && report.exit_code() != 0 {
            return Err(format!("nothing is left to do, and the exit code is {}", report.exit_code()));
        }
        let all = self.world.list_all();
        // Links that lead out are no one's to carry, and nothing is done where they stand.
        let stuck: BTreeSet<(usize, &String)> = all
            .iter()
            .flat_map(|((_, dir), listing)| listing.iter().map(move |(path, seen)| (*dir, path, seen)))
            .filter(|(_, path, seen)| !disk::is_carried(path, seen))
            .map(|(dir, path, _)| (dir, path))
            .collect();
        let related =
            |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/")) || b.starts_with(&format!("{a}/"));
        let free = |dir: usize, path: &str| {
            if stuck.iter().any(|(of, link)| *of == dir && related(link, path)) {
                return false;
            }
            let blocked = in_the_way.iter().any(|(of, above)| {
                *of == dir
                    && (path == above
                        || path.starts_with(&format!("{above}/"))
                        || above.starts_with(&format!("{path}/")))
            });
            !blocked && !self.world.setup.is_excluded(path)
        };
        self.check_pushed(&all, &free)?;
        self.check_both(&all, &free)?;
        self.check_buried(&all)?;
        self.check_loaded(&all)?;
        self.check_stages()?;
        let standing: BTreeSet<(usize, String, u32)> = all
            .iter()
            .flat_map(|((_, dir), listing)| {
                listing.iter().filter_map(move |(path, seen)| match seen.thing {
                    Thing::File(number) => Some((*dir, path.clone(), number)),
                    _ => None,
                })
            })
            .collect();
        self.buried = self.ever.difference(&standing).cloned().collect();
        if self.merged {
            // What a node without a base kept is its own from now on.
            for ((host, _), listing) in all.iter().filter(|((_, dir), _)| *dir == PUSH) {
                self.own.extend(listing.keys().map(|path| (*host, PUSH, path.clone())));
            }
        }
        self.changed.clear();
        self.merged = false;
        Ok(())
    }

    pub(super) fn check_pushed(
        &self,
        all: &Listings,
        free: &dyn Fn(usize, &str) -> bool,
    ) -> Result<(), String> {
        let main = &all[&(0, PUSH)];
        for node in 1..=self.world.nodes {
            let has = &all[&(node, PUSH)];
            for (path, seen) in main.iter().filter(|(path, _)| free(PUSH, path)) {
                // An excluded child of the node keeps what Main has no directory for.
                if has.get(path) != Some(seen) {
                    return Err(format!("{path} is {:?} on node {node}, on Main {seen:?}", has.get(path)));
                }
            }
            for (path, seen) in has.iter().filter(|(path, _)| !main.contains_key(*path) && free(PUSH, path)) {
                let known = self.own.contains(&(node, PUSH, path.clone()));
                let keeps = self.world.setup.push_delete == "keep";
                let file = matches!(seen.thing, Thing::File(_));
                if file && !known && !keeps && !self.merged && self.buried_or_old(path, seen) {
                    return Err(format!("{path} was deleted on Main and is still on node {node}: {seen:?}"));
                }
            }
        }
        Ok(())
    }

    /// Whether a file was in the cluster before and should have gone.
    fn buried_or_old(&self, path: &str, seen: &disk::Seen) -> bool {
        // While a node had no base, it may have kept it; then it is the node's own from then on.
        match seen.thing {
            Thing::File(number) => self.ever.contains(&(PUSH, path.to_owned(), number)),
            _ => false,
        }
    }

    pub(super) fn check_both(
        &self,
        all: &Listings,
        free: &dyn Fn(usize, &str) -> bool,
    ) -> Result<(), String> {
        let Some(main) = all.get(&(0, BOTH)) else { return Ok(()) };
        // Excluded anywhere, left alone everywhere, with what is below.
        for node in 1..=self.world.nodes {
            let has = &all[&(node, BOTH)];
            for path in main.keys().chain(has.keys()).filter(|path| free(BOTH, path)) {
                let (on_main, on_node) = (main.get(path), has.get(path));
                let is_dir = |seen: Option<&disk::Seen>| seen.is_none_or(|seen| seen.thing == Thing::Dir);
                let keeps_excluded = |listing: &Listing| {
                    listing.keys().any(|below| {
                        below.starts_with(&format!("{path}/")) && self.world.setup.is_excluded(below)
                    })
                };
                if is_dir(on_main)
                    && is_dir(on_node)
                    && all.iter().any(|((_, dir), listing)| *dir == BOTH && keeps_excluded(listing))
                {
                    continue;
                }
                if on_main != on_node {
                    return Err(format!(
                        "{path} of rec is {on_main:?} on Main and {on_node:?} on node {node}"
                    ));
                }
            }
        }
        self.check_last_change(all, free)
    }

    /// What one host alone changed since all were in step has reached everybody.
    pub(super) fn check_last_change(
        &self,
        all: &Listings,
        free: &dyn Fn(usize, &str) -> bool,
    ) -> Result<(), String> {
        let related = |a: &str, b: &str| a.starts_with(&format!("{b}/")) || b.starts_with(&format!("{a}/"));
        for ((dir, path), by) in
            self.changed.iter().filter(|((dir, path), _)| *dir == BOTH && free(*dir, path))
        {
            let mixed = self.changed.keys().any(|(of, other)| of == dir && related(other, path));
            let stands_beside = all.iter().any(|((_, of), listing)| {
                of == dir && listing.keys().any(|other| related(other, path) && other.starts_with(&**path))
            });
            if self.merged || mixed || stands_beside || by.len() != 1 {
                continue;
            }
            let (host, last) = by.iter().next().unwrap();
            match last {
                // Lives as long as any child.
                Some(Thing::Dir) => {}
                Some(thing) => {
                    for ((on, _), listing) in all.iter().filter(|((_, of), _)| of == dir) {
                        let now = listing.get(path).map(|seen| &seen.thing);
                        if now != Some(thing) {
                            return Err(format!(
                                "host {host} made {path} of rec {thing:?}, and on host {on} it is {now:?}"
                            ));
                        }
                    }
                }
                None => {
                    let propagates = self.world.setup.both_delete == "propagate";
                    let stays = all.iter().any(|((_, of), listing)| of == dir && listing.contains_key(path));
                    if propagates && stays {
                        return Err(format!(
                            "host {host} deleted {path} of rec, and it still stands somewhere"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_buried(&self, all: &Listings) -> Result<(), String> {
        for ((host, dir), listing) in all {
            for (path, seen) in listing {
                if let Thing::File(number) = seen.thing
                    && self.buried.contains(&(*dir, path.clone(), number))
                {
                    return Err(format!(
                        "content {number} of {}/{path} had gone everywhere, and stands on host {host} again",
                        DIRECTORIES[*dir]
                    ));
                }
            }
        }
        Ok(())
    }

    /// What Asterisk has loaded on each node is what stands there.
    pub(super) fn check_loaded(&self, all: &Listings) -> Result<(), String> {
        let loaded = self.world.loaded.lock().unwrap();
        for node in 1..=self.world.nodes {
            let now = names_and_contents(&self.world.setup, &all[&(node, PUSH)]);
            if loaded.get(&node) != Some(&now) {
                return Err(format!(
                    "node {node} has not loaded what it has: {:?} and {now:?}",
                    loaded.get(&node)
                ));
            }
        }
        Ok(())
    }

    pub(super) fn check_stages(&self) -> Result<(), String> {
        if self.troubled {
            return Ok(());
        }
        for host in 0..=self.world.nodes {
            for dir in self.world.setup.directories().iter().copied() {
                let left = disk::stage(&self.world.root(host, dir));
                if !left.is_empty() {
                    return Err(format!("in the stage of {} on host {host}: {left:?}", DIRECTORIES[dir]));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn numbers(listing: &Listing) -> BTreeSet<u32> {
    listing
        .values()
        .filter_map(|seen| if let Thing::File(number) = seen.thing { Some(number) } else { None })
        .collect()
}

pub(super) fn check_contents(all: &Listings) -> Result<(), String> {
    for ((host, dir), listing) in all {
        for (path, seen) in listing {
            if let Thing::Torn(what) = &seen.thing {
                return Err(format!("{}/{path} is torn on host {host}: {what}", DIRECTORIES[*dir]));
            }
        }
    }
    Ok(())
}

pub(super) fn check_excluded(
    setup: &Setup,
    before: &Listings,
    after: &Listings,
    touched: &BTreeSet<(usize, usize)>,
) -> Result<(), String> {
    for (place, was) in before.iter().filter(|(place, _)| !touched.contains(place)) {
        let of = |listing: &Listing| -> Listing {
            listing
                .iter()
                .filter(|(path, _)| setup.is_excluded(path))
                .map(|(path, seen)| (path.clone(), seen.clone()))
                .collect()
        };
        let (was, now) = (of(was), of(&after[place]));
        if was != now {
            return Err(format!("excluded files of host {} changed from {was:?} to {now:?}", place.0));
        }
    }
    Ok(())
}

/// Everything on every host, what is ours included.
pub(super) fn everything(world: &World) -> Listing {
    let mut all = Listing::new();
    for host in 0..=world.nodes {
        for dir in [PUSH, BOTH] {
            let root = world.root(host, dir);
            for (path, seen) in
                disk::list(&root, None).into_iter().chain(disk::list(&root.join(".xds-sync"), None))
            {
                all.insert(format!("{host} {dir} {path}"), seen);
            }
        }
    }
    all
}

pub(super) fn lines(report: &Report) -> String {
    // A dry run has put nothing into the trash, and so has no ids.
    let changes =
        report.changes.iter().map(|change| format!("{:?}", NodeChange { id: None, ..change.clone() }));
    let halted = report.halted.iter().map(|halted| format!("{halted:?}"));
    let problems = report.problems.iter().map(|problem| format!("{problem:?}"));
    changes.chain(halted).chain(problems).collect::<Vec<_>>().join("\n  ")
}
