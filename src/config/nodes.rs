//! `[[node]]`

use std::collections::BTreeMap;
use std::path::Path;

use super::mistake::{Origin, suggestion};
use super::raw::{Fields, Raw};
use super::reader::{Notes, Reader};
use super::{Directory, Node, convert};

pub(super) fn check(
    raw: Vec<(Fields, Origin)>,
    directories: &[Directory],
    home: &Path,
    notes: &mut Notes,
) -> Vec<Node> {
    let mut nodes: Vec<(Node, Origin)> = Vec::new();
    for (fields, origin) in raw {
        let mut reader = Reader::new(prefix("node", &fields), fields, origin.clone(), notes);
        let at = reader.origin_of("name");
        let name = reader.required("name", convert::name);
        let address_at = reader.origin_of("address");
        let address = reader.required("address", convert::host);
        let labels = reader.get("labels", Raw::List(Vec::new()), |raw| convert::list(raw, convert::name));
        let user = reader.optional("user", convert::user);
        let port = reader.optional("port", convert::port);
        let identity = reader.optional("identity", |raw| convert::path(raw, home));
        let paths_at = reader.origin_of("paths");
        let paths = reader.optional("paths", |raw| paths(raw, home)).unwrap_or_default();
        reader.finish();
        for unknown in paths.keys().filter(|key| !directories.iter().any(|known| known.name == **key)) {
            let meant = suggestion(unknown, directories.iter().map(|known| known.name.as_str()));
            notes.mistakes.add(&paths_at, format!("paths: there is no directory '{unknown}'{meant}"));
        }
        let (Some(name), Some(address), Some(labels)) = (name, address, labels) else { continue };
        if let Some((_, first)) = nodes.iter().find(|(known, _)| known.name == name) {
            notes.mistakes.add(&at, format!("there is a node '{name}' already, at {first}"));
            continue;
        }
        if let Some((known, _)) =
            nodes.iter().find(|(known, _)| (&known.address, known.port) == (&address, port))
        {
            let message = format!("node '{}' has the address {address} already", known.name);
            notes.mistakes.add(&address_at, message);
        }
        nodes.push((Node { name, address, labels, paths, user, port, identity }, at));
    }
    nodes.into_iter().map(|(node, _)| node).collect()
}

fn paths(raw: &Raw, home: &Path) -> convert::Converted<BTreeMap<String, std::path::PathBuf>> {
    let Raw::Table(fields) = raw else {
        return Err(format!("expected a table such as {{ moh = \"/srv/moh\" }}, found {}", raw.kind()));
    };
    let path = |(name, (raw, _)): (&String, &(Raw, Origin))| Ok((name.clone(), convert::path(raw, home)?));
    fields.iter().map(path).collect()
}

/// What messages and `config show` call a table of a list: `node.mds1`.
pub(super) fn prefix(kind: &str, fields: &Fields) -> String {
    match fields.get("name") {
        Some((Raw::Text(name), _)) => format!("{kind}.{name}"),
        _ => kind.to_owned(),
    }
}
