//! `xds-sync nodes install`.

use super::super::steps::Steps;
use super::super::{Context, candidates, exit, load};
use super::EXAMPLES;
use crate::config::Node;
use crate::logging;
use crate::model::escape::escape_for_people;
use crate::report::exit::{ALL_LOST, SOME_LOST};
use crate::site::{Access, Locking, Site};

/// Of a node that follows the store.
const INSTEAD: &str =
    "install the program there by its package, and set it up with `xds-sync join --store` there";

/// Bring this program to nodes over ssh, and let them join; for nodes where Main's key opens a shell
///
/// This is so on the nodes of an existing XDS cluster. Afterwards the key opens the agent there, and no shell.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Names of known nodes
    #[arg(value_name = "NAME", required = true, add = candidates::nodes())]
    names: Vec<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let site = Site::open(load::config(context)?, Locking::Unlocked, Access::ReadOnly, load::services())?;
    load::show_discovery(context, site.nodes());
    load::check_nodes(&args.names, site.config(), INSTEAD)?;
    let nodes: Vec<&Node> =
        site.config().nodes.iter().filter(|node| args.names.contains(&node.name)).collect();
    let troubles = site.own_troubles(nodes.iter().copied());
    anyhow::ensure!(troubles.is_empty(), "{}", troubles.join("; "));
    logging::use_syslog(&site.config().sync.syslog_facility);
    let results = site.install(&nodes)?;

    Steps::run(context, "nodes install", |steps| {
        let mut failed = 0;
        for (node, result) in nodes.iter().zip(results) {
            let name = escape_for_people(node.name.as_bytes());
            match result {
                Ok(done) => steps.changed(&name, done),
                Err(error) => {
                    failed += 1;
                    let why = exit::line_of(&error);
                    log::error!(target: logging::SYSLOG_ONLY, "nodes install: {name}: {why}");
                    context.ui.plain(&format!("{name}: {why}"));
                }
            }
        }
        // Discovery that failed does not matter: the nodes that were asked for are known.
        Ok(match failed {
            0 => exit::DONE,
            failed if failed == nodes.len() => ALL_LOST,
            _ => SOME_LOST,
        })
    })
}
