//! `[[node]]`

use std::collections::BTreeMap;
use std::path::Path;

use super::overlap::check_node;
use super::{Directory, Node, address, convert};
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

pub(super) fn check(raw: Vec<(Fields, Origin)>, around: &Around<'_>, notes: &mut Notes) -> Vec<Node> {
    let mut nodes: Vec<(Node, Origin)> = Vec::new();
    for (fields, origin) in raw {
        let mut reader = Reader::new(prefix("node", &fields), fields, origin, notes);
        let (at, address_at) = (reader.origin_of("name"), reader.origin_of("address"));
        let name = reader.required("name", convert::name);
        let address = reader.required("address", address::host);
        let labels = reader.list("labels", convert::name);
        let user = reader.optional("user", convert::user);
        let port = reader.optional("port", convert::port);
        let identity = reader.optional("identity", |raw| convert::path(raw, around.home));
        let typed = reader.table("paths").map(|table| table.names(convert::root)).unwrap_or_default();
        reader.finish();
        for (unknown, _, at) in typed.iter().filter(|(name, ..)| !around.names.contains(name)) {
            let meant = suggestion(unknown, around.names.iter().map(String::as_str));
            notes.mistakes.add(at, format!("paths: there is no directory '{unknown}'{meant}"));
        }
        let (Some(name), Some(address), Some(labels)) = (name, address, labels) else { continue };
        if name == MAIN || around.main == Some(&name) {
            let message = format!("node.{name}.name: '{name}' is Main; give the node another name");
            notes.mistakes.add(&at, message);
        }
        if let Some((_, first)) = nodes.iter().find(|(known, _)| known.name == name) {
            notes.mistakes.add(&at, format!("there is a node '{name}' already, at {first}"));
            continue;
        }
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
        let places: BTreeMap<_, _> = typed.iter().map(|(name, _, at)| (name.clone(), at.clone())).collect();
        let paths = typed.into_iter().map(|(name, path, _)| (name, path)).collect();
        let node = Node { name, address, labels, paths, user, port, identity };
        check_node(&node, &places, around.directories, &mut notes.mistakes);
        nodes.push((node, at));
    }
    nodes.into_iter().map(|(node, _)| node).collect()
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
