//! `conf.d/nodes.toml`: the nodes that commands add and remove. Comments and order are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, value};

/// A node to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewNode {
    pub name: String,
    /// What ssh connects to; of one that follows the store, nothing.
    pub address: String,
    /// Of one that follows the store: what it signs with.
    pub key: Option<String>,
    pub labels: Vec<String>,
    /// Overrides `ssh.user`.
    pub user: Option<String>,
    /// Directory → its root there, where that differs from Main's.
    pub paths: BTreeMap<String, PathBuf>,
}

/// The text of the file with one more node at its end; the text as it is when it has just this node already.
pub fn with_node(text: &str, node: &NewNode) -> anyhow::Result<String> {
    let mut document = parse(text)?;
    let nodes = nodes_of(&mut document)?;
    if let Some(known) = nodes.iter().find(|known| name_of(known) == Some(&node.name)) {
        let of_known = |key: &str| known.get(key).and_then(Item::as_str);
        let is_same = match &node.key {
            Some(key) => of_known("key") == Some(key),
            None => of_known("key").is_none() && of_known("address").unwrap_or_default() == node.address,
        };
        if is_same {
            return Ok(text.to_owned());
        }
        let what = if node.key.is_some() { "key" } else { "address" };
        bail!("there is a node '{}' already, with another {what}; remove it first", node.name);
    }
    let mut table = Table::new();
    table["name"] = value(&node.name);
    match &node.key {
        Some(key) => {
            table["via"] = value("store");
            table["key"] = value(key);
        }
        None => table["address"] = value(&node.address),
    }
    if !node.labels.is_empty() {
        table["labels"] = value(node.labels.iter().collect::<Array>());
    }
    if let Some(user) = &node.user {
        table["user"] = value(user);
    }
    if !node.paths.is_empty() {
        let mut paths = InlineTable::new();
        for (directory, path) in &node.paths {
            paths.insert(directory, path.to_string_lossy().into_owned().into());
        }
        table["paths"] = value(paths);
    }
    nodes.push(table);
    Ok(document.to_string())
}

/// The text of the file without a node; `None` when it has none of that name.
pub fn without_node(text: &str, name: &str) -> anyhow::Result<Option<String>> {
    let mut document = parse(text)?;
    let nodes = nodes_of(&mut document)?;
    let before = nodes.len();
    nodes.retain(|node| name_of(node) != Some(name));
    let removed = nodes.len() < before;
    if nodes.is_empty() {
        document.remove("node");
    }
    Ok(removed.then(|| document.to_string()))
}

fn parse(text: &str) -> anyhow::Result<DocumentMut> {
    text.parse().context("not valid TOML")
}

fn nodes_of(document: &mut DocumentMut) -> anyhow::Result<&mut ArrayOfTables> {
    let nodes = document.entry("node").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    nodes.as_array_of_tables_mut().context("its nodes are not written as [[node]]")
}

fn name_of(node: &Table) -> Option<&str> {
    node.get("name").and_then(Item::as_str)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn node(name: &str, address: &str) -> NewNode {
        NewNode { name: name.to_owned(), address: address.to_owned(), ..NewNode::default() }
    }

    const FILE: &str = "# ours\n[[node]]\nname = \"mds1\" # Paris\naddress = \"10.0.0.11\"\n";

    #[test]
    fn a_node_is_added_and_all_else_stays() {
        let labelled = NewNode { labels: vec!["paris".to_owned()], ..node("mds2", "10.0.0.12") };
        let text = with_node(FILE, &labelled).unwrap();
        assert_eq!(
            text,
            format!("{FILE}\n[[node]]\nname = \"mds2\"\naddress = \"10.0.0.12\"\nlabels = [\"paris\"]\n")
        );
        assert_eq!(with_node(&text, &labelled).unwrap(), text, "the second time changes nothing");
        assert_eq!(with_node("", &node("a", "b")).unwrap(), "[[node]]\nname = \"a\"\naddress = \"b\"\n");
    }

    #[test]
    fn a_node_that_follows_the_store_has_a_key_and_no_address() {
        let key = Some("ssh-ed25519 AAAA".to_owned());
        let follower = NewNode { key, labels: vec!["paris".to_owned()], ..node("mds2", "") };
        let text = with_node(FILE, &follower).unwrap();
        let block =
            "[[node]]\nname = \"mds2\"\nvia = \"store\"\nkey = \"ssh-ed25519 AAAA\"\nlabels = [\"paris\"]\n";
        assert_eq!(text, format!("{FILE}\n{block}"));
        assert_eq!(with_node(&text, &follower).unwrap(), text);
        let other = NewNode { key: Some("ssh-ed25519 BBBB".to_owned()), ..follower };
        assert!(with_node(&text, &other).unwrap_err().to_string().contains("another key"));
        assert!(with_node(&text, &node("mds2", "")).is_err());
    }

    #[test]
    fn another_address_under_a_known_name_is_refused() {
        assert!(with_node(FILE, &node("mds1", "10.0.0.99")).is_err());
        assert!(with_node("node = 3", &node("a", "b")).is_err());
        assert!(with_node("= =", &node("a", "b")).is_err());
    }

    #[test]
    fn a_node_is_removed_and_all_else_stays() {
        let two = with_node(FILE, &node("mds2", "10.0.0.12")).unwrap();
        assert_eq!(without_node(&two, "mds2").unwrap().unwrap(), FILE);
        assert_eq!(without_node(FILE, "mds9").unwrap(), None);
        let none = without_node("[[node]]\nname = \"a\"\naddress = \"b\"\n", "a").unwrap();
        assert_eq!(none.unwrap(), "");
    }
}
