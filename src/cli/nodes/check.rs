//! `xds-sync nodes check`.

use serde::Serialize;

use super::super::{Context, load};
use super::{EXAMPLES, Nodes, table};
use crate::config::Node;
use crate::model::escape::{clean, escape_for_people};
use crate::node::NodeError;
use crate::report::NodeState;
use crate::report::exit::{ALL_LOST, IN_STEP, SOME_LOST};
use crate::site::{Access, Locking, Site};
use crate::sync::state_of;

/// Reach the agents of these nodes, or of all; changes nothing on them
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Checked<'a> {
    name: &'a str,
    address: &'a str,
    state: NodeState,
    error: Option<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let site = Site::open(load::config(context)?, Locking::Unlocked, Access::ReadOnly, load::services())?;
    load::show_discovery(context, site.nodes());
    load::check_nodes(&args.names, site.config())?;
    let is_asked = |node: &&Node| args.names.is_empty() || args.names.contains(&node.name);
    let nodes: Vec<&Node> = site.config().nodes.iter().filter(is_asked).collect();
    load::check_any_node(context, site.nodes())?;
    site.own_troubles(nodes.iter().copied()).iter().for_each(|trouble| context.ui.error(trouble));
    let results = site.check(&nodes);
    let nodes: Vec<Checked<'_>> =
        nodes.iter().zip(results).map(|(node, result)| checked(node, result)).collect();

    let code = site.nodes().exit_code(exit_code(&nodes));
    let text = match args.json {
        true => serde_json::to_string(&Nodes { nodes })? + "\n",
        false => table(nodes.iter().map(row)),
    };
    context.ui.result(text.as_bytes())?;
    Ok(code)
}

fn checked(node: &Node, result: Result<(), NodeError>) -> Checked<'_> {
    let error = result.err();
    Checked {
        name: &node.name,
        address: &node.address,
        state: error.as_ref().map_or(NodeState::Ok, |error| state_of(error.kind)),
        error: error.map(|error| error.detail),
    }
}

fn row(node: &Checked<'_>) -> [String; 3] {
    let [name, address] = [node.name, node.address].map(|text| escape_for_people(text.as_bytes()));
    [name, address, node.error.as_deref().map_or_else(|| "ok".to_owned(), clean)]
}

fn exit_code(nodes: &[Checked<'_>]) -> u8 {
    match nodes.iter().filter(|node| node.error.is_none()).count() {
        reached if reached == nodes.len() => IN_STEP,
        0 => ALL_LOST,
        _ => SOME_LOST,
    }
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
}
