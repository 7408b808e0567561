//! `[[node]]`

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::overlap::check_node;
use super::{Directory, Follower, Node, address, convert};
use crate::model::MAIN;
use crate::toml::{Fields, Notes, Origin, Raw, Reader, suggestion};

/// What nodes are checked against.
pub(super) struct Around<'a> {
    /// Those without mistakes.
    pub(super) directories: &'a [Directory],
    /// The names of all directories.
    pub(super) names: &'a [String],
    /// `main.name`
    pub(super) main: Option<&'a str>,
    /// `main.host`
    pub(super) host: Option<&'a str>,
    /// `ssh.port`
    pub(super) port: Option<u16>,
    pub(super) home: &'a Path,
}

/// How a node gets its files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    Ssh,
    Store,
}

/// What is said of a node for its way alone.
enum How {
    Ssh { address: String, user: Option<String>, port: Option<u16>, identity: Option<PathBuf> },
    Store { key: String },
}

/// A `[[node]]` as it is written.
struct Written {
    name: String,
    /// `None`: there are mistakes in it.
    how: Option<How>,
    labels: Vec<String>,
    /// Directory → its root there, and where that is written.
    paths: Vec<(String, PathBuf, Origin)>,
    at: Places,
}

/// Where the keys of a node are written.
struct Places {
    name: Origin,
    address: Origin,
    via: Origin,
}

/// The nodes that Main connects to, and those that follow a store, each with where it begins.
pub(super) fn check(
    raw: Vec<(Fields, Origin)>,
    around: &Around<'_>,
    notes: &mut Notes,
) -> (Vec<Node>, Vec<(Follower, Origin)>) {
    let mut known = Known::default();
    for (fields, origin) in raw {
        if let Some(written) = read(fields, origin, around, notes) {
            known.add(written, around, notes);
        }
    }
    (known.nodes.into_iter().map(|(node, _)| node).collect(), known.followers)
}

/// Reads one; `None`: it has no name to speak of it by, or mistakes in what all nodes have.
fn read(fields: Fields, origin: Origin, around: &Around<'_>, notes: &mut Notes) -> Option<Written> {
    let mut reader = Reader::new(prefix("node", &fields), fields, origin, notes);
    let at = Places {
        name: reader.origin_of("name"),
        address: reader.origin_of("address"),
        via: reader.origin_of("via"),
    };
    let name = reader.required("name", convert::name);
    let ways = [("ssh", Via::Ssh), ("store", Via::Store)];
    let via = match reader.has("via") {
        true => reader.required("via", |raw| convert::word(raw, &ways)),
        false => Some(Via::Ssh),
    };
    let how = match via {
        Some(Via::Store) => by_store(&mut reader),
        Some(Via::Ssh) | None => by_ssh(&mut reader, around.home),
    };
    let labels = reader.list("labels", convert::name);
    let paths = reader.table("paths").map(|table| table.names(convert::root)).unwrap_or_default();
    reader.finish();
    for (unknown, _, at) in paths.iter().filter(|(name, ..)| !around.names.contains(name)) {
        let meant = suggestion(unknown, around.names.iter().map(String::as_str));
        notes.mistakes.add(at, format!("paths: there is no directory '{unknown}'{meant}"));
    }
    via?;
    Some(Written { name: name?, how, labels: labels?, paths, at })
}

fn by_store(reader: &mut Reader<'_>) -> Option<How> {
    let key = reader.required("key", convert::public_key);
    for key in ["address", "user", "port", "identity"] {
        reader.optional(key, useless("Main never connects to a node with via = \"store\"; leave it out"));
    }
    Some(How::Store { key: key? })
}

fn by_ssh(reader: &mut Reader<'_>, home: &Path) -> Option<How> {
    let address = reader.required("address", address::host);
    let why = "only a node with via = \"store\" signs anything; did you mean identity?";
    reader.optional("key", useless(why));
    let user = reader.optional("user", convert::user);
    let port = reader.optional("port", convert::port);
    let identity = reader.optional("identity", |raw| convert::path(raw, home));
    Some(How::Ssh { address: address?, user, port, identity })
}

/// Takes no value: the key has no meaning there, for this reason.
fn useless(why: &'static str) -> impl Fn(&Raw) -> Result<(), String> {
    move |_| Err(why.to_owned())
}

