//! `xds-sync init`: what a Main needs before its first run.

use std::path::Path;

use anyhow::Context as _;

use super::exit::StepContext as _;
use super::publish_key::{self, Publish};
use super::steps::Steps;
use super::{Context, candidates, exit, load};
use crate::config::{Config, Directory};
use crate::enroll::cron;
use crate::enroll::install::{Installed, install};
use crate::enroll::key::{self, KeyPair};
use crate::enroll::publish as web;
use crate::enroll::roots::{self, Marked};
use crate::enroll::service;
use crate::enroll::takeover::take_over;
use crate::host;
use crate::hub::downloads;
use crate::logging;
use crate::model::escape::{clean, escape_for_people};
use crate::node::EpochLimit;
use crate::report::exit::{ALL_LOST, PARTIAL, SOME_LOST};
use crate::site::{self, Access, RotationEnd, Site};
use crate::state::{Lock, StateDir};

const EXAMPLES: &str = "\
Examples:
  xds-sync init                 key pair, markers, cron job; run
                                again, it changes nothing
  xds-sync init --adopt moh     accept what is in moh's root now:
                                after a disk was replaced, or the
                                directory came from a backup
  xds-sync init --publish hub   nodes get the key from
                                `xds-sync serve`, on port 8443
  xds-sync init --watch         the service as well: changes are
                                everywhere within a second
  xds-sync init --rotate        a new key for every node; run it
                                again for those that were away
  xds-sync init --takeover      this host is Main from now on, in
                                the place of another one";

/// Make this host a Main: key pair, markers in the roots, cron job
#[derive(clap::Args, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Accept the present root of this directory, which a run refused as unmarked or another one
    #[arg(long, value_name = "DIR", num_args = 1.., add = candidates::directories())]
    adopt: Vec<String>,
    /// What serves the public key to nodes
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    publish: Publish,
    /// Make a new key, give it to every node, and remove the old one there once the new one works
    #[arg(long)]
    rotate: bool,
    /// Install and start the service that brings every change to every node at once; cron keeps one run an hour
    #[arg(long)]
    watch: bool,
    /// Make nodes obey this Main from now on, and refuse the one they obeyed before
    #[arg(long)]
    takeover: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    load::check_directories(&args.adopt, &config)?;
    let web = web::Site::default();
    publish_key::check(&web, args.publish)?;
    if args.watch {
        service::check()?;
        let file = load::config_path(context);
        if file != Path::new(load::DEFAULT_CONFIG) {
            let (file, usual) = (file.display(), load::DEFAULT_CONFIG);
            anyhow::bail!(
                "--watch installs a service that reads {usual}, not {file}: write a unit for that file yourself"
            );
        }
    }
    let state = StateDir::open(&config.sync.state_dir)?;
    let lock = site::lock(&state, || false)?;
    logging::use_syslog(&config.sync.syslog_facility);
    Steps::run(context, "init", |steps| perform(context, args, &config, (&state, lock), &web, steps))
}

/// Does all steps, each of which changes nothing where it was done before.
fn perform(
    context: &Context,
    args: &Args,
    config: &Config,
    (state, lock): (&StateDir, Lock),
    web: &web::Site,
    steps: &mut Steps,
) -> anyhow::Result<u8> {
    let mut pair = ensure_key(config).step("key pair")?;
    // Who asked for one of these is told about that, and about what else has changed.
    steps.only_changes(args.rotate || args.takeover);
    show_key(&pair, &config.ssh.identity, steps);
    if args.takeover {
        steps.only_changes(false);
        raise_epoch(state, config, steps).step("takeover")?;
        steps.only_changes(true);
    }
    let mut code = exit::DONE;
    // Holds the lock until the last step is done.
    let mut lock = Some(lock);
    let mut rotating = None;
    if args.rotate {
        let opened =
            Site::open_in(state.clone(), lock.take(), config.clone(), Access::Change, load::services());
        let site = rotating.insert(opened.step("rotate")?);
        load::show_discovery(context, site.nodes());
        steps.only_changes(false);
        code = rotate(site, steps).step("rotate")?;
        steps.only_changes(true);
        pair = ensure_key(config).step("key pair")?;
    }
    for directory in &config.directories {
        let adopt = args.adopt.contains(&directory.name);
        // A root that cannot be marked is no reason to leave out the others.
        if let Some(marked) = steps.attempt("marker", roots::mark(state, directory, adopt, host::ulid)) {
            show_marked(steps, directory, marked);
        }
    }
    let config_file = load::config_path(context);
    let is_watched = args.watch || service::is_enabled();
    let cron = cron_job(config, &config_file, is_watched, steps);
    steps.attempt("cron job", cron);
    let published = publish_key::run(web, config, &config_file, args.publish, steps);
    let port = steps.attempt("publish", published);
    steps.only_changes(args.takeover);
    next_steps(config, &pair, port, steps).step("install")?;
    // The last step: from here on runs begin by themselves, and need the lock.
    drop((lock, rotating));
    if args.watch
        && let Some(is_new) = steps.attempt("service", service::enable())
    {
        steps.ensured("service", is_new, &format!("{} (systemctl status {0})", service::NAME));
    }
    Ok(if steps.has_failed() && code == exit::DONE { PARTIAL } else { code })
}

