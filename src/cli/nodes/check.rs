//! `xds-sync nodes check`.

use serde::Serialize;

use super::super::named::seconds;
use super::super::{Context, candidates, load};
use super::{EXAMPLES, Nodes, table};
use crate::config::Node;
use crate::enroll::rotate;
use crate::model::escape::{clean, escape_for_people};
use crate::model::{Zone, read_rfc3339};
use crate::node::{Attempt, NodeError, RootDescription};
use crate::report::exit::{ALL_LOST, IN_STEP, SOME_LOST};
use crate::report::text::Verbosity;
use crate::report::{NodeState, words};
use crate::site::{Access, Locking, NodeCheck, Site};
use crate::sync::state_of;
use crate::version;

/// Reach the agents of these nodes, or of all, and show their versions, clocks, room and trash; changes nothing
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only these
    #[arg(value_name = "NAME", add = candidates::nodes())]
    names: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A clock that is further off than this is told: conflicts may be decided by it, and logs of two hosts do not fit.
const CLOCK_OFF_MS: u64 = 2_000;

#[derive(Serialize)]
struct Checked<'a> {
    name: &'a str,
    address: &'a str,
    state: NodeState,
    error: Option<String>,
    version: Option<String>,
    read_only: Option<bool>,
    /// By how much its clock is ahead of Main's.
    clock_ahead_ms: Option<i64>,
    directories: Vec<CheckedDirectory>,
}

#[derive(Serialize)]
struct CheckedDirectory {
    name: String,
    /// Bytes that are free on its disk; null where there is no directory yet.
    free: Option<u64>,
    trash_bytes: u64,
    trash_files: u64,
    trash_oldest: Option<String>,
    /// Why the node does not let Main have it.
    error: Option<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let site = Site::open(load::config(context)?, Locking::Unlocked, Access::ReadOnly, load::services())?;
    load::show_discovery(context, site.nodes());
    load::check_nodes_and_followers(&args.names, site.config())?;
    let asked = |name: &String| args.names.is_empty() || args.names.contains(name);
    for follower in site.config().followers.iter().filter(|follower| asked(&follower.name)) {
        let name = escape_for_people(follower.name.as_bytes());
        context.ui.message(&format!(
            "{name} follows the store, and Main never connects to it: `xds-sync status` shows what it has told of itself"
        ));
    }
    let is_asked = |node: &&Node| args.names.is_empty() || args.names.contains(&node.name);
    let nodes: Vec<&Node> = site.config().nodes.iter().filter(is_asked).collect();
    load::check_any_node(context, site.nodes())?;
    site.own_troubles(nodes.iter().copied()).iter().for_each(|trouble| context.ui.error(trouble));
    site.unfinished_rotation().iter().for_each(|unfinished| context.ui.message(unfinished));
    let results = site.check(&nodes);
    let nodes: Vec<Checked<'_>> =
        nodes.iter().zip(results).map(|(node, result)| checked(node, result)).collect();

    let code = site.nodes().exit_code(exit_code(&nodes));
    let text = match args.json {
        true => serde_json::to_string(&Nodes { nodes })? + "\n",
        false => text(&nodes, context.ui.verbosity(), &context.zone()),
    };
    context.ui.result(text.as_bytes())?;
    if rotate::previous(&site.config().ssh.identity).exists() {
        context.ui.message(rotate::UNFINISHED);
    }
    Ok(code)
}

fn checked(node: &Node, result: Result<NodeCheck, NodeError>) -> Checked<'_> {
    let mut checked = Checked {
        name: &node.name,
        address: &node.address,
        state: NodeState::Ok,
        error: None,
        version: None,
        read_only: None,
        clock_ahead_ms: None,
        directories: Vec::new(),
    };
    match result {
        Ok(found) => {
            checked.version = Some(found.version);
            checked.read_only = Some(found.read_only);
            checked.clock_ahead_ms = Some(found.ahead_ms);
            checked.directories = found.roots.into_iter().map(directory).collect();
            if checked.directories.iter().any(|directory| directory.error.is_some()) {
                checked.state = NodeState::Partial;
            }
        }
        Err(error) => {
            checked.state = state_of(error.kind);
            checked.error = Some(error.detail);
        }
    }
    checked
}

