//! `xds-sync nodes approve`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use ssh_key::{Fingerprint, HashAlg};

use super::super::{Context, exit, load};
use super::{EXAMPLES, Nodes, file, table};
use crate::config::Config;
use crate::enroll::join::read_fingerprint;
use crate::enroll::nodes_file::{NewNode, with_node};
use crate::enroll::waiting::{self, HUB_STATE, Waiting};
use crate::host;
use crate::logging;
use crate::model::escape::escape_for_people;
use crate::model::read_rfc3339;

/// Let a node in that has handed in its key at the hub, to follow the store; without a name, list those that wait
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Its name
    name: Option<String>,
    /// The fingerprint that `xds-sync join` has printed on the node; without it you are asked
    #[arg(long, value_name = "SHA256:…", requires = "name")]
    key: Option<String>,
    /// It takes part in directories with this label
    #[arg(long = "label", value_name = "LABEL", num_args = 1.., requires = "name")]
    labels: Vec<String>,
    /// Send it away instead; whoever has the right key may ask again
    #[arg(long, requires = "name", conflicts_with_all = ["labels", "json"])]
    reject: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with = "name")]
    json: bool,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    key: String,
    from: String,
    since: &'a str,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    let places = [config.sync.state_dir.clone(), PathBuf::from(HUB_STATE)];
    let waiting = all(context, &places)?;
    let Some(name) = &args.name else { return list(context, args, &waiting) };
    let expected = args.key.as_deref().map(read_fingerprint).transpose()?;
    let one = chosen(name, expected.as_ref(), &waiting)?;
    logging::use_syslog(&config.sync.syslog_facility);
    let (shown, fingerprint) = (escape_for_people(name.as_bytes()), fingerprint(one));
    if args.reject {
        remove(&places, name)?;
        log::info!("nodes approve: {shown}: {fingerprint} was rejected");
        context.ui.message(&format!("sent away {shown} ({fingerprint})"));
        return Ok(exit::DONE);
    }
    if expected.is_none() {
        confirm(context, one)?;
    }
    approve(context, &config, one, &args.labels)?;
    log::info!("nodes approve: {shown} with {fingerprint}");
    // It is let in: whatever else waits under its name cannot be meant.
    remove(&places, name)?;
    context.ui.message(&format!(
        "approved {shown} ({fingerprint}); `xds-sync publish` tells the nodes, and there: systemctl enable --now xds-sync-follow"
    ));
    Ok(exit::DONE)
}

/// All nodes that wait, at each hub that this host may have.
fn all(context: &Context, places: &[PathBuf]) -> anyhow::Result<Vec<Waiting>> {
    let mut all = Vec::new();
    for place in places {
        let (waiting, strange) = waiting::waiting(place, host::now())?;
        for name in strange {
            let (name, place) = (escape_for_people(name.as_bytes()), place.display());
            context.ui.message(&format!(
                "{name} below {place}/hub/waiting is not what a hub writes there: passed over"
            ));
        }
        all.extend(waiting);
    }
    Ok(all)
}

fn list(context: &Context, args: &Args, waiting: &[Waiting]) -> anyhow::Result<u8> {
    let listed = |one: &Waiting| (fingerprint(one), one.from.to_string());
    if args.json {
        let nodes = waiting.iter().map(|one| {
            let (key, from) = listed(one);
            Listed { name: &one.name, key, from, since: &one.since }
        });
        let text = serde_json::to_string(&Nodes { nodes: nodes.collect::<Vec<_>>() })? + "\n";
        context.ui.result(text.as_bytes())?;
        return Ok(exit::DONE);
    }
    let zone = context.zone();
    let rows = waiting.iter().map(|one| {
        let (key, from) = listed(one);
        let since = read_rfc3339(&one.since).map_or_else(|| one.since.clone(), |time| zone.tell(time));
        [one.name.clone(), key, from, since]
    });
    context.ui.result(table(rows).as_bytes())?;
    context.ui.aside(match waiting {
        [] => "no node waits to be approved",
        _ => "compare each fingerprint with the one that `xds-sync join` has printed on that node",
    });
    Ok(exit::DONE)
}

/// The node that is meant.
fn chosen<'w>(
    name: &str,
    expected: Option<&Fingerprint>,
    waiting: &'w [Waiting],
) -> anyhow::Result<&'w Waiting> {
    let shown = escape_for_people(name.as_bytes());
    let named: Vec<&Waiting> = waiting.iter().filter(|one| one.name == name).collect();
    ensure!(
        !named.is_empty(),
        "{shown} does not wait to be approved; `xds-sync nodes approve` lists those that do. A node asks with `xds-sync join \
         --store https://…`, and again after a day"
    );
    let is_expected =
        |one: &&&Waiting| expected.is_none_or(|expected| *expected == one.key.fingerprint(HashAlg::Sha256));
    match named.iter().filter(is_expected).collect::<Vec<_>>().as_slice() {
        [one] => Ok(one),
        [] => bail!(
            "the key that waits under {shown} is {}, which is not the one that you give: somebody else has asked under that name. \
             `xds-sync nodes approve {shown} --reject` sends it away; then run `xds-sync join` on {shown} again",
            fingerprint(named[0])
        ),
        _ => bail!("several keys wait under {shown}: give --key, as `xds-sync join` has printed it there"),
    }
}

/// Asks whether the fingerprint is that which the node has shown.
fn confirm(context: &Context, one: &Waiting) -> anyhow::Result<()> {
    let Waiting { name, from, .. } = one;
    let fingerprint = fingerprint(one);
    ensure!(
        io::stdin().is_terminal() && io::stderr().is_terminal(),
        "compare {fingerprint} with what `xds-sync join` has printed on {name}, and give it as --key: there is no terminal here \
         on which you can be asked"
    );
    let question = format!(
        "{name} asks from {from}, with the key {fingerprint}\nDid `xds-sync join` on {name} print the same?"
    );
    ensure!(
        context.ui.is_agreed(&question)?,
        "not approved. If `join` has printed another fingerprint there, somebody else has asked under this name: `xds-sync nodes \
         approve {name} --reject`, and then `join` there again"
    );
    Ok(())
}

/// Writes it into the configuration.
fn approve(context: &Context, config: &Config, one: &Waiting, labels: &[String]) -> anyhow::Result<()> {
    let name = &one.name;
    let is_known = config.nodes.iter().any(|node| node.name == *name)
        || config.followers.iter().any(|follower| follower.name == *name);
    ensure!(
        !is_known,
        "there is a node {name} already; where it has a new key, `xds-sync nodes remove {name}` first"
    );
    let node = NewNode {
        name: name.clone(),
        key: Some(waiting::plain(&one.key)?),
        labels: labels.to_vec(),
        ..NewNode::default()
    };
    file::edit(context, |text| with_node(text, &node)).map(drop)
}

fn remove(places: &[PathBuf], name: &str) -> anyhow::Result<()> {
    for place in places {
        let place: &Path = place;
        waiting::remove(place, name).with_context(|| format!("{name} goes on waiting"))?;
    }
    Ok(())
}

fn fingerprint(one: &Waiting) -> String {
    one.key.fingerprint(HashAlg::Sha256).to_string()
}
