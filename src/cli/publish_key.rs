//! Publishing Main's key, as a step of `init`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

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
    /// Nobody: you bring the key to the nodes by other means
    None,
}

/// The port of a URL that has none.
pub(super) const HTTPS: u16 = 443;
/// Where `--publish hub` lets a hub listen that only this host could reach.
const OPEN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// How the hub is started: as the package's service, or by hand.
const START: &str = "`systemctl enable --now xds-sync-serve` (or `xds-sync serve`)";

/// Refuses what this host cannot do, before anything is changed.
pub(super) fn check(site: &Site, how: Publish) -> anyhow::Result<()> {
    anyhow::ensure!(
        how != Publish::Nginx || site.has_nginx(),
        "there is no nginx in XiVO's layout: {}/https-available and https-enabled are missing; use `--publish hub`",
        site.locations.display()
    );
    Ok(())
}

/// Publishes the key and returns the port at which nodes find it; `None` when it is published nowhere.
pub(super) fn run(
    site: &Site,
    config: &Config,
    config_file: &Path,
    how: Publish,
    steps: &mut Steps,
) -> anyhow::Result<Option<u16>> {
    if how == Publish::None {
        steps.note("publish", "nowhere, as requested");
        return Ok(None);
    }
    let copied = site.copy_key(&key::public_path(&config.ssh.identity))?;
    steps.ensured("publish", copied, &site.certs.join(KEY_NAME).display().to_string());
    match how {
        Publish::Hub => hub(config, config_file, steps).map(Some),
        Publish::Nginx => nginx(site, steps).map(Some),
        _ if site.has_nginx() => nginx(site, steps).map(Some),
        _ => {
            let listen = config.hub.listen;
            let open = if listen.ip().is_loopback() { "`xds-sync init --publish hub`, then " } else { "" };
            if is_served(listen.port()) {
                steps.note("publish", &format!("the hub serves it on port {}", listen.port()));
                return Ok(Some(listen.port()));
            }
            steps.note(
                "publish",
                &format!("no nginx of XiVO here: {open}{START} serves it on port {}", listen.port()),
            );
            Ok(Some(listen.port()))
        }
    }
}

/// Whether something answers here: the hub, unless somebody else has its port.
fn is_served(port: u16) -> bool {
    let here = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    TcpStream::connect_timeout(&here, Duration::from_secs(1)).is_ok()
}

fn nginx(site: &Site, steps: &mut Steps) -> anyhow::Result<u16> {
    for download in downloads::all(host::program_content().context("reading this program")?) {
        let copied = site.copy_download(download.name, &download.content)?;
        site.copy_download(&format!("{}.sha256", download.name), download.checksum_file().as_bytes())?;
        steps.ensured("download", copied, &format!("{} (SHA-256 {})", download.name, download.sha256()));
    }
    match site.serve_with_nginx()? {
        Served::Made => steps.changed("publish", "added to nginx, which serves it now"),
        Served::Unread(why) => {
            steps.changed("publish", &format!("added to nginx, which serves it once it runs: {why}"));
        }
        Served::Kept => steps.note("publish", "kept in nginx"),
        Served::By(file) => steps.note("publish", &format!("nginx serves it already: {}", file.display())),
    }
    Ok(HTTPS)
}

fn hub(config: &Config, config_file: &Path, steps: &mut Steps) -> anyhow::Result<u16> {
    let listen = config.hub.listen;
    if !listen.ip().is_loopback() {
        let state =
            if is_served(listen.port()) { "and runs".to_owned() } else { format!("start it with {START}") };
        steps.note("hub", &format!("kept at {listen}: {state}"));
        return Ok(listen.port());
    }
    let file = config_file.with_file_name("conf.d").join("hub.toml");
    let open = SocketAddr::new(OPEN, listen.port());
    publish::set_hub_listen(&file, open)?;
    steps.changed("hub", &format!("opened at {open} in {}: start it with {START}", file.display()));
    Ok(open.port())
}
