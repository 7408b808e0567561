//! `xds-sync leave`: undoes `join`.

use anyhow::{Context as _, bail};

use super::steps::Steps;
use super::{Context, agent, exit};
use crate::enroll::authorized_keys::{self, Changed};
use crate::enroll::join::Main;
use crate::host;
use crate::model::escape::escape_for_people;
use crate::node::{Accept, forget_main};

const EXAMPLES: &str = "\
Examples:
  xds-sync leave                     the one Main that this node has joined
  xds-sync leave xivo.example.org    this one of several";

/// On a node: let Main in no more, and forget it; files stay as they are
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Main, as it was joined; may be left out where there is one
    main: Option<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let home = host::home().context("whose authorized_keys are meant: HOME is not set")?;
    let path = authorized_keys::path_below(&home);
    let joined = authorized_keys::mains(&authorized_keys::read(&path)?);
    let main = match (&args.main, joined.as_slice()) {
        (Some(typed), _) => Some(Main::parse(typed)?.name),
        (None, []) => None,
        (None, [one]) => Some(one.clone()),
        (None, several) => {
            let several: Vec<String> =
                several.iter().map(|main| escape_for_people(main.as_bytes())).collect();
            bail!("this node has joined several: {}; name the one to leave", several.join(", "));
        }
    };
    let mut steps = Steps::default();
    let removed = match &main {
        Some(main) => {
            let changed =
                authorized_keys::change(&path, |before| Ok(authorized_keys::without(before, main)))?;
            changed != Changed::Kept
        }
        None => false,
    };
    match (&main, removed) {
        (Some(main), true) => {
            let main = escape_for_people(main.as_bytes());
            steps.note("login", &format!("removed {}: {main} is let in no more", path.display()));
        }
        (Some(main), false) => {
            let main = escape_for_people(main.as_bytes());
            steps.note("login", &format!("none {}: {main} was not let in", path.display()));
        }
        (None, _) => steps.note("login", &format!("none {}: no Main was let in", path.display())),
    }
    let state_dir = Accept::read(&agent::node_config())?.state_dir;
    let forgotten = forget_main(&state_dir)
        .with_context(|| format!("forgetting which Main this node obeys, in {}", state_dir.display()))?;
    if forgotten {
        steps.note("memory", "removed: the next Main that is let in is obeyed");
    }
    steps.print(&context.ui)?;
    Ok(exit::DONE)
}
