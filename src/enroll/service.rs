//! The service of a Main: `xds-sync watch` under systemd.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::install::{Installed, install};

/// The service.
pub(crate) const NAME: &str = "xds-sync-watch";
/// Its unit, for a host without the package, which has it in one of [`PACKAGED`].
const UNIT: &str = include_str!("../../debian/xds-sync.xds-sync-watch.service");
const OWN: &str = "/etc/systemd/system/xds-sync-watch.service";
const PACKAGED: [&str; 2] =
    ["/usr/lib/systemd/system/xds-sync-watch.service", "/lib/systemd/system/xds-sync-watch.service"];
/// There where the service starts with the host.
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/xds-sync-watch.service";
/// There where systemd runs.
const SYSTEMD: &str = "/run/systemd/system";

/// Whether the service starts with this host.
pub(crate) fn is_enabled() -> bool {
    Path::new(ENABLED).symlink_metadata().is_ok()
}

/// Refuses a host without systemd, before anything is changed.
pub(crate) fn check() -> anyhow::Result<()> {
    if Path::new(SYSTEMD).is_dir() {
        return Ok(());
    }
    bail!("--watch installs a service, and systemd does not run here: start 'xds-sync watch' by what does")
}

/// Has the service run now and after each start of the host. Whether anything was changed.
pub(crate) fn enable() -> anyhow::Result<bool> {
    let mut changed = false;
    if !PACKAGED.iter().any(|unit| Path::new(unit).exists()) {
        changed = install(Path::new(OWN), UNIT.as_bytes())? != Installed::Kept;
    }
    if changed {
        systemctl(&["daemon-reload"])?;
    }
    changed |= !is_enabled() || systemctl(&["is-active", "--quiet", NAME]).is_err();
    systemctl(&["enable", "--quiet", NAME])?;
    // One that runs reads the configuration again, as it is now.
    systemctl(&["reload-or-restart", NAME])?;
    Ok(changed)
}

fn systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    let ran = Command::new("systemctl").args(arguments).stdin(Stdio::null()).output();
    let ran = ran.context("systemctl cannot be run")?;
    if ran.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&ran.stderr);
    bail!("systemctl {}: {}", arguments.join(" "), why.lines().next().unwrap_or("failed"))
}
