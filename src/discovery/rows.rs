//! Validates the answers of sources: rows that are no nodes are dropped, with the reason. Pure, except for
//! [`RawAnswer::resolve`].

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;

use crate::config::{self, Directory, Node};
use crate::model::MAIN;
use crate::model::escape::escape_for_people;
use crate::state::Named;

/// More nodes than one Main could serve: such an answer is a mistake in the query.
pub(super) const MOST: usize = 10_000;
/// How many names are looked up at once.
const LOOKUPS: usize = 64;

/// One node as a source describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Which one it is, for messages: `row 3`.
    pub(super) at: String,
    pub(super) name: Option<String>,
    pub(super) address: Option<String>,
    pub(super) user: Option<String>,
    pub(super) paths: BTreeMap<String, PathBuf>,
    /// The addresses of `address`, where that is a name.
    pub(super) resolved: Vec<IpAddr>,
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RawAnswer {
    pub(super) rows: Vec<Row>,
    /// What could not be read as a row, and why.
    pub(super) dropped: Vec<String>,
}

impl RawAnswer {
    /// The answer that a source gave before.
    pub(super) fn again(nodes: &[Named]) -> RawAnswer {
        let row = |node: &Named| Row {
            name: Some(node.name.clone()),
            address: Some(node.address.clone()),
            user: node.user.clone(),
            paths: node.paths.clone(),
            ..Row::default()
        };
        RawAnswer { rows: nodes.iter().map(row).collect(), dropped: Vec::new() }
    }

    /// Looks up names that are given as addresses: one of them may be this host.
    pub(super) fn resolve(mut self, lookup: &(dyn Fn(&str) -> Vec<IpAddr> + Sync)) -> RawAnswer {
        for rows in self.rows.chunks_mut(LOOKUPS) {
            thread::scope(|scope| {
                for row in rows {
                    let name = row.address.as_deref();
                    if let Some(name) = name.filter(|name| config::is_host(name) && ip(name).is_none()) {
                        scope.spawn(|| row.resolved = lookup(name));
                    }
                }
            });
        }
        self
    }
}

/// What answers are checked against.
pub(super) struct Validator<'a> {
    pub(super) directories: &'a [Directory],
    /// Of this host.
    pub(super) names: &'a [String],
    /// Of this host.
    pub(super) addresses: &'a [IpAddr],
}

/// The result of validating an answer.
pub(super) enum Validated {
    /// The nodes, and why other rows were dropped.
    Nodes(Vec<Node>, Vec<String>),
    /// An empty answer, which may be right.
    Nobody,
    /// No usable answer, and why.
    Failed(String),
}

impl Validator<'_> {
    /// An answer without a single valid row is a failure.
    pub(super) fn validate(&self, answer: anyhow::Result<RawAnswer>) -> Validated {
        let (nodes, dropped) = match answer {
            Ok(answer) => self.nodes(answer),
            Err(error) => return Validated::Failed(format!("{error:#}")),
        };
        match dropped.first() {
            _ if !nodes.is_empty() => Validated::Nodes(nodes, dropped),
            Some(first) => Validated::Failed(format!("none of what it says is a node: {first}")),
            None => Validated::Nobody,
        }
    }

    /// The nodes in an answer, each once, and why rows were dropped. This host itself is dropped without a message.
    pub(super) fn nodes(&self, answer: RawAnswer) -> (Vec<Node>, Vec<String>) {
        let mut nodes: Vec<Node> = Vec::new();
        let mut taken = Taken::default();
        let mut dropped = answer.dropped;
        for row in answer.rows {
            match self.node(row) {
                Ok(Some(node)) => match taken.duplicate_of(&node).and_then(|known| nodes.get(known)) {
                    None => {
                        taken.add(&node);
                        nodes.push(node);
                    }
                    // RawAnswer twice.
                    Some(known) if known.name == node.name && same_address(known, &node) => {}
                    Some(known) => dropped.push(format!(
                        "{} at {} is not taken beside {} at {}",
                        node.name, node.address, known.name, known.address
                    )),
                },
                Ok(None) => {}
                Err(why) => dropped.push(why),
            }
        }
        (nodes, dropped)
    }

    /// `None` for this host itself.
    fn node(&self, row: Row) -> Result<Option<Node>, String> {
        let Row { at, name, address, user, paths, resolved } = row;
        let Some(address) = address.filter(|address| !address.is_empty()) else {
            let name = name.map(|name| format!(" ({})", shown(&name))).unwrap_or_default();
            return Err(format!("{at}{name} has no address"));
        };
        if !config::is_host(&address) {
            return Err(format!("{at}: \"{}\" is no host's address", shown(&address)));
        }
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return match self.is_own(&address, &resolved) {
                true => Ok(None),
                false => Err(format!("{at} ({address}) has no name")),
            };
        };
        if self.is_own(&address, &resolved) || self.is_own(&name, &[]) {
            return Ok(None);
        }
        if !config::is_host(&name) {
            return Err(format!("{at}: \"{}\" is no host's name", shown(&name)));
        }
        if name == MAIN {
            return Err(format!("{at} ({address}): \"{name}\" is what Main is called"));
        }
        let node = Node { name, address, labels: Vec::new(), paths, user, port: None, identity: None };
        match config::clash(&node, self.directories) {
            Some(why) => Err(format!("{at} ({}): {why}", node.name)),
            None => Ok(Some(node)),
        }
    }

    /// Whether a name or an address belongs to this host.
    fn is_own(&self, text: &str, resolved: &[IpAddr]) -> bool {
        let is_here = |address: &IpAddr| {
            address.is_loopback() || address.is_unspecified() || self.addresses.contains(address)
        };
        let same = |name: &String| config::canonical(name) == config::canonical(text);
        ip(text).as_ref().is_some_and(is_here) || resolved.iter().any(is_here) || self.names.iter().any(same)
    }
}

