//! `xds-sync serve`: the hub.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ssh_key::PublicKey;

use super::{Context, exit, load};
use crate::config::{Config, Follower};
use crate::enroll::{key, publish};
use crate::host;
use crate::hub::{
    self, Board, Certificate, Content, Door, Limits, Member, PAUSE, Server, TokenFile, certificate,
    downloads, routes,
};
use crate::site::store::spec_of;
use crate::state::OVERVIEW;
use crate::{store, version};

const EXAMPLES: &str = "\
Examples:
  xds-sync serve                          at hub.listen, by default
                                          for this host only
  xds-sync serve --listen 0.0.0.0:8443    for every host that
                                          reaches this one";

/// On Main: serve over HTTPS what new nodes need, and how all nodes are, as a page and as metrics
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Listen here instead of at `hub.listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let config = load::config_for_hub(context)?;
    let listen = args.listen.unwrap_or(config.hub.listen);
    let server = Server::bind(listen, certificate_of(&config, listen), Limits::default())?;
    let address = server.address().context("looking where the hub listens")?;
    let content = Content {
        keys: keys_of(&config),
        downloads: downloads::all(host::program_content().context("reading this program")?).into(),
        store: store_of(context, &config)?,
        board: Some(board_of(context, &config)),
    };
    let has_token = content.board.as_ref().is_some_and(|board| {
        board.door.check().unwrap_or_else(|error| {
            context.ui.error(&format!("hub.token_file: {error:#}"));
            false
        })
    });
    let ready = || {
        context.ui.message(&format!("serving https://{address}{}", routes::KEY));
        if let Some(store) = &config.store {
            let url = &store.url;
            context.ui.message(&format!("serving https://{address}/store ({url})"));
        }
        let whom = if has_token { "with the token" } else { "not without hub.token_file" };
        context.ui.message(&format!(
            "serving https://{address}/ and /metrics: how the cluster is; to other hosts {whom}"
        ));
        if address.ip().is_loopback() {
            context.ui.message(&format!(
                "only this host reaches it; for nodes: `xds-sync init --publish hub`, or --listen 0.0.0.0:{}",
                address.port()
            ));
        }
    };
    server.run(routes::routes(content), host::now, |text| log::error!("{text}"), ready)?;
    Ok(exit::DONE)
}

/// The store, for nodes that follow it through this hub.
fn store_of(context: &Context, config: &Config) -> anyhow::Result<Option<hub::Store>> {
    if config.store.is_none() {
        return Ok(None);
    }
    let spec = spec_of(config)?;
    let followers = load::read_followers(context)?;
    let member = |follower: Follower| {
        let key = PublicKey::from_openssh(&follower.key).ok()?;
        Some(Member { name: follower.name, key, labels: follower.labels })
    };
    let members = move || Some(followers()?.into_iter().filter_map(member).collect());
    Ok(Some(hub::Store {
        objects: store::open(&spec).context("opening the store, to serve it")?,
        keys: keys_of(config),
        members: Box::new(members),
        state: config.sync.state_dir.clone(),
        clock: host::now,
    }))
}

/// How the cluster is, as runs leave it in the hub's state.
fn board_of(context: &Context, config: &Config) -> Board {
    // systemd hands secrets to a service that may not read them itself, under the name that the unit has for them.
    let copy =
        |path: &Path| Some(Path::new(&host::variable("CREDENTIALS_DIRECTORY")?).join(path.file_name()?));
    let token = config.hub.token_file.as_ref().map(|path| TokenFile { copy: copy(path), path: path.clone() });
    let schedule = config.schedule.clone();
    Board {
        main: config.main.name.clone(),
        version: version::package(),
        file: config.sync.state_dir.join(OVERVIEW),
        zone: context.zone(),
        clock: host::now,
        next_run: Box::new(move |after| schedule.next_after(after)),
        door: Door::new(token, PAUSE),
    }
}

/// Files with Main's public key. A hub that does not run as root can read the published copy only.
fn keys_of(config: &Config) -> Vec<PathBuf> {
    vec![key::public_path(&config.ssh.identity), Path::new(publish::CERTS).join(publish::KEY_NAME)]
}

fn certificate_of(config: &Config, listen: SocketAddr) -> Certificate {
    match (&config.hub.certificate, &config.hub.key) {
        (Some(certificate), Some(key)) => {
            Certificate::Given { certificate: certificate.clone(), key: key.clone() }
        }
        _ => Certificate::Own {
            dir: config.sync.state_dir.join("hub"),
            names: certificate::names(&[&config.main.host, &host::name()], listen.ip()),
        },
    }
}