/// The nodes without mistakes so far, each with where it begins.
#[derive(Default)]
struct Known {
    nodes: Vec<(Node, Origin)>,
    followers: Vec<(Follower, Origin)>,
    /// Name → where its node begins. There may be very many.
    names: HashMap<String, Origin>,
    /// Key → whose it is.
    keys: HashMap<String, String>,
}

impl Known {
    fn add(&mut self, written: Written, around: &Around<'_>, notes: &mut Notes) {
        let Written { name, how, labels, paths, at } = written;
        if name == MAIN || around.main == Some(&name) {
            let message = format!("node.{name}.name: '{name}' is Main; give the node another name");
            notes.mistakes.add(&at.name, message);
        }
        if let Some(first) = self.names.get(&name) {
            notes.mistakes.add(&at.name, format!("there is a node '{name}' already, at {first}"));
            return;
        }
        let places: BTreeMap<_, _> = paths.iter().map(|(name, _, at)| (name.clone(), at.clone())).collect();
        let paths = paths.into_iter().map(|(name, path, _)| (name, path)).collect();
        let node = match how {
            None => return,
            Some(How::Store { key }) => {
                self.check_key(&name, &key, &at.via, notes);
                self.names.insert(name.clone(), at.via.clone());
                let follower = Follower { name, key, labels, paths };
                let node = follower.as_node();
                self.followers.push((follower, at.via));
                node
            }
            Some(How::Ssh { address, user, port, identity }) => {
                let node = Node { name, address, labels, paths, user, port, identity };
                self.check_address(&node, &at.address, around, notes);
                self.names.insert(node.name.clone(), at.name.clone());
                self.nodes.push((node.clone(), at.name));
                node
            }
        };
        check_node(&node, &places, around.directories, &mut notes.mistakes);
    }

    /// No two nodes sign with one key.
    fn check_key(&mut self, name: &str, key: &str, at: &Origin, notes: &mut Notes) {
        match self.keys.get(key) {
            Some(known) => {
                let message = format!("node.{name}.key: node '{known}' has this key already");
                notes.mistakes.add(at, message);
            }
            None => drop(self.keys.insert(key.to_owned(), name.to_owned())),
        }
    }

    /// No two nodes are at one place, and none is Main.
    fn check_address(&self, node: &Node, at: &Origin, around: &Around<'_>, notes: &mut Notes) {
        let Node { name, address, port, .. } = node;
        if port.is_none()
            && around.host.is_some_and(|host| address::canonical(host) == address::canonical(address))
        {
            let message =
                format!("node.{name}.address: {address} is Main itself (main.host); Main is no node");
            notes.mistakes.add(at, message);
        }
        let place = |node: &Node| (address::canonical(&node.address), node.port.or(around.port));
        if let Some((known, _)) = self.nodes.iter().find(|(known, _)| place(known) == place(node)) {
            notes.mistakes.add(at, format!("node '{}' has the address {address} already", known.name));
        }
    }
}

impl Follower {
    /// As a node, for what is the same for both: its roots.
    #[must_use]
    pub(crate) fn as_node(&self) -> Node {
        Node {
            name: self.name.clone(),
            address: String::new(),
            labels: self.labels.clone(),
            paths: self.paths.clone(),
            user: None,
            port: None,
            identity: None,
        }
    }
}

/// All labels of nodes, as typed; none without any node.
pub(super) fn labels(raw: &[(Fields, Origin)]) -> Option<Vec<String>> {
    let of = |(fields, _): &(Fields, Origin)| match fields.get("labels") {
        Some((Raw::List(items), _)) => items.iter().filter_map(|(item, _)| item.text()).collect(),
        _ => Vec::new(),
    };
    (!raw.is_empty()).then(|| raw.iter().flat_map(of).collect())
}

/// The name of a table of a list, as typed.
pub(super) fn typed_name(fields: &Fields) -> Option<String> {
    fields.get("name").and_then(|(raw, _)| raw.text())
}

/// What messages and `config show` call a table of a list: `node.mds1`.
pub(super) fn prefix(kind: &str, fields: &Fields) -> String {
    match typed_name(fields) {
        Some(name) => format!("{kind}.{name}"),
        None => kind.to_owned(),
    }
}
