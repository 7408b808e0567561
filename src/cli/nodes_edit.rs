//! `xds-sync nodes add`, `remove` and `import`: they write `conf.d/nodes.toml` beside the configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{Context, exit, load};
use crate::discovery::workers_list::{self, Worker};
use crate::enroll::install::install;
use crate::enroll::nodes_file::{NewNode, with_node, without_node};
use crate::model::escape::escape_for_people;

pub(super) fn add(context: &Context, name: &str, address: &str, labels: &[String]) -> anyhow::Result<u8> {
    let node = NewNode {
        name: name.to_owned(),
        address: address.to_owned(),
        labels: labels.to_vec(),
        ..NewNode::default()
    };
    let config = load::config(context)?;
    if config.nodes.iter().any(|known| known.name == name && known.address == address) {
        context.ui.message(&format!("{} is there already", escape_for_people(name.as_bytes())));
        return Ok(exit::DONE);
    }
    let changed = edit(context, |text| with_node(text, &node))?;
    tell(context, changed, &format!("added {} at {}", node.name, node.address));
    Ok(exit::DONE)
}

pub(super) fn remove(context: &Context, name: &str) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    load::check_names("node", &[name.to_owned()], config.nodes.iter().map(|node| node.name.as_str()))
        .with_context(|| match config.discovery.is_used() {
            true => "nodes that are found are removed where they are found",
            false => "nothing was removed",
        })?;
    let place = place(context);
    edit(context, |text| match without_node(text, name)? {
        Some(text) => Ok(text),
        None => {
            bail!("{name} does not stand in {}; 'xds-sync config show' tells where it does", place.display())
        }
    })?;
    context.ui.message(&format!("removed {name}; its files stay as they are"));
    Ok(exit::DONE)
}

pub(super) fn import(context: &Context, file: &Path) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let (workers, bad) = workers_list::parse(&text);
    if let Some(line) = bad.first() {
        bail!("{}:{line}: expected [user@]host[:path]; nothing was imported", file.display());
    }
    let new = |Worker { host, user, paths, .. }: Worker| NewNode {
        name: host.clone(),
        address: host,
        labels: Vec::new(),
        user,
        paths: workers_list::roots(&paths, &config.directories),
    };
    let nodes: Vec<NewNode> = workers.into_iter().map(new).collect();
    let is_known = |node: &NewNode| {
        config.nodes.iter().any(|known| known.name == node.name || known.address == node.address)
    };
    let (known, new): (Vec<_>, Vec<_>) = nodes.into_iter().partition(is_known);
    let changed =
        edit(context, |text| new.iter().try_fold(text.to_owned(), |text, node| with_node(&text, node)))?;
    let names: Vec<&str> = new.iter().map(|node| &*node.name).collect();
    tell(context, changed, &format!("added {}", names.join(", ")));
    for node in known {
        context.ui.message(&format!("{} is there already", node.name));
    }
    Ok(exit::DONE)
}

fn tell(context: &Context, changed: bool, what: &str) {
    if changed {
        context.ui.message(&format!("{what}; 'xds-sync nodes check' tries to reach it"));
    }
}

fn place(context: &Context) -> PathBuf {
    load::config_path(context).with_file_name("conf.d").join("nodes.toml")
}

/// Changes the file, if that leaves a configuration without mistakes; whether there was anything to change.
fn edit(context: &Context, change: impl FnOnce(&str) -> anyhow::Result<String>) -> anyhow::Result<bool> {
    let path = place(context);
    let before = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let old = before.clone().unwrap_or_default();
    let new = change(&old).with_context(|| path.display().to_string())?;
    if new == old {
        return Ok(false);
    }
    install(&path, new.as_bytes())?;
    // Only a whole configuration tells whether a name or an address is taken elsewhere.
    let Err(mistakes) = load::config(context) else { return Ok(true) };
    match before {
        Some(before) => install(&path, before.as_bytes()).map(drop)?,
        None => fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?,
    }
    Err(mistakes)
}