fn ip(text: &str) -> Option<IpAddr> {
    // fe80::1%eth0 names the interface too.
    text.split('%').next()?.parse().ok()
}

/// Which names and addresses are taken, and by which of the nodes that were added.
#[derive(Default)]
pub(super) struct Taken {
    nodes: usize,
    names: HashMap<String, usize>,
    addresses: HashMap<String, usize>,
}

impl Taken {
    pub(super) fn by<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> Taken {
        let mut taken = Taken::default();
        nodes.into_iter().for_each(|node| taken.add(node));
        taken
    }

    pub(super) fn add(&mut self, node: &Node) {
        self.names.entry(node.name.clone()).or_insert(self.nodes);
        self.addresses.entry(config::canonical(&node.address)).or_insert(self.nodes);
        self.nodes += 1;
    }

    /// The number of the first node that has the name or the address of this one.
    pub(super) fn duplicate_of(&self, node: &Node) -> Option<usize> {
        let address = self.addresses.get(&config::canonical(&node.address));
        self.names.get(&node.name).into_iter().chain(address).min().copied()
    }
}

fn same_address(a: &Node, b: &Node) -> bool {
    config::canonical(&a.address) == config::canonical(&b.address)
}

/// A text from outside, escaped and cut.
fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut cut: String = text.chars().take(MOST).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    escape_for_people(cut.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(name: &str, address: &str) -> Row {
        let some = |text: &str| (text != "-").then(|| text.to_owned());
        Row { at: "row 1".to_owned(), name: some(name), address: some(address), ..Row::default() }
    }

    /// Nodes and what was dropped, of a host `xivo` that is 10.0.0.1.
    fn validatord(rows: &[(&str, &str)]) -> (String, Vec<String>) {
        let rows = rows.iter().map(|(name, address)| row(name, address)).collect();
        let lookup = |name: &str| match name {
            "alias" => vec!["10.0.0.1".parse().unwrap()],
            "itself" => vec!["127.0.1.1".parse().unwrap()],
            _ => vec!["10.0.0.99".parse().unwrap()],
        };
        let said = RawAnswer { rows, dropped: Vec::new() }.resolve(&lookup);
        let names = ["xivo", "xivo.example.org", "localhost"].map(str::to_owned);
        let addresses = ["10.0.0.1", "2001:db8::1"].map(|address| address.parse().unwrap());
        let validator = Validator { directories: &[], names: &names, addresses: &addresses };
        let (nodes, dropped) = validator.nodes(said);
        let told: Vec<_> = nodes.iter().map(|node| format!("{}={}", node.name, node.address)).collect();
        (told.join(" "), dropped)
    }

    #[test]
    fn what_looks_like_a_host_is_a_node() {
        for rows in [
            &[("mds1", "10.0.0.11")][..],
            &[("mds1", "10.0.0.11"), ("mds2", "mds2.example.org"), ("mds3", "2001:db8::3")],
            &[("fe80::1%eth0", "fe80::1%eth0")],
        ] {
            let expected: Vec<_> = rows.iter().map(|(name, address)| format!("{name}={address}")).collect();
            assert_eq!(validatord(rows), (expected.join(" "), Vec::new()));
        }
    }

    #[test]
    fn what_does_not_is_dropped_and_named() {
        let long = "x".repeat(500);
        for (name, address, expected) in [
            ("mds1", "-", "row 1 (mds1) has no address"),
            ("mds1", "", "row 1 (mds1) has no address"),
            ("-", "-", "row 1 has no address"),
            ("-", "10.0.0.9", "row 1 (10.0.0.9) has no name"),
            ("", "10.0.0.9", "row 1 (10.0.0.9) has no name"),
            ("a b", "10.0.0.9", "row 1: \"a b\" is no host's name"),
            ("../x", "10.0.0.9", "row 1: \"../x\" is no host's name"),
            ("mds1", "-oProxyCommand=x", "row 1: \"-oProxyCommand=x\" is no host's address"),
            ("mds1", "10.0.0.11/24", "row 1: \"10.0.0.11/24\" is no host's address"),
            ("mds1", "root@10.0.0.9", "row 1: \"root@10.0.0.9\" is no host's address"),
            ("a\x1b[31m", "10.0.0.9", "row 1: \"a\\x1b[31m\" is no host's name"),
            ("main", "10.0.0.9", "row 1 (10.0.0.9): \"main\" is what Main is called"),
            (&long, "10.0.0.9", &format!("row 1: \"{}…\" is no host's name", "x".repeat(80))),
        ] {
            assert_eq!(validatord(&[(name, address)]), (String::new(), vec![expected.to_owned()]));
        }
    }

    #[test]
    fn an_answer_costs_as_much_as_it_is_long() {
        use crate::discovery::workers_list;
        use crate::model::steps::assert_grows_with;
        let validate = |rows: Vec<Row>| {
            move || {
                let validator = Validator { directories: &[], names: &[], addresses: &[] };
                let (nodes, dropped) = validator.nodes(RawAnswer { rows, dropped: Vec::new() });
                let taken = Taken::by(&nodes);
                assert!(nodes.iter().all(|node| taken.duplicate_of(node).is_some()));
                assert!(nodes.len() + dropped.len() > 1);
            }
        };
        let row = |number: usize, name: &str, address: &str| {
            let of = |text: &str| text.replace('N', &number.to_string());
            Row { name: Some(of(name)), address: Some(of(address)), ..Row::default() }
        };
        for (name, address) in [("mdsN", "10.0.0.N.example"), ("mds", "hN"), ("mdsN", "h")] {
            assert_grows_with(&format!("{name} {address}"), 400, |length| {
                validate((0..length).map(|number| row(number, name, address)).collect())
            });
        }
        for line in ["hN:/a", "h:/N", "root@h:N/x", "no host N"] {
            assert_grows_with(line, 400, |length| {
                let text: String =
                    (0..length).map(|number| line.replace('N', &number.to_string()) + "\n").collect();
                move || {
                    let (workers, bad) = workers_list::parse(&text);
                    assert!(workers.len() + bad.len() > 0);
                    // A line that names no host costs no comparison.
                    bad.iter().for_each(|_| crate::model::steps::step());
                }
            });
        }
    }

    #[test]
    fn this_host_is_no_node_however_it_is_called() {
        for (name, address) in [
            ("default", "10.0.0.1"),
            ("default", "2001:0DB8:0:0::1"),
            ("default", "127.0.0.1"),
            ("default", "::1"),
            ("default", "0.0.0.0"),
            ("default", "localhost"),
            ("default", "XIVO.example.org"),
            ("default", "alias"),
            ("default", "itself"),
            ("XIVO", "10.0.0.9"),
            ("main", "10.0.0.1"),
            ("The main server", "10.0.0.1"),
            ("-", "10.0.0.1"),
        ] {
            assert_eq!(validatord(&[(name, address)]), (String::new(), Vec::new()), "{name} {address}");
        }
    }

    #[test]
    fn of_two_that_cannot_both_be_the_first_is_taken() {
        let first = ("mds1", "10.0.0.11");
        let one = "mds1=10.0.0.11".to_owned();
        assert_eq!(validatord(&[first, first]), (one.clone(), Vec::new()));
        for (name, address) in [("mds1", "10.0.0.12"), ("other", "10.0.0.11")] {
            let why = format!("{name} at {address} is not taken beside mds1 at 10.0.0.11");
            assert_eq!(validatord(&[first, (name, address)]), (one.clone(), vec![why]));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_said_each_node_is_one_host_and_not_this_one(
            rows in prop::collection::vec(("[a-cX.\\-/ ]{0,3}|xivo|main", "10\\.0\\.0\\.[0-3]|[a-c.%:-]{0,4}"), 0..12)
        ) {
            let rows: Vec<_> = rows.iter().map(|(name, address)| row(name, address)).collect();
            let names = ["xivo".to_owned()];
            let addresses = ["10.0.0.1".parse().unwrap()];
            let validator = Validator { directories: &[], names: &names, addresses: &addresses };
            let (nodes, _) = validator.nodes(RawAnswer { rows, dropped: Vec::new() });
            for (i, node) in nodes.iter().enumerate() {
                prop_assert!(config::is_host(&node.name) && config::is_host(&node.address));
                prop_assert!(node.address != "10.0.0.1" && node.name != "xivo" && node.name != MAIN);
                let is_same = |known: &Node| known.name == node.name || same_address(known, node);
                prop_assert!(!nodes[..i].iter().any(is_same));
            }
        }
    }
}
