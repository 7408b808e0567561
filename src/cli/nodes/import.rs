//! `xds-sync nodes import`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::super::{Context, exit, load};
use super::{EXAMPLES, file};
use crate::config::Config;
use crate::discovery::workers_list::{self, Worker};
use crate::enroll::nodes_file::{NewNode, with_node};
use crate::logging;

/// Add the nodes of a workers-list: lines `[user@]host[:path]`; known ones are passed over
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The list
    file: PathBuf,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let list = &args.file;
    let config = load::config(context)?;
    let text = fs::read_to_string(list).with_context(|| format!("reading {}", list.display()))?;
    let (workers, bad) = workers_list::parse(&text);
    if let Some(line) = bad.first() {
        bail!("{}:{line}: expected [user@]host[:path]; nothing was imported", list.display());
    }
    let nodes = workers.into_iter().map(|worker| new_node(worker, &config));
    let (known, new): (Vec<NewNode>, Vec<NewNode>) = nodes.partition(|node| is_known(node, &config));
    let is_changed = file::edit(context, |text| {
        new.iter().try_fold(text.to_owned(), |text, node| with_node(&text, node))
    })?;
    if is_changed {
        let names: Vec<&str> = new.iter().map(|node| &*node.name).collect();
        logging::use_syslog(&config.sync.syslog_facility);
        log::info!("nodes import: {}", names.join(", "));
        file::show_added(context, &names.join(", "));
    }
    for node in known {
        context.ui.message(&format!("{} is there already", node.name));
    }
    Ok(exit::DONE)
}

fn new_node(worker: Worker, config: &Config) -> NewNode {
    let Worker { host, user, paths, .. } = worker;
    NewNode {
        name: host.clone(),
        address: host,
        user,
        paths: workers_list::roots(&paths, &config.directories),
        ..NewNode::default()
    }
}

fn is_known(node: &NewNode, config: &Config) -> bool {
    config.nodes.iter().any(|known| known.name == node.name || known.address == node.address)
}
