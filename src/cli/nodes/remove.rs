//! `xds-sync nodes remove`.

use anyhow::{Context as _, bail};

use super::super::{Context, candidates, exit, load};
use super::{EXAMPLES, file};
use crate::enroll::nodes_file::without_node;
use crate::enroll::rotate;
use crate::logging;

/// Take a node out of `conf.d/nodes.toml`; its files stay as they are
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Its name
    #[arg(add = candidates::nodes())]
    name: String,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let name = &args.name;
    let config = load::config(context)?;
    load::check_nodes_and_followers(std::slice::from_ref(name), &config).with_context(|| {
        match config.discovery.is_used() {
            true => "nodes that are found are removed where they are found",
            false => "nothing was removed",
        }
    })?;
    let path = file::path(context);
    file::edit(context, |text| match without_node(text, name)? {
        Some(text) => Ok(text),
        None => bail!("{name} is not in {}; 'xds-sync config show' tells where it is", path.display()),
    })?;
    logging::use_syslog(&config.sync.syslog_facility);
    log::info!("nodes remove: {name}");
    if rotate::previous(&config.ssh.identity).exists() {
        context.ui.message(&format!(
            "the rotation of Main's key is not finished: if {name} has not moved, it knows the old key alone, and \
             has to join again should it come back"
        ));
    }
    context.ui.message(&format!("removed {name}; its files stay as they are"));
    Ok(exit::DONE)
}
