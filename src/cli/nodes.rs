//! `xds-sync nodes`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;
use serde::Serialize;

use super::connect::Ssh;
use super::discover::Known;
use super::{Context, discover, exit, load, nodes_edit, nodes_install};
use crate::config::{Config, Node};
use crate::model::escape::{clean, escape_for_people};
use crate::report::NodeState;
use crate::report::exit::{ALL_LOST, IN_STEP, SOME_LOST};
use crate::state::StateDir;
use crate::sync::{Connect, state_of};
use crate::threads::side_by_side;

const EXAMPLES: &str = "\
Examples:
  xds-sync nodes list           who is known, and from where
  xds-sync nodes check          reach each one's agent; 40 when some do not answer, 41 when all
  xds-sync nodes check mds1     only this one
  xds-sync nodes add mds3 10.0.0.13 --label paris
  xds-sync nodes remove mds3
  xds-sync nodes import workers-list.txt
  xds-sync nodes install mds3   brings xds-sync there, over a key that opens a shell";

/// List the nodes, check that they can be reached, add, install and remove them
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every known node
    #[command(after_help = EXAMPLES)]
    List {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Reach the agents of these nodes, or of all; changes nothing on them
    #[command(after_help = EXAMPLES)]
    Check {
        /// Only these
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write a node into `conf.d/nodes.toml`
    #[command(after_help = EXAMPLES)]
    Add {
        /// Its name
        name: String,
        /// What ssh connects to
        address: String,
        /// Gives it a part in directories with this label
        #[arg(long = "label", value_name = "LABEL", num_args = 1..)]
        labels: Vec<String>,
    },
    /// Take a node out of `conf.d/nodes.toml`; its files stay as they are
    #[command(after_help = EXAMPLES)]
    Remove {
        /// Its name
        name: String,
    },
    /// Add the nodes of a workers-list: lines `[user@]host[:path]`; known ones are passed over
    #[command(after_help = EXAMPLES)]
    Import {
        /// The list
        file: PathBuf,
    },
    /// Bring this program to nodes over ssh, and let them join; for nodes whose shell Main's key opens
    ///
    /// So it is on nodes of an existing XDS cluster. Afterwards the key opens the agent there, and no shell.
    #[command(after_help = EXAMPLES)]
    Install {
        /// Which of the known nodes
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

#[derive(Serialize)]
struct Nodes<T> {
    nodes: Vec<T>,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    address: &'a str,
    user: &'a str,
    labels: &'a [String],
    source: &'a str,
    /// When its source named it, if that does not answer now.
    last_good: Option<&'a str>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    match &args.action {
        Action::List { json } => list(context, *json),
        Action::Check { names, json } => check(context, names, *json),
        Action::Add { name, address, labels } => nodes_edit::add(context, name, address, labels),
        Action::Remove { name } => nodes_edit::remove(context, name),
        Action::Import { file } => nodes_edit::import(context, file),
        Action::Install { names } => nodes_install::run(context, names),
    }
}

fn list(context: &Context, json: bool) -> anyhow::Result<u8> {
    let known = discover::nodes(context, load::config(context)?)?;
    known.warn(context);
    let nodes: Vec<Listed<'_>> = known.config.nodes.iter().map(|node| listed(node, &known)).collect();
    let text = if json {
        serde_json::to_string(&Nodes { nodes })? + "\n"
    } else {
        let name = |text: &str| escape_for_people(text.as_bytes());
        table(nodes.iter().map(|node| {
            let source = match node.last_good {
                Some(at) => format!("{}, last answer of {at}", node.source),
                None => node.source.to_owned(),
            };
            [name(node.name), name(node.address), name(node.user), name(&node.labels.join(",")), source]
        }))
    };
    context.ui.result(text.as_bytes())?;
    Ok(known.exit_code(exit::DONE))
}

fn listed<'a>(node: &'a Node, known: &'a Known) -> Listed<'a> {
    let user = node.user.as_deref().unwrap_or(&known.config.ssh.user);
    let found = known.found(&node.name);
    Listed {
        name: &node.name,
        address: &node.address,
        user,
        labels: &node.labels,
        source: found.map_or(CONFIGURED, |found| found.source),
        last_good: found.and_then(|found| found.last_good.as_deref()),
    }
}

/// The source of a node that stands in the configuration.
const CONFIGURED: &str = "config";

#[derive(Serialize)]
struct Checked<'a> {
    name: &'a str,
    address: &'a str,
    state: NodeState,
    error: Option<String>,
}

fn check(context: &Context, names: &[String], json: bool) -> anyhow::Result<u8> {
    let known = discover::nodes(context, load::config(context)?)?;
    known.warn(context);
    let config = &known.config;
    load::check_names("node", names, config.nodes.iter().map(|node| node.name.as_str()))?;
    let asked = |node: &&Node| names.is_empty() || names.contains(&node.name);
    let nodes: Vec<&Node> = config.nodes.iter().filter(asked).collect();
    if nodes.is_empty() && known.is_complete() {
        let place = load::config_path(context);
        bail!("no node is configured or found: add a [[node]] with name and address to {}", place.display());
    }
    let state = StateDir::open(&config.sync.state_dir)?;
    let ssh = Ssh::new(config, &state, load::identity(&state, true)?)?;
    let nodes = reach(config, &nodes, &ssh);

    let code = known.exit_code(exit_code(&nodes));
    let text = if json {
        serde_json::to_string(&Nodes { nodes })? + "\n"
    } else {
        let name = |text: &str| escape_for_people(text.as_bytes());
        table(nodes.iter().map(|node| {
            let result = node.error.as_deref().map_or_else(|| "ok".to_owned(), clean);
            [name(node.name), name(node.address), result]
        }))
    };
    context.ui.result(text.as_bytes())?;
    Ok(code)
}

/// Connects to every node and hangs up again, `sync.parallel` of them at once.
fn reach<'a>(config: &Config, nodes: &[&'a Node], connect: &dyn Connect) -> Vec<Checked<'a>> {
    let reach_one = |node: &&'a Node| {
        let error = connect.connect(node).err();
        let state = error.as_ref().map_or(NodeState::Ok, |error| state_of(error.kind));
        Checked { name: &node.name, address: &node.address, state, error: error.map(|error| error.detail) }
    };
    side_by_side(nodes, config.sync.parallel, reach_one)
}

fn exit_code(nodes: &[Checked<'_>]) -> u8 {
    match nodes.iter().filter(|node| node.error.is_none()).count() {
        reached if reached == nodes.len() => IN_STEP,
        0 => ALL_LOST,
        _ => SOME_LOST,
    }
}

/// Columns as wide as their widest cell, two spaces apart.
fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_whether_some_or_all_are_away() {
        let node = |error: Option<&str>| Checked {
            name: "mds1",
            address: "10.0.0.11",
            state: NodeState::Ok,
            error: error.map(str::to_owned),
        };
        for (nodes, code) in [
            (vec![node(None), node(None)], 0),
            (vec![node(None), node(Some("No route to host"))], 40),
            (vec![node(Some("No route to host"))], 41),
        ] {
            assert_eq!(exit_code(&nodes), code);
        }
    }

    #[test]
    fn a_table_is_aligned() {
        let rows = [["mds1", "10.0.0.11", ""], ["mds-paris", "10.0.0.9", "paris"]];
        let text = table(rows.iter().map(|row| row.map(str::to_owned)));
        assert_eq!(text, "mds1       10.0.0.11\nmds-paris  10.0.0.9   paris\n");
    }
}
