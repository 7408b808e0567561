//! Nodes that are not configured: found in a database, in a JSON document or in a workers-list.
//!
//! Answers of sources are validated in [`rows`] before they are used. A source that fails, or whose answer is suddenly
//! empty, is reported; where it failed, its last good answer is used instead.

mod http;
mod postgres;
mod rows;
#[cfg(test)]
mod tests;
pub mod workers_list;

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};

use crate::config::{self, Config, Directory, Discovery, Node};
use crate::model::escape::{clean, plain};
use crate::model::{Zone, read_rfc3339, rfc3339};
use crate::state::{Answer, Answers, DISCOVERY, Named};
use rows::{MOST, RawAnswer, Row, Taken, Validated, Validator};
use workers_list::Worker;

/// Most bytes in the answer of a source; enough for ten thousand nodes.
const LIMIT: u64 = 4 << 20;

/// Most rows of an answer that are listed as ignored.
const MOST_DROPPED: usize = 100;

/// What only the machine can tell.
pub(crate) struct Machine<'a> {
    /// Names of this host, which is never one of its own nodes.
    pub(crate) names: Vec<String>,
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// The addresses of a name; may block.
    pub(crate) lookup: &'a (dyn Fn(&str) -> Vec<IpAddr> + Sync),
    pub(crate) now: SystemTime,
    /// In which people read times.
    pub(crate) zone: Zone,
}

#[derive(Debug, Default)]
pub(crate) struct Discovered {
    /// Nodes that are not configured, each once, in the order of sources and of what they say.
    pub(crate) nodes: Vec<DiscoveredNode>,
    /// Why a source failed, and what is used instead; one line each.
    pub(crate) failures: Vec<String>,
    /// What was ignored, and why; one line each.
    pub(crate) warnings: Vec<String>,
    /// To be saved for the next call.
    pub(crate) answers: Answers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiscoveredNode {
    pub(crate) node: Node,
    /// `postgres`, `http` or `file`.
    pub(crate) source: &'static str,
    /// When the source gave this answer; `None`: now.
    pub(crate) last_good: Option<String>,
}

/// Asks all sources at the same time. `last` has their last good answers.
#[must_use]
pub(crate) fn discover(config: &Config, machine: &Machine<'_>, last: &Answers) -> Discovered {
    let sources = sources(&config.discovery);
    let timeout = config.sync.timeout;
    let validator =
        Validator { directories: &config.directories, names: &machine.names, addresses: &machine.addresses };
    let answers: Vec<anyhow::Result<RawAnswer>> = thread::scope(|scope| {
        let ask = |source: &NodeSource<'_>| {
            let answer = source.ask(timeout, config)?;
            Ok(answer.resolve(machine.lookup))
        };
        let threads: Vec<_> = sources.iter().map(|source| scope.spawn(move || ask(source))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });

    let mut discovered = Discovered::default();
    for (source, answer) in sources.iter().zip(answers) {
        // The configuration may have changed since.
        let last = last.0.get(source.name()).map(|answer| Last {
            told: read_rfc3339(&answer.at).map_or_else(|| answer.at.clone(), |at| machine.zone.tell(at)),
            nodes: validator.nodes(RawAnswer::again(&answer.nodes)).0,
            answer,
        });
        let last = last.filter(|last| !last.nodes.is_empty());
        match validator.validate(answer) {
            Validated::Nodes(nodes, dropped) => {
                discovered.named(config, source, nodes, &dropped, machine.now);
            }
            Validated::Nobody => discovered.empty_answer(config, source, last),
            Validated::Failed(why) => discovered.failed(config, source, &why, last),
        }
    }
    discovered
}

/// The last good answer of a source, and the nodes in it.
struct Last<'a> {
    answer: &'a Answer,
    /// When it was given, for people.
    told: String,
    nodes: Vec<Node>,
}

impl Discovered {
    fn named(
        &mut self,
        config: &Config,
        source: &NodeSource<'_>,
        nodes: Vec<Node>,
        dropped: &[String],
        now: SystemTime,
    ) {
        let label = source.label();
        self.warnings.extend(dropped.iter().take(MOST_DROPPED).map(|why| clean(&format!("{label}: {why}"))));
        if let Some(more) = dropped.len().checked_sub(MOST_DROPPED).filter(|more| *more > 0) {
            self.warnings
                .push(clean(&format!("{label}: {more} more of what it says is ignored, not listed")));
        }
        let at = rfc3339(now);
        self.keep(source, Answer { at, nodes: nodes.iter().map(to_keep).collect() });
        self.add(config, source, nodes, None);
    }

