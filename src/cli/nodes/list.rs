//! `xds-sync nodes list`.

use std::io::IsTerminal as _;

use serde::Serialize;

use super::super::{Context, exit, load};
use super::{EXAMPLES, Nodes, table};
use crate::config::{Follower, Node};
use crate::model::escape::escape_for_people;
use crate::model::{Zone, read_rfc3339};
use crate::site::KnownNodes;
use crate::sync::FOLLOWER;

/// The source of a node that stands in the configuration.
const CONFIGURED: &str = "config";

const HEADER: [&str; 5] = ["NAME", "ADDRESS", "USER", "LABELS", "KNOWN FROM"];

/// List every known node
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
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
    let known = load::nodes(context)?;
    let nodes = known.config().nodes.iter().map(|node| listed(node, &known));
    let nodes: Vec<Listed<'_>> = nodes.chain(known.config().followers.iter().map(follower)).collect();
    let zone = context.zone();
    let row = |node: &Listed<'_>| row(node, &zone);
    let text = match args.json {
        true => serde_json::to_string(&Nodes { nodes })? + "\n",
        // A script reads rows alone.
        false if std::io::stdout().is_terminal() => {
            table(std::iter::once(HEADER.map(str::to_owned)).chain(nodes.iter().map(row)))
        }
        false => table(nodes.iter().map(row)),
    };
    context.ui.result(text.as_bytes())?;
    Ok(known.exit_code(exit::DONE))
}

fn listed<'a>(node: &'a Node, known: &'a KnownNodes) -> Listed<'a> {
    let found = known.found(&node.name);
    Listed {
        name: &node.name,
        address: &node.address,
        user: node.user.as_deref().unwrap_or(&known.config().ssh.user),
        labels: &node.labels,
        source: found.map_or(CONFIGURED, |found| found.source),
        last_good: found.and_then(|found| found.last_good.as_deref()),
    }
}

/// Main does not connect to it.
fn follower(node: &Follower) -> Listed<'_> {
    let (name, labels) = (&*node.name, &*node.labels);
    Listed { name, address: FOLLOWER, user: "", labels, source: CONFIGURED, last_good: None }
}

fn row(node: &Listed<'_>, zone: &Zone) -> [String; 5] {
    let tell = |at: &str| read_rfc3339(at).map_or_else(|| at.to_owned(), |time| zone.tell(time));
    let source = match node.last_good {
        Some(at) => format!("{}, last answer of {}", node.source, tell(at)),
        None => node.source.to_owned(),
    };
    let labels = node.labels.join(",");
    let [name, address, user, labels] =
        [node.name, node.address, node.user, &labels].map(|text| escape_for_people(text.as_bytes()));
    [name, address, user, labels, source]
}
