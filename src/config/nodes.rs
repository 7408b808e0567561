//! `[[node]]`

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

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

/// The nodes that Main connects to, and those that follow a store, each with where it begins.
pub(super) fn check(
    raw: Vec<(Fields, Origin)>,
    around: &Around<'_>,
    notes: &mut Notes,
) -> (Vec<Node>, Vec<(Follower, Origin)>) {
    let mut nodes: Vec<(Node, Origin)> = Vec::new();
    let mut followers: Vec<(Follower, Origin)> = Vec::new();
    // There may be very many.
    let (mut names, mut keys) = (HashMap::<String, Origin>::new(), HashMap::<String, String>::new());
    for (fields, origin) in raw {
        let mut reader = Reader::new(prefix("node", &fields), fields, origin, notes);
        let (at, address_at) = (reader.origin_of("name"), reader.origin_of("address"));
        let name = reader.required("name", convert::name);
        let ways = [("ssh", Via::Ssh), ("store", Via::Store)];
        let via_at = reader.origin_of("via");
        let via = match reader.has("via") {
            true => reader.required("via", |raw| convert::word(raw, &ways)),
            false => Some(Via::Ssh),
        };
        let is_follower = via == Some(Via::Store);
        let key = is_follower.then(|| reader.required("key", convert::public_key)).flatten();
        let address = (!is_follower).then(|| reader.required("address", address::host)).flatten();
        let useless = |why: &'static str| move |_: &Raw| Err::<(), String>(why.to_owned());
        match is_follower {
            true => {
                let why = "Main never connects to a node with via = \"store\"; leave it out";
                for key in ["address", "user", "port", "identity"] {
                    reader.optional(key, useless(why));
                }
            }
            false => {
                let why = "only a node with via = \"store\" signs anything; did you mean identity?";
                reader.optional("key", useless(why));
            }
        }
        let labels = reader.list("labels", convert::name);
        let (user, port, identity) = match is_follower {
            true => (None, None, None),
            false => (
                reader.optional("user", convert::user),
                reader.optional("port", convert::port),
                reader.optional("identity", |raw| convert::path(raw, around.home)),
            ),
        };
        let typed = reader.table("paths").map(|table| table.names(convert::root)).unwrap_or_default();
        reader.finish();
        for (unknown, _, at) in typed.iter().filter(|(name, ..)| !around.names.contains(name)) {
            let meant = suggestion(unknown, around.names.iter().map(String::as_str));
            notes.mistakes.add(at, format!("paths: there is no directory '{unknown}'{meant}"));
        }
        let (Some(name), Some(_), Some(labels)) = (name, via, labels) else { continue };
        if name == MAIN || around.main == Some(&name) {
            let message = format!("node.{name}.name: '{name}' is Main; give the node another name");
            notes.mistakes.add(&at, message);
        }
        if let Some(first) = names.get(&name) {
            notes.mistakes.add(&at, format!("there is a node '{name}' already, at {first}"));
            continue;
        }
        let places: BTreeMap<_, _> = typed.iter().map(|(name, _, at)| (name.clone(), at.clone())).collect();
        let paths = typed.into_iter().map(|(name, path, _)| (name, path)).collect();
        if is_follower {
            let Some(key) = key else { continue };
            match keys.get(&key) {
                Some(known) => {
                    let message = format!("node.{name}.key: node '{known}' has this key already");
                    notes.mistakes.add(&via_at, message);
                }
                None => drop(keys.insert(key.clone(), name.clone())),
            }
            names.insert(name.clone(), via_at.clone());
            let follower = Follower { name, key, labels, paths };
            check_node(&follower.as_node(), &places, around.directories, &mut notes.mistakes);
            followers.push((follower, via_at));
            continue;
        }
        let Some(address) = address else { continue };
        if port.is_none()
            && around.host.is_some_and(|host| address::canonical(host) == address::canonical(&address))
        {
            let message =
                format!("node.{name}.address: {address} is Main itself (main.host); Main is no node");
            notes.mistakes.add(&address_at, message);
        }
        let place = |address: &str, port: Option<u16>| (address::canonical(address), port.or(around.port));
        let is_there = |known: &Node| place(&known.address, known.port) == place(&address, port);
        if let Some((known, _)) = nodes.iter().find(|(known, _)| is_there(known)) {
            let message = format!("node '{}' has the address {address} already", known.name);
            notes.mistakes.add(&address_at, message);
        }
        names.insert(name.clone(), at.clone());
        let node = Node { name, address, labels, paths, user, port, identity };
        check_node(&node, &places, around.directories, &mut notes.mistakes);
        nodes.push((node, at));
    }
    (nodes.into_iter().map(|(node, _)| node).collect(), followers)
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
