//! Brings this program to nodes whose shell Main's key still opens: the story behind `nodes install`.

use std::fs;

use anyhow::{Context as _, anyhow, bail};

use super::Site;
use crate::config::Node;
use crate::enroll::handover::{self, Found};
use crate::enroll::key;
use crate::host;
use crate::node::NodeError;
use crate::sync::Connect as _;
use crate::threads::side_by_side;

/// What every node gets.
struct Installer<'a> {
    site: &'a Site,
    program: Vec<u8>,
    sha256: String,
}

impl Site {
    /// Installs this program on nodes over ssh and lets them join, several at once. Each result says what was done.
    ///
    /// `Err`: nothing was touched anywhere.
    pub fn install(&self, nodes: &[&Node]) -> anyhow::Result<Vec<anyhow::Result<&'static str>>> {
        // The file that runs, whatever was installed in its place since.
        let program = host::program_content().context("reading this program")?;
        let sha256 = handover::sha256(&program);
        let installer = Installer { site: self, program, sha256 };
        Ok(side_by_side(nodes, self.config().sync.parallel, |node| installer.install(node)))
    }
}

impl Installer<'_> {
    /// The key is bound to the agent only after the agent has answered.
    fn install(&self, node: &Node) -> anyhow::Result<&'static str> {
        let answer = self.site.ssh.shell(node, &handover::probe(), &[]).map_err(lost)?;
        let Some(found) = Found::read(&answer.out) else {
            self.reach_agent(node).map_err(|error| {
                anyhow!("Main's key opens no shell there, and no agent answers either: {error}")
            })?;
            return Ok("has joined already, and its agent answers; its key opens no shell");
        };
        let is_new = found.needs(&self.sha256, &host::machine())?;
        if is_new {
            self.run(node, &handover::install(&self.sha256), &self.program)
                .context("installing the program")?;
        }
        self.reach_agent(node).map_err(lost).context("it is installed, but")?;

        let config = self.site.config();
        let public = key::public_path(node.identity.as_ref().unwrap_or(&config.ssh.identity));
        let public = fs::read(&public).with_context(|| format!("reading {}", public.display()))?;
        self.run(node, &handover::join(&config.main.host)?, &public).context("joining")?;
        self.reach_agent(node).map_err(lost).context("it has joined, but")?;
        Ok(if is_new { "installed, and joined" } else { "joined; the program was there already" })
    }

    fn reach_agent(&self, node: &Node) -> Result<(), NodeError> {
        self.site.ssh.connect(&node.name).map(drop)
    }

    fn run(&self, node: &Node, command: &str, input: &[u8]) -> anyhow::Result<()> {
        let answer = self.site.ssh.shell(node, command, input).map_err(lost)?;
        if !answer.success {
            bail!("{}", handover::said(&answer.out, &answer.err)?);
        }
        Ok(())
    }
}

fn lost(error: NodeError) -> anyhow::Error {
    anyhow!(error.detail)
}
