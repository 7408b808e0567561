//! `xds-sync serve`: the hub.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ssh_key::PublicKey;

use super::{Context, exit, load};
use crate::config::{Config, Follower};
use crate::enroll::{key, publish};
use crate::host;
use crate::hub::{self, Certificate, Content, Limits, Member, Server, certificate, downloads, routes};
use crate::site::store::spec_of;
use crate::store;

const EXAMPLES: &str = "\
Examples:
  xds-sync serve                          at hub.listen, by default
                                          for this host only
  xds-sync serve --listen 0.0.0.0:8443    for every host that
                                          reaches this one";

/// On Main: serve the public key over HTTPS, and this program for new nodes
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
    };
    let ready = || {
        context.ui.message(&format!("serving https://{address}{}", routes::KEY));
        if let Some(store) = &config.store {
            let url = &store.url;
            context.ui.message(&format!("serving https://{address}/store ({url})"));
        }
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
