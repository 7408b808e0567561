//! `xds-sync init`: what a Main needs before its first run.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;

use super::publish::{self, Publish};
use super::steps::Steps;
use super::{Context, discover, exit, load, rotate};
use crate::config::Config;
use crate::disk::HeldRoot;
use crate::disk::marker::Marker;
use crate::enroll::install::{Installed, install};
use crate::enroll::publish::Site;
use crate::enroll::{cron, handover, key};
use crate::host;
use crate::state::{Identity, Ledger, StateDir};

const EXAMPLES: &str = "\
Examples:
  xds-sync init                 key pair, markers, cron job; again changes nothing
  xds-sync init --adopt moh     what is in moh's root now is right: after a disk was
                                replaced, or a directory restored from a backup
  xds-sync init --publish hub   nodes get the key from `xds-sync serve`, at port 8443
  xds-sync init --rotate        a new key for every node; again, for those that were away
  xds-sync init --takeover      this host is Main from now on, in the place of another one";

/// Make this host a Main: key pair, markers in the roots, cron job
#[derive(clap::Args, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Accept the present root of this directory, which a run refused as missing or another one
    #[arg(long, value_name = "DIR", num_args = 1..)]
    adopt: Vec<String>,
    /// Who serves the public key to nodes
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    publish: Publish,
    /// Make a new key, give it to every node, and remove the old one where the new one works
    #[arg(long)]
    rotate: bool,
    /// Make nodes obey this Main from now on, and no longer the one they obeyed before
    #[arg(long)]
    takeover: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    let directories = config.directories.iter().map(|directory| directory.name.as_str());
    load::check_names("directory", &args.adopt, directories)?;
    let mut steps = Steps::default();

    let state = StateDir::open(&config.sync.state_dir)?;
    let _lock = load::lock(&state, || false)?;
    let identity = &config.ssh.identity;
    let comment = format!("xds-sync {}", config.main.name);
    let mut pair = key::ensure(identity, &comment, &mut host::random())?;
    steps.tell(
        "key pair",
        pair.made,
        &format!("{} ({} {})", identity.display(), pair.algorithm, pair.fingerprint),
    );
    if pair.public_written && !pair.made {
        steps.tell("key pair", true, &key::public_path(identity).display().to_string());
    }
    if pair.tightened {
        steps.note("key pair", "is now readable for its owner alone, as ssh demands");
    }

    if args.takeover {
        let epoch = take_over(&state, host::now())?;
        steps.note(
            "takeover",
            &format!("epoch {epoch}: nodes obey this Main from its next run on, and refuse any earlier one"),
        );
    }
    let mut code = exit::DONE;
    if args.rotate {
        let known = discover::nodes(context, config.clone())?;
        known.warn(context);
        known.remember(context, &state);
        code = rotate::run(&known, &state, &mut steps)?;
        pair = key::ensure(identity, &comment, &mut host::random())?;
    }
    mark_roots(&config, &state, &args.adopt, &mut steps)?;

    let path = load::config_path(context);
    let other = (path != Path::new(load::DEFAULT_CONFIG)).then(|| std::path::absolute(&path)).transpose()?;
    let job = cron::job(&config.schedule.cron, other.as_deref());
    let job_path = Path::new(cron::PATH);
    let what = format!("{} ({})", cron::PATH, config.schedule.cron);
    match install(job_path, job.as_bytes())? {
        Installed::Made => steps.tell("cron job", true, &what),
        Installed::Replaced => steps.note("cron job", &format!("replaced {what}")),
        Installed::Kept => steps.tell("cron job", false, &what),
    }
    let port = publish::run(&Site::default(), &config, &path, args.publish, &mut steps);
    let main = main_address(&config.main.host, port.as_ref().ok().copied().flatten());
    steps.note("join", &format!("on each node: xds-sync join {main} --fingerprint {}", pair.fingerprint));
    let program = host::program_content().context("reading this program")?;
    let (sum, fingerprint) = (handover::sha256(&program), &pair.fingerprint);
    let line = format!("mds_install.sh --sha256 {sum} --fingerprint {fingerprint} {main}");
    steps.note("install", &format!("on a node without xds-sync: sh {line}"));
    steps.print(&context.ui)?;
    port.map(|_| code)
}

