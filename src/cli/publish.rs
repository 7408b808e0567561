//! What `init` says and does about publishing the key.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;

use super::steps::Steps;
use crate::config::Config;
use crate::enroll::key;
use crate::enroll::publish::{self, KEY_NAME, Served, Site};
use crate::host;
use crate::hub::downloads;

/// Who serves the public key to nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Publish {
    /// XiVO's nginx where there is one, else the hub
    #[default]
    Auto,
    /// XiVO's nginx
    Nginx,
    /// The hub, `xds-sync serve`, where nodes reach it
    Hub,
    /// Nobody: the key is brought to the nodes by other means
    None,
}

/// Where `--publish hub` lets the hub listen that only this host could reach.
const OPEN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// How the hub is started: as the package's service, or by hand.
const START: &str = "`systemctl enable --now xds-sync-serve` (or `xds-sync serve`)";

/// Publishes the key, and gives the port at which nodes find it; none when it is published nowhere.
pub(super) fn run(
    site: &Site,
    config: &Config,
    config_file: &Path,
    how: Publish,
    steps: &mut Steps,
) -> anyhow::Result<Option<u16>> {
    if how == Publish::None {
        steps.note("publish", "nowhere, as asked for");
        return Ok(None);
    }
    let copied = site.copy_key(&key::public_path(&config.ssh.identity))?;
    steps.tell("publish", copied, &site.certs.join(KEY_NAME).display().to_string());
    match how {
        Publish::Hub => hub(config, config_file, steps).map(Some),
        Publish::Nginx => nginx(site, steps).map(Some),
        _ if site.has_nginx() => nginx(site, steps).map(Some),
        _ => {
            let listen = config.hub.listen;
            let open = if listen.ip().is_loopback() { "`xds-sync init --publish hub`, then " } else { "" };
            steps.note(
                "publish",
                &format!("no nginx of XiVO here: {open}{START} serves it, at port {}", listen.port()),
            );
            Ok(Some(listen.port()))
        }
    }
}

fn nginx(site: &Site, steps: &mut Steps) -> anyhow::Result<u16> {
    anyhow::ensure!(
        site.has_nginx(),
        "there is no nginx in XiVO's layout: {}/https-available and https-enabled are missing; `--publish hub` \
         does without",
        site.locations.display()
    );
    for download in downloads::all(host::program_content().context("reading this program")?) {
        let copied = site.copy_download(download.name, &download.content)?;
        site.copy_download(&format!("{}.sha256", download.name), download.checksum_file().as_bytes())?;
        steps.tell("download", copied, &format!("{} (SHA-256 {})", download.name, download.sha256()));
    }
    match site.serve_with_nginx()? {
        Served::Made => steps.note("publish", "made nginx serve it"),
        Served::Unread(why) => steps.note("publish", &format!("nginx serves it once it is started: {why}")),
        Served::Kept => steps.note("publish", "kept in nginx"),
        Served::By(file) => steps.note("publish", &format!("nginx serves it already: {}", file.display())),
    }
    Ok(super::init::HTTPS)
}

fn hub(config: &Config, config_file: &Path, steps: &mut Steps) -> anyhow::Result<u16> {
    let listen = config.hub.listen;
    if !listen.ip().is_loopback() {
        steps.note("hub", &format!("kept at {listen}: start it with {START}"));
        return Ok(listen.port());
    }
    let file = config_file.with_file_name("conf.d").join("hub.toml");
    let open = SocketAddr::new(OPEN, listen.port());
    publish::set_hub_listen(&file, open)?;
    steps.note("hub", &format!("opened at {open} in {}: start it with {START}", file.display()));
    Ok(open.port())
}
