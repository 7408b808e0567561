//! `xds-sync nodes`.

use clap::Subcommand;
use serde::Serialize;

use super::{Context, exit, load};
use crate::config::Node;
use crate::model::escape::escape_for_people;

const EXAMPLES: &str = "\
Examples:
  xds-sync nodes list           who is known, and from where
  xds-sync nodes check          reach each one's agent; 40 when some do not answer, 41 when all
  xds-sync nodes check mds1     only this one";

/// List the nodes, or check that they can be reached
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
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    match &args.action {
        Action::List { json } => list(context, *json),
    }
}

fn list(context: &Context, json: bool) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    let nodes: Vec<Listed<'_>> = config.nodes.iter().map(|node| listed(node, &config.ssh.user)).collect();
    let text = if json {
        serde_json::to_string(&Nodes { nodes })? + "\n"
    } else {
        let name = |text: &str| escape_for_people(text.as_bytes());
        table(nodes.iter().map(|node| {
            [
                name(node.name),
                name(node.address),
                name(node.user),
                name(&node.labels.join(",")),
                name(node.source),
            ]
        }))
    };
    context.ui.result(text.as_bytes())?;
    Ok(exit::DONE)
}

fn listed<'a>(node: &'a Node, user: &'a str) -> Listed<'a> {
    let user = node.user.as_deref().unwrap_or(user);
    Listed { name: &node.name, address: &node.address, user, labels: &node.labels, source: CONFIGURED }
}

/// The source of a node that stands in the configuration.
const CONFIGURED: &str = "config";

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
    fn a_table_is_aligned() {
        let rows = [["mds1", "10.0.0.11", ""], ["mds-paris", "10.0.0.9", "paris"]];
        let text = table(rows.iter().map(|row| row.map(str::to_owned)));
        assert_eq!(text, "mds1       10.0.0.11\nmds-paris  10.0.0.9   paris\n");
    }
}