/// Every line that is to be typed next, in order. `port` is where nodes find the key, `None` within: nowhere, and `None`
/// where that is not known.
fn next_steps(
    config: &Config,
    pair: &KeyPair,
    port: Option<Option<u16>>,
    steps: &mut Steps,
) -> anyhow::Result<()> {
    let fingerprint = &pair.fingerprint;
    match port {
        None => {}
        Some(None) => {
            let public = key::public_path(&config.ssh.identity);
            let (main, public) = (&config.main.host, public.display());
            let text = format!(
                "bring {public} to each node, there: xds-sync join {main} --key FILE --fingerprint {fingerprint}"
            );
            steps.note("join", &text);
        }
        Some(port) => {
            let main = main_address(&config.main.host, port);
            steps.note("join", &format!("on each node: xds-sync join {main} --fingerprint {fingerprint}"));
            let program = host::program_content().context("reading this program")?;
            let [_, script] = downloads::all(program);
            let [curl, wget] = downloads::install_lines(&main, &script.sha256(), fingerprint);
            steps.note("install", &format!("on a node without xds-sync: {curl}"));
            steps.note("install", &format!("the same with wget: {wget}"));
        }
    }
    if config.nodes.is_empty() && !config.discovery.is_used() {
        steps.note("next", "here, for each node: xds-sync nodes add NAME ADDRESS");
    }
    steps.note("next", "here: xds-sync nodes check; xds-sync sync -n; xds-sync sync");
    Ok(())
}

fn ensure_key(config: &Config) -> anyhow::Result<KeyPair> {
    key::ensure(&config.ssh.identity, &format!("xds-sync {}", config.main.name), &mut host::random())
}

fn show_key(pair: &KeyPair, identity: &Path, steps: &mut Steps) {
    let which = format!("{} ({} {})", identity.display(), pair.algorithm, pair.fingerprint);
    steps.ensured("key pair", pair.made, &which);
    let public = key::public_path(identity);
    match &pair.replaced_public {
        Some(other) => {
            let text = format!("made {} again: it was of another key, {other}", public.display());
            steps.changed("key pair", &text);
        }
        None if pair.public_written && !pair.made => {
            steps.ensured("key pair", true, &public.display().to_string());
        }
        None => {}
    }
    if pair.tightened {
        steps.changed("key pair", "is now readable for its owner alone, as ssh demands");
    }
}

/// Raises the epoch above those that nodes know.
fn raise_epoch(state: &StateDir, config: &Config, steps: &mut Steps) -> anyhow::Result<()> {
    let site = Site::open_in(state.clone(), None, config.clone(), Access::ReadOnly, load::services())?;
    let limit = EpochLimit::at(host::now());
    let mut epochs = Vec::new();
    for (node, known) in site.known_epochs() {
        let name = escape_for_people(node.as_bytes());
        match known {
            Ok(Some(epoch)) if limit.allows(epoch) => epochs.push(epoch),
            Ok(Some(epoch)) => {
                let text = format!(
                    "{name} knows {}, which is beyond the present: run `xds-sync leave` and \
                     `xds-sync join` on it",
                    EpochLimit::in_words(epoch)
                );
                steps.note("takeover", &text);
            }
            Ok(None) => {}
            Err(error) => {
                steps.note(
                    "takeover",
                    &format!("{name} could not be asked which epoch it knows: {}", clean(&error.detail)),
                );
            }
        }
    }
    let epoch = take_over(state, host::now(), host::ulid, &epochs)?;
    let text = format!(
        "{}: nodes obey this Main from its next run on, and refuse any earlier one",
        EpochLimit::in_words(epoch)
    );
    steps.changed("takeover", &text);
    Ok(())
}

