//! `xds-sync leave`: undoes `join`.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::exit::StepContext as _;
use super::steps::Steps;
use super::{Context, agent, exit};
use crate::enroll::authorized_keys::{self, Changed};
use crate::enroll::join::Main;
use crate::host;
use crate::logging;
use crate::model::escape::escape_for_people;
use crate::node::{Accept, forget_main};

const EXAMPLES: &str = "\
Examples:
  xds-sync leave                     the one Main that this node obeys
  xds-sync leave xivo.example.org    this one of several";

/// On a node: remove Main's access, and forget Main; files stay as they are
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Main, as it was joined; may be left out where there is one
    main: Option<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let home = host::home().context("there is no home directory for authorized_keys: HOME is not set")?;
    let path = authorized_keys::path_below(&home);
    let main = match &args.main {
        Some(typed) => Some(Main::parse(typed)?.name),
        None => the_one_joined(&path)?,
    };
    let state_dir = Accept::read(&agent::node_config())?.state_dir;

    logging::use_syslog(logging::DEFAULT_FACILITY);
    Steps::run(context, "leave", |steps| {
        remove_login(&path, main.as_deref(), steps).step("login")?;
        let forgotten = forget_main(&state_dir)
            .with_context(|| format!("forgetting which Main this node obeys, in {}", state_dir.display()));
        if forgotten.step("memory")? {
            log::info!("auth: unbound: this node obeys the next Main that joins it");
            steps.changed("memory", "removed: this node will obey the next Main that joins it");
        }
        Ok(exit::DONE)
    })
}

/// The Main whose key is accepted here, unless there are several.
fn the_one_joined(authorized_keys: &Path) -> anyhow::Result<Option<String>> {
    let mut joined = authorized_keys::mains(&authorized_keys::read(authorized_keys)?);
    if joined.len() > 1 {
        let all: Vec<String> = joined.iter().map(|main| escape_for_people(main.as_bytes())).collect();
        bail!("this node has joined several: {}; name the one to leave", all.join(", "));
    }
    Ok(joined.pop())
}

fn remove_login(path: &Path, main: Option<&str>, steps: &mut Steps) -> anyhow::Result<()> {
    let shown = path.display();
    let Some(main) = main else {
        steps.note("login", &format!("none {shown}: no Main was let in"));
        return Ok(());
    };
    let changed = authorized_keys::change(path, |before| Ok(authorized_keys::without(before, main)))?;
    let main = escape_for_people(main.as_bytes());
    match changed {
        Changed::Kept => steps.note("login", &format!("none {shown}: {main} had no access")),
        Changed::Made | Changed::Replaced => {
            log::info!("auth: key: {main} is let in no longer");
            steps.changed("login", &format!("removed {shown}: {main} has no access any more"));
        }
    }
    Ok(())
}