fn directory((name, root): (String, Attempt<RootDescription>)) -> CheckedDirectory {
    let (root, error) = match root {
        Ok(root) => (Some(root), None),
        Err(refusal) => (None, Some(String::from(refusal))),
    };
    let free = root.as_ref().filter(|root| root.trash.is_some()).map(|root| root.space.bytes());
    let trash = root.and_then(|root| root.trash).unwrap_or_default();
    let milliseconds = |ms: u64| i64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000);
    CheckedDirectory {
        name,
        free,
        trash_bytes: trash.bytes,
        trash_files: trash.files,
        trash_oldest: trash.oldest_ms.map(|oldest| seconds(milliseconds(oldest))),
        error,
    }
}

fn text(nodes: &[Checked<'_>], verbosity: Verbosity, zone: &Zone) -> String {
    let mut text = String::new();
    // Of one node the lines stand together.
    for (line, node) in table(nodes.iter().map(row)).lines().zip(nodes) {
        if verbosity == Verbosity::Quiet && node.state == NodeState::Ok {
            continue;
        }
        text += &format!("{line}\n");
        for directory in &node.directories {
            text.extend(directory_line(directory, verbosity, zone).map(|line| format!("      {line}\n")));
        }
    }
    text
}

fn row(node: &Checked<'_>) -> [String; 3] {
    let [name, address] = [node.name, node.address].map(|text| escape_for_people(text.as_bytes()));
    let Some(version) = &node.version else {
        return [name, address, node.error.as_deref().map_or_else(|| "ok".to_owned(), clean)];
    };
    let state = if node.state == NodeState::Ok { "ok" } else { "refuses a directory" };
    let mut parts = vec![format!("{state}, {}", clean(version))];
    if *version != version::package() {
        parts.push(format!("Main has {}", version::package()));
    }
    parts.extend(node.clock_ahead_ms.and_then(clock));
    if node.read_only == Some(true) {
        parts.push("read-only".to_owned());
    }
    let free = node.directories.iter().filter_map(|directory| directory.free).min();
    parts.extend(free.map(|free| format!("{} free", words::bytes(free))));
    let trash: u64 = node.directories.iter().map(|directory| directory.trash_bytes).sum();
    parts.push(format!("trash {}", words::bytes(trash)));
    [name, address, parts.join(", ")]
}

/// `its clock is 3m 20s ahead`, if that is worth a word.
fn clock(ahead_ms: i64) -> Option<String> {
    let off = ahead_ms.unsigned_abs();
    let way = if ahead_ms > 0 { "ahead" } else { "behind" };
    (off > CLOCK_OFF_MS)
        .then(|| format!("its clock is {} {way}", words::duration(std::time::Duration::from_millis(off))))
}

fn directory_line(directory: &CheckedDirectory, verbosity: Verbosity, zone: &Zone) -> Option<String> {
    let name = escape_for_people(directory.name.as_bytes());
    if let Some(error) = &directory.error {
        return Some(format!("{name}: {}", clean(error)));
    }
    if verbosity < Verbosity::Verbose {
        return None;
    }
    let Some(free) = directory.free else { return Some(format!("{name}: not there yet")) };
    let oldest = directory.trash_oldest.as_deref().and_then(read_rfc3339);
    let oldest = oldest.map(|oldest| format!(", the oldest of {}", zone.tell(oldest)));
    Some(format!(
        "{name}: {} free, {} files ({}) in the trash{}",
        words::bytes(free),
        directory.trash_files,
        words::bytes(directory.trash_bytes),
        oldest.unwrap_or_default()
    ))
}

fn exit_code(nodes: &[Checked<'_>]) -> u8 {
    match nodes.iter().filter(|node| node.state == NodeState::Ok).count() {
        reached if reached == nodes.len() => IN_STEP,
        0 => ALL_LOST,
        _ => SOME_LOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Space;
    use crate::node::{NodeErrorKind, Refusal};
    use crate::transfer::trash::TrashSize;

    fn node() -> Node {
        Node {
            name: "mds1".to_owned(),
            address: "10.0.0.11".to_owned(),
            labels: Vec::new(),
            paths: std::collections::BTreeMap::new(),
            user: None,
            port: None,
            identity: None,
        }
    }

    fn found() -> NodeCheck {
        let space = Space { block: 1 << 20, blocks: 9000, free_blocks: 300, inodes: 0, free_inodes: 0 };
        let trash = TrashSize { files: 3, bytes: 744 << 20, oldest_ms: Some(1_767_323_045_000) };
        NodeCheck {
            version: version::package(),
            read_only: false,
            ahead_ms: -1_500,
            roots: vec![("moh".to_owned(), Ok(RootDescription { space, trash: Some(trash) }))],
        }
    }

    fn utc() -> Zone {
        Zone::of(jiff::tz::TimeZone::UTC)
    }

    fn away() -> NodeError {
        NodeError::new(NodeErrorKind::Unreachable, "No route to host")
    }

    #[test]
    fn the_exit_code_tells_whether_some_or_all_are_away() {
        let node = node();
        let refused =
            || NodeCheck { roots: vec![("moh".to_owned(), Err(Refusal::new("not accepted")))], ..found() };
        for (results, code) in [
            (vec![Ok(found()), Ok(found())], 0),
            (vec![Ok(found()), Err(away())], 40),
            (vec![Ok(found()), Ok(refused())], 40),
            (vec![Err(away())], 41),
        ] {
            let nodes: Vec<_> = results.into_iter().map(|result| checked(&node, result)).collect();
            assert_eq!(exit_code(&nodes), code);
        }
    }

    #[test]
    fn a_node_tells_what_it_runs_and_how_much_room_it_has() {
        let node = node();
        let odd = NodeCheck {
            version: "9.9.9".to_owned(),
            read_only: true,
            ahead_ms: 200_000,
            roots: vec![
                ("moh".to_owned(), Err(Refusal::new("the node does not accept /srv/moh"))),
                ("sounds".to_owned(), Ok(RootDescription { space: Space::UNKNOWN, trash: None })),
            ],
        };
        let nodes = [Ok(found()), Ok(odd), Err(away())].map(|result| checked(&node, result));
        insta::assert_snapshot!(text(&nodes, Verbosity::Normal, &utc()), @r"
        mds1  10.0.0.11  ok, 0.1.0, 300.0 MiB free, trash 744.0 MiB
        mds1  10.0.0.11  refuses a directory, 9.9.9, Main has 0.1.0, its clock is 3m 20s ahead, read-only, trash 0 B
              moh: the node does not accept /srv/moh
        mds1  10.0.0.11  No route to host
        ");
        insta::assert_snapshot!(text(&nodes, Verbosity::Verbose, &utc()), @r"
        mds1  10.0.0.11  ok, 0.1.0, 300.0 MiB free, trash 744.0 MiB
              moh: 300.0 MiB free, 3 files (744.0 MiB) in the trash, the oldest of 2026-01-02 03:04:05
        mds1  10.0.0.11  refuses a directory, 9.9.9, Main has 0.1.0, its clock is 3m 20s ahead, read-only, trash 0 B
              moh: the node does not accept /srv/moh
              sounds: not there yet
        mds1  10.0.0.11  No route to host
        ");
        assert_eq!(text(&nodes[..1], Verbosity::Quiet, &utc()), "");
    }
}