/// HOST, or HOST:PORT.
fn main_address(host: &str, port: Option<u16>) -> String {
    match port {
        Some(port) if port != HTTPS && host.contains(':') => format!("[{host}]:{port}"),
        Some(port) if port != HTTPS => format!("{host}:{port}"),
        _ => host.to_owned(),
    }
}

pub(super) const HTTPS: u16 = 443;

/// Raises the epoch above every one that a node can know. Whoever lost its state does not know the last one,
/// which is why it is not counted up alone: the seconds since 1970 are above those of any earlier takeover.
fn take_over(state: &StateDir, now: SystemTime) -> anyhow::Result<u64> {
    let before = state.identity()?;
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (id, next) = match before {
        Some(Identity { id, epoch }) => (id, epoch.saturating_add(1)),
        None => (host::ulid(), 0),
    };
    let epoch = seconds.max(next);
    state.save_identity(&Identity { id, epoch })?;
    Ok(epoch)
}

/// Marks the roots that are there and have no marker, so that from now on a run knows them from what might
/// be mounted, or not be mounted, in their place.
fn mark_roots(config: &Config, state: &StateDir, adopt: &[String], steps: &mut Steps) -> anyhow::Result<()> {
    let mut ledger = state.ledger()?;
    for directory in &config.directories {
        let adopted = adopt.contains(&directory.name);
        let text = mark_root(&directory.name, &directory.path, &mut ledger, adopted)
            .with_context(|| format!("marking {}: {}", directory.name, directory.path.display()))?;
        if adopted {
            state.save_ledger(&ledger)?;
        }
        steps.note("marker", &format!("{}: {text} {}", directory.name, directory.path.display()));
    }
    Ok(())
}

fn mark_root(name: &str, path: &Path, ledger: &mut Ledger, adopted: bool) -> anyhow::Result<&'static str> {
    let root = match HeldRoot::open(path) {
        Ok(root) => root,
        // A directory nobody has made yet is no mistake; one that shall be adopted must be there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !adopted => {
            return Ok("no directory yet, run this again when there is:");
        }
        Err(error) => return Err(error.into()),
    };
    let known = ledger.roots.get(name);
    let (marker, text) = match Marker::read(&root)? {
        Some(marker) if adopted => (marker, "adopted"),
        Some(marker) if known.is_some_and(|known| *known != marker.id) => {
            return Ok("another root than before, adopt it with --adopt if it is right:");
        }
        Some(_) => return Ok("kept in"),
        None if known.is_some() && !adopted => {
            return Ok("its marker is gone, adopt it with --adopt if it is right:");
        }
        None => {
            let marker = Marker { id: host::ulid(), generation: None };
            marker.write(&root)?;
            (marker, if adopted { "adopted" } else { "made in" })
        }
    };
    if adopted {
        ledger.roots.insert(name.to_owned(), marker.id);
    }
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_marked_once_and_another_one_only_when_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("moh");
        let mut ledger = Ledger::default();
        let mut mark = |adopted| mark_root("moh", &path, &mut ledger, adopted);
        assert!(mark(false).unwrap().starts_with("no directory yet"));
        assert!(mark(true).is_err());

        std::fs::create_dir(&path).unwrap();
        assert_eq!(mark(false).unwrap(), "made in");
        assert_eq!(mark(false).unwrap(), "kept in");
        assert_eq!(mark(true).unwrap(), "adopted");

        std::fs::remove_dir_all(path.join(".xds-sync")).unwrap();
        assert!(mark(false).unwrap().starts_with("its marker is gone"));
        assert!(!path.join(".xds-sync").exists());
        assert_eq!(mark(true).unwrap(), "adopted");
        let root = HeldRoot::open(&path).unwrap();
        let id = Marker::read(&root).unwrap().unwrap().id;
        assert_eq!(ledger.roots.get("moh"), Some(&id));

        Marker { id: "another".to_owned(), generation: None }.write(&root).unwrap();
        assert!(mark_root("moh", &path, &mut ledger, false).unwrap().starts_with("another root"));
    }
}