fn rotate(site: &Site, steps: &mut Steps) -> anyhow::Result<u8> {
    let rotated = site.rotate_key(&mut host::random())?;
    if let Some((algorithm, fingerprint)) = &rotated.new_key {
        steps.changed("rotate", &format!("new key {algorithm} {fingerprint}"));
    }
    for (node, moved) in &rotated.nodes {
        let name = escape_for_people(node.as_bytes());
        match moved {
            Ok(lines) => {
                steps.changed("rotate", &format!("{name} has the new key alone"));
                let (count, all) = (lines.len(), lines.iter().map(|line| clean(line)).collect::<Vec<_>>());
                let noun = if count == 1 { "line" } else { "lines" };
                let text = format!("{name}: {count} {noun} of xds-sync: {}", all.join(", "));
                steps.note("rotate", &text);
            }
            Err(why) => steps.wrong("rotate", &format!("{name} has not moved: {}", clean(why))),
        }
    }
    let (text, code) = match &rotated.end {
        RotationEnd::Complete => {
            steps.changed("rotate", "done: the old key is gone");
            return Ok(exit::DONE);
        }
        RotationEnd::NoneMoved(key) => {
            (format!("no node has moved: {} stays in use; try again", key.display()), ALL_LOST)
        }
        RotationEnd::NodesAway(previous) => (
            format!(
                "{} is kept for those that have not moved; run `xds-sync init --rotate` again when they are back",
                previous.display()
            ),
            SOME_LOST,
        ),
        RotationEnd::NodesUnknown(previous) => (
            format!(
                "{} is kept for nodes that could not be found now; run `xds-sync init --rotate` again when they can",
                previous.display()
            ),
            SOME_LOST,
        ),
    };
    steps.wrong("rotate", &text);
    Ok(code)
}

fn show_marked(steps: &mut Steps, directory: &Directory, marked: Marked) {
    let (name, path) = (&directory.name, directory.path.display());
    match marked {
        Marked::Made => steps.changed("marker", &format!("{name}: made in {path}")),
        Marked::Adopted => steps.changed("marker", &format!("{name}: adopted {path}")),
        Marked::Kept => steps.note("marker", &format!("{name}: kept in {path}")),
        Marked::NoDirectory => {
            let text = format!("{name}: {path} does not exist yet; run `xds-sync init` again when it does");
            steps.note("marker", &text);
        }
        Marked::AnotherRoot => {
            let text = format!("{name}: {path} is another root than before; if it is right: --adopt {name}");
            steps.note("marker", &text);
        }
        Marked::MarkerGone => {
            let text = format!("{name}: {path} has lost its marker; if it is right: --adopt {name}");
            steps.note("marker", &text);
        }
    }
}

fn cron_job(config: &Config, config_file: &Path, is_watched: bool, steps: &mut Steps) -> anyhow::Result<()> {
    let is_usual = config_file == Path::new(load::DEFAULT_CONFIG);
    let other = if is_usual { None } else { Some(std::path::absolute(config_file)?) };
    // The service goes by the schedule itself; cron's job is a net under it.
    let schedule = if is_watched { cron::HOURLY } else { &config.schedule.cron };
    let job = cron::job(schedule, other.as_deref());
    let which = format!("{} ({schedule})", cron::PATH);
    match install(Path::new(cron::PATH), job.as_bytes())? {
        Installed::Made => steps.ensured("cron job", true, &which),
        Installed::Replaced => steps.changed("cron job", &format!("replaced {which}")),
        Installed::Kept => steps.ensured("cron job", false, &which),
    }
    Ok(())
}

/// HOST, or HOST:PORT.
fn main_address(host: &str, port: Option<u16>) -> String {
    match port {
        Some(port) if port != publish_key::HTTPS && host.contains(':') => format!("[{host}]:{port}"),
        Some(port) if port != publish_key::HTTPS => format!("{host}:{port}"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_in_the_address_of_main_unless_it_is_the_usual_one() {
        for (host, port, address) in [
            ("main", None, "main"),
            ("main", Some(443), "main"),
            ("main", Some(8443), "main:8443"),
            ("2001:db8::1", Some(8443), "[2001:db8::1]:8443"),
        ] {
            assert_eq!(main_address(host, port), address);
        }
    }
}