    /// A table that is being filled again cannot be told from one whose nodes are all gone: an administrator has to
    /// decide. Until then nothing is done with these nodes, so nothing is lost.
    fn empty_answer(&mut self, config: &Config, source: &NodeSource<'_>, last: Option<Last<'_>>) {
        let Some(last) = last else { return };
        // Nodes that have been configured since may have been removed from the source for that reason.
        let configured = Taken::by(&config.nodes);
        let gone: Vec<&Node> =
            last.nodes.iter().filter(|node| configured.duplicate_of(node).is_none()).collect();
        if gone.is_empty() {
            return;
        }
        self.failures.push(clean(&format!(
            "{} names no node any more, where it named {} at {}: nothing is synchronised with them, and nothing \
             deleted. If that is right, remove {}",
            source.label(),
            names(gone),
            last.told,
            config.sync.state_dir.join(DISCOVERY).display(),
        )));
        self.keep(source, last.answer.clone());
    }

    fn failed(&mut self, config: &Config, source: &NodeSource<'_>, why: &str, last: Option<Last<'_>>) {
        let instead = match &last {
            Some(last) => format!("its answer of {} is used: {}", last.told, names(&last.nodes)),
            None => "there is no earlier answer to go by".to_owned(),
        };
        self.failures.push(clean(&plain(&format!("{}: {why}; {instead}", source.label()))));
        if let Some(Last { answer, nodes, .. }) = last {
            self.keep(source, answer.clone());
            self.add(config, source, nodes, Some(&answer.at));
        }
    }

    fn keep(&mut self, source: &NodeSource<'_>, answer: Answer) {
        self.answers.0.insert(source.name().to_owned(), answer);
    }

    /// The first source that has a name or an address wins; configured nodes come first.
    fn add(&mut self, config: &Config, source: &NodeSource<'_>, nodes: Vec<Node>, last_good: Option<&str>) {
        let mut taken = Taken::by(config.nodes.iter().chain(self.nodes.iter().map(|found| &found.node)));
        for node in nodes {
            if taken.duplicate_of(&node).is_none() {
                taken.add(&node);
                let last_good = last_good.map(str::to_owned);
                self.nodes.push(DiscoveredNode { node, source: source.name(), last_good });
            }
        }
    }
}

fn names<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> String {
    /// More would make the line unreadable.
    const MOST: usize = 20;
    let mut names: Vec<&str> = nodes.into_iter().map(|node| &*node.name).collect();
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.join(", ") + &more
}

fn to_keep(node: &Node) -> Named {
    let Node { name, address, user, paths, .. } = node.clone();
    Named { name, address, user, paths }
}

/// A configured source.
enum NodeSource<'a> {
    Postgres(&'a config::Postgres),
    Http(&'a config::Http),
    File(&'a Path),
}

/// In order of precedence.
fn sources(discovery: &Discovery) -> Vec<NodeSource<'_>> {
    let Discovery { postgres, http, file } = discovery;
    let all = [
        postgres.as_ref().map(NodeSource::Postgres),
        http.as_ref().map(NodeSource::Http),
        file.as_deref().map(NodeSource::File),
    ];
    all.into_iter().flatten().collect()
}

impl NodeSource<'_> {
    fn name(&self) -> &'static str {
        match self {
            NodeSource::Postgres(_) => "postgres",
            NodeSource::Http(_) => "http",
            NodeSource::File(_) => "file",
        }
    }

    /// For messages: the configuration key, and where it leads.
    fn label(&self) -> String {
        let place = match self {
            NodeSource::Postgres(postgres) => config::masked(&postgres.url),
            NodeSource::Http(http) => config::masked(&http.url),
            NodeSource::File(path) => path.display().to_string(),
        };
        format!("discovery.{} ({place})", self.name())
    }

    fn ask(&self, timeout: Duration, config: &Config) -> anyhow::Result<RawAnswer> {
        let answer = match self {
            NodeSource::Postgres(postgres) => postgres::ask(postgres, timeout)?,
            NodeSource::Http(http) => http::ask(http, timeout)?,
            NodeSource::File(path) => workers(&read(path)?, &config.directories),
        };
        let count = answer.rows.len();
        ensure!(count <= MOST, "it names {count} nodes, and more than {MOST} cannot be meant");
        Ok(answer)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    File::open(path)
        .context("opening it")?
        .take(LIMIT + 1)
        .read_to_string(&mut text)
        .context("reading it")?;
    ensure!(text.len() as u64 <= LIMIT, "it has more than {LIMIT} bytes");
    Ok(text)
}

fn workers(text: &str, directories: &[Directory]) -> RawAnswer {
    let (workers, bad) = workers_list::parse(text);
    let row = |worker: Worker| Row {
        at: format!("line {}", worker.line),
        name: Some(worker.host.clone()),
        address: Some(worker.host),
        user: worker.user,
        paths: workers_list::roots(&worker.paths, directories),
        resolved: Vec::new(),
    };
    RawAnswer {
        rows: workers.into_iter().map(row).collect(),
        dropped: bad.iter().map(|line| format!("line {line}: expected [user@]host[:path]")).collect(),
    }
}
