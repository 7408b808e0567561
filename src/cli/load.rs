//! What commands begin with: the configuration, services of this host, and checks of names.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::Context;
use crate::config::{self, Config, Loaded, Sources};
use crate::host;
use crate::model::escape::escape_for_people;
use crate::node::obeyed_main;
use crate::report::status::Status;
use crate::site::{KnownNodes, Services};
use crate::state::StateDir;

/// Where the configuration is read from by default.
pub(super) const DEFAULT_CONFIG: &str = "/etc/xds-sync/config.toml";

/// Which configuration is meant: `--config`, `$XDS_SYNC_CONFIG`, or the usual one.
pub(super) fn config_path(context: &Context) -> PathBuf {
    let named = || host::variable("XDS_SYNC_CONFIG").map(PathBuf::from);
    context.config.clone().or_else(named).unwrap_or_else(|| DEFAULT_CONFIG.into())
}

fn sources(context: &Context) -> anyhow::Result<Sources> {
    let file = config_path(context);
    Ok(Sources {
        file_was_named: file != Path::new(DEFAULT_CONFIG),
        file,
        env: host::environment(),
        overrides: Vec::new(),
        home: host::home().context("'~' stands for no directory: HOME is not set")?,
        host_name: host::name(),
    })
}

/// The configuration with the origin of each value; the error has all its mistakes.
pub(super) fn config_with_origins(context: &Context) -> anyhow::Result<Loaded> {
    Ok(config::load(&sources(context)?)?)
}

/// The configuration for the hub, which need not be root; says which files it may not read, and skips them.
pub(super) fn config_for_hub(context: &Context) -> anyhow::Result<Config> {
    let (loaded, skipped) = config::load_for_hub(&sources(context)?)?;
    for file in skipped {
        let file = escape_for_people(file.as_os_str().as_bytes());
        context
            .ui
            .message(&format!("{file} is skipped: it may not be read here, and the hub needs no secrets"));
    }
    Ok(loaded.config)
}

/// The configuration; the error has all its mistakes.
pub(super) fn config(context: &Context) -> anyhow::Result<Config> {
    Ok(config_with_origins(context)?.config)
}

/// This host's clock and ids, for a site whose progress nobody watches.
pub(super) fn services() -> Services {
    Services::new(host::now, host::ulid)
}

/// All nodes, for a command that needs nothing else of a site.
pub(super) fn nodes(context: &Context) -> anyhow::Result<KnownNodes> {
    let known = KnownNodes::find(config(context)?, host::now())?;
    show_discovery(context, &known);
    Ok(known)
}

/// Shows what went wrong with finding nodes, for a command that has no report which does.
pub(super) fn show_discovery(context: &Context, known: &KnownNodes) {
    show_failures(context, known);
    known.warnings().iter().for_each(|warning| context.ui.message(warning));
}

/// Fails where no node is known although every source has answered: a list that was lost must not look like success.
pub(super) fn check_any_node(context: &Context, known: &KnownNodes) -> anyhow::Result<()> {
    if known.config().nodes.is_empty() && known.is_complete() {
        if let Some(main) = obeyed_main(&known.config().sync.state_dir) {
            bail!("this host is a media server of {}: run this there", escape_for_people(main.as_bytes()));
        }
        let file = config_path(context);
        bail!("no node is configured or found: add a [[node]] with name and address to {}", file.display());
    }
    Ok(())
}

/// Shows which sources of nodes failed.
pub(super) fn show_failures(context: &Context, known: &KnownNodes) {
    known.failures().iter().for_each(|failure| context.ui.error(failure));
}

/// What the last run left behind; `None` before the first.
pub(super) fn status(state: &StateDir) -> anyhow::Result<Option<Status>> {
    let text = state.status()?;
    text.map(|text| Status::parse(&text)).transpose().context("reading the status of the last run")
}

/// Refuses names that are not among the known ones.
pub(super) fn check_names<'a>(
    kind: &str,
    asked: &[String],
    known: impl Iterator<Item = &'a str>,
) -> anyhow::Result<()> {
    let known: Vec<&str> = known.collect();
    let unknown: Vec<String> = asked
        .iter()
        .filter(|name| !known.contains(&name.as_str()))
        .map(|name| escape_for_people(name.as_bytes()))
        .collect();
    match (unknown.as_slice(), known.as_slice()) {
        ([], _) => Ok(()),
        (unknown, []) => bail!("unknown {kind}: {}; none is configured", unknown.join(", ")),
        (unknown, known) => bail!("unknown {kind}: {}; known: {}", unknown.join(", "), known.join(", ")),
    }
}

/// Refuses names of directories that are not configured.
pub(super) fn check_directories(asked: &[String], config: &Config) -> anyhow::Result<()> {
    check_names("directory", asked, config.directories.iter().map(|directory| &*directory.name))
}

/// Refuses names of nodes that are not in the configuration.
pub(super) fn check_nodes(asked: &[String], config: &Config) -> anyhow::Result<()> {
    check_names("node", asked, config.nodes.iter().map(|node| &*node.name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let known = || ["mds1", "mds2"].into_iter();
        let asked = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(check_names("node", &asked(&["mds2"]), known()).is_ok());
        assert!(check_names("node", &[], known()).is_ok());
        let error = check_names("node", &asked(&["mds1", "mds3"]), known()).unwrap_err();
        assert_eq!(error.to_string(), "unknown node: mds3; known: mds1, mds2");
    }
}
