//! `xds-sync nodes install`: brings this program to nodes whose shell Main's key still opens.

use std::fs;

use anyhow::{Context as _, anyhow, bail};

use super::connect::Ssh;
use super::steps::Steps;
use super::{Context, discover, exit, load};
use crate::config::{Config, Node};
use crate::enroll::handover::{self, Found};
use crate::enroll::key;
use crate::host;
use crate::model::escape::{clean, escape_for_people};
use crate::node::NodeError;
use crate::report::exit::{ALL_LOST, SOME_LOST};
use crate::state::StateDir;
use crate::threads::side_by_side;

/// What every node gets.
struct Handover<'a> {
    ssh: &'a Ssh,
    config: &'a Config,
    program: Vec<u8>,
    sha256: String,
}

pub(super) fn run(context: &Context, names: &[String]) -> anyhow::Result<u8> {
    let known = discover::nodes(context, load::config(context)?)?;
    known.warn(context);
    let config = &known.config;
    load::check_names("node", names, config.nodes.iter().map(|node| node.name.as_str()))?;
    let nodes: Vec<&Node> = config.nodes.iter().filter(|node| names.contains(&node.name)).collect();
    let state = StateDir::open(&config.sync.state_dir)?;
    let ssh = Ssh::new(config, &state, load::identity(&state, true)?)?;
    // The file that runs, whatever has been installed in its place since.
    let program = fs::read("/proc/self/exe").context("reading this program")?;
    let sha256 = handover::sha256(&program);
    let handover = Handover { ssh: &ssh, config, program, sha256 };

    let mut steps = Steps::default();
    let mut failed = 0;
    let handed_over = side_by_side(&nodes, config.sync.parallel, |node| handover.to_one(node));
    for (node, done) in nodes.iter().zip(handed_over) {
        let name = escape_for_people(node.name.as_bytes());
        match done {
            Ok(done) => steps.note(&name, done),
            Err(error) => {
                failed += 1;
                context.ui.complain(&format!("{name}: {}", clean(&exit::line_of(&error))));
            }
        }
    }
    steps.print(&context.ui)?;
    // Those that were asked for are known.
    Ok(match failed {
        0 => exit::DONE,
        failed if failed == nodes.len() => ALL_LOST,
        _ => SOME_LOST,
    })
}

impl Handover<'_> {
    /// First a program that works, and only then the key that opens nothing else.
    fn to_one(&self, node: &Node) -> anyhow::Result<&'static str> {
        let asked = self.ssh.shell(node, &handover::probe(), &[]).map_err(lost)?;
        let Some(found) = Found::read(&asked.out) else {
            self.ssh.reach(node).map_err(|error| {
                anyhow!("Main's key opens no shell there, and no agent answers either: {error}")
            })?;
            return Ok("has joined already, and its agent answers; its key opens no shell");
        };
        let is_new = found.needs(&self.sha256, &host::machine())?;
        if is_new {
            self.say(node, &handover::install(&self.sha256), &self.program)
                .context("installing the program")?;
        }
        self.ssh.reach(node).map_err(lost).context("it is installed, but")?;

        let public = key::public_path(node.identity.as_ref().unwrap_or(&self.config.ssh.identity));
        let public = fs::read(&public).with_context(|| format!("reading {}", public.display()))?;
        self.say(node, &handover::join(&self.config.main.host)?, &public).context("joining")?;
        self.ssh.reach(node).map_err(lost).context("it has joined, but")?;
        Ok(if is_new { "installed, and joined" } else { "joined; the program was there already" })
    }

    fn say(&self, node: &Node, command: &str, input: &[u8]) -> anyhow::Result<()> {
        let said = self.ssh.shell(node, command, input).map_err(lost)?;
        if !said.success {
            bail!("{}", handover::said(&said.out, &said.err)?);
        }
        Ok(())
    }
}

fn lost(error: NodeError) -> anyhow::Error {
    anyhow!(error.detail)
}
