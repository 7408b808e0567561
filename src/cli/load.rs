//! What commands begin with: the configuration, and what is remembered.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::Context;
use crate::config::{self, Config};
use crate::host;
use crate::model::escape::escape_for_people;
use crate::report::status::Status;
use crate::state::StateDir;

/// Where the configuration is read from when nobody says otherwise.
pub(super) const DEFAULT_CONFIG: &str = "/etc/xds-sync/config.toml";

/// Which configuration is meant: `--config`, `$XDS_SYNC_CONFIG`, or the usual one.
pub(super) fn config_path(context: &Context) -> PathBuf {
    let from_environment = || host::environment().remove("XDS_SYNC_CONFIG").filter(|path| !path.is_empty());
    match &context.config {
        Some(path) => path.clone(),
        None => from_environment().unwrap_or_else(|| DEFAULT_CONFIG.to_owned()).into(),
    }
}

/// The configuration; the error has all its mistakes.
pub(super) fn config(context: &Context) -> anyhow::Result<Config> {
    let path = config_path(context);
    Ok(config::load(&path, &host::environment(), host::home().as_deref().map(Path::new))?)
}

/// What the last run left behind; `None` before the first.
pub(super) fn status(state: &StateDir) -> anyhow::Result<Option<Status>> {
    let text = state.read_status()?;
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
