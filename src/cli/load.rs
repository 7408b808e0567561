//! What commands begin with: the configuration, services of this host, and checks of names.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{Context, exit};
use crate::config::{self, Config, Follower, Loaded, Mistake, Mistakes, Sources};
use crate::host;
use crate::model::MAIN;
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
    sources_of(config_path(context))
}

fn sources_of(file: PathBuf) -> anyhow::Result<Sources> {
    Ok(Sources {
        file_was_named: file != Path::new(DEFAULT_CONFIG),
        file,
        env: host::environment(),
        overrides: Vec::new(),
        home: host::home().context("'~' stands for no directory: HOME is not set")?,
        host_name: host::name(),
        replaced: None,
    })
}

/// The configuration with the origin of each value; the error has all its mistakes.
pub(super) fn config_with_origins(context: &Context) -> anyhow::Result<Loaded> {
    Ok(config::load(&sources(context)?)?)
}

/// What is wrong with the configuration if a file of `conf.d` had this content; nothing, if it may have it.
pub(super) fn would_be(context: &Context, path: &Path, content: &str) -> anyhow::Result<Vec<Mistake>> {
    let replaced = Some((path.to_owned(), content.as_bytes().to_vec()));
    let loaded = config::load(&Sources { replaced, ..sources(context)? });
    Ok(loaded.err().map(|mistakes| mistakes.0).unwrap_or_default())
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

/// Reads, again and again, the nodes that follow the store; `None`: the configuration has mistakes now.
pub(super) fn read_followers(
    context: &Context,
) -> anyhow::Result<impl Fn() -> Option<Vec<Follower>> + use<>> {
    let sources = sources(context)?;
    Ok(move || config::load_for_hub(&sources).ok().map(|(loaded, _)| loaded.config.followers))
}

/// The configuration; the error has all its mistakes.
pub(super) fn config(context: &Context) -> anyhow::Result<Config> {
    Ok(config_with_origins(context)?.config)
}

/// What a command that only shows what is there works with.
pub(super) struct Looked {
    /// `None`: it has mistakes, which were shown.
    pub(super) config: Option<Config>,
    pub(super) state: StateDir,
}

/// Opens the state for a command that only shows it. A configuration with mistakes is no reason not to: then one looks.
pub(super) fn to_look(context: &Context) -> anyhow::Result<Looked> {
    let mistakes = match config(context) {
        Ok(config) => {
            let state = StateDir::to_read(&config.sync.state_dir)?;
            return Ok(Looked { config: Some(config), state });
        }
        Err(error) => error.downcast::<Mistakes>()?,
    };
    let dir = config::state_dir(&sources(context)?).context("nor is it known where the state is")?;
    exit::show_mistakes(&context.ui, &mistakes);
    let dir_for_people = escape_for_people(dir.as_os_str().as_bytes());
    context.ui.error(&format!(
        "no run begins until that is mended; what is shown is what {dir_for_people} has of earlier runs"
    ));
    Ok(Looked { config: None, state: StateDir::to_read(&dir)? })
}

/// The configuration for completing a command line, where nothing may be said.
pub(super) fn quietly() -> Option<Config> {
    let named = host::variable("XDS_SYNC_CONFIG").map(PathBuf::from);
    let sources = sources_of(named.unwrap_or_else(|| DEFAULT_CONFIG.into())).ok()?;
    Some(config::load(&sources).ok()?.config)
}

/// Names of all nodes that are known without asking anybody: those that are configured, and those that discovery found
/// last. `None`: what it found cannot be read.
pub(super) fn known_nodes(config: &Config, state: &StateDir) -> Option<Vec<String>> {
    let mut names: Vec<String> = config.nodes.iter().map(|node| node.name.clone()).collect();
    if config.discovery.is_used() {
        names.extend(state.found_nodes()?);
    }
    names.extend(config.followers.iter().map(|follower| follower.name.clone()));
    Some(names)
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
    if known.config().nodes.is_empty() && known.config().followers.is_empty() && known.is_complete() {
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
    let Some(text) = state.status()? else { return Ok(None) };
    let status = Status::parse(&text).with_context(|| {
        format!(
            "{} is damaged; the next run writes it anew, and `xds-sync history` tells what the last ones did",
            state.status_path().display()
        )
    });
    status.map(Some)
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

/// Refuses names of nodes that Main does not connect to: those that follow the store, for which `instead` says what to do,
/// and those that are not in the configuration.
pub(super) fn check_nodes(asked: &[String], config: &Config, instead: &str) -> anyhow::Result<()> {
    refuse_followers(asked, config, instead)?;
    check_names("node", asked, config.nodes.iter().map(|node| &*node.name))
}

/// Refuses names of hosts, each called a `kind`, that are neither Main nor a node that Main connects to, as [`check_nodes`] does.
pub(super) fn check_hosts(
    kind: &str,
    asked: &[String],
    config: &Config,
    instead: &str,
) -> anyhow::Result<()> {
    refuse_followers(asked, config, instead)?;
    check_names(kind, asked, std::iter::once(MAIN).chain(config.nodes.iter().map(|node| &*node.name)))
}

/// Refuses names of nodes that follow the store; `instead` says what to do.
fn refuse_followers(asked: &[String], config: &Config, instead: &str) -> anyhow::Result<()> {
    let follower = config.followers.iter().find(|follower| asked.contains(&follower.name));
    follower.map_or(Ok(()), |Follower { name, .. }| {
        bail!(
            "{name} follows the store by itself (via = \"store\"), and Main never connects to it: {instead}"
        )
    })
}

/// Refuses names of nodes that are not in the configuration, whether Main connects to them or they follow the store.
pub(super) fn check_nodes_and_followers(asked: &[String], config: &Config) -> anyhow::Result<()> {
    let nodes = config.nodes.iter().map(|node| &*node.name);
    check_names("node", asked, nodes.chain(config.followers.iter().map(|follower| &*follower.name)))
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
