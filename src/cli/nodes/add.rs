//! `xds-sync nodes add`.

use super::super::{Context, exit, load};
use super::{EXAMPLES, file};
use crate::enroll::nodes_file::{NewNode, with_node};
use crate::logging;
use crate::model::escape::escape_for_people;

/// Write a node into `conf.d/nodes.toml`
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Its name
    name: String,
    /// What ssh connects to
    address: String,
    /// It takes part in directories with this label
    #[arg(long = "label", value_name = "LABEL", num_args = 1..)]
    labels: Vec<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let Args { name, address, labels } = args;
    let config = load::config(context)?;
    if config.nodes.iter().any(|known| known.name == *name && known.address == *address) {
        context.ui.message(&format!("{} is there already", escape_for_people(name.as_bytes())));
        return Ok(exit::DONE);
    }
    let node = NewNode {
        name: name.clone(),
        address: address.clone(),
        labels: labels.clone(),
        ..NewNode::default()
    };
    if file::edit(context, |text| with_node(text, &node))? {
        logging::use_syslog(&config.sync.syslog_facility);
        log::info!("nodes add: {name} at {address}");
        file::show_added(context, &format!("{name} at {address}"));
    }
    Ok(exit::DONE)
}
