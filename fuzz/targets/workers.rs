//! WSO2's workers-list: every node in it can be written down, and is then one node of a readable file.

use xds_sync::enroll::nodes_file::{with_node, without_node, workers_list};

pub(super) fn read(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (nodes, bad) = workers_list(&text);
    assert!(nodes.len() + bad.len() <= text.lines().count(), "more nodes than lines");
    let mut file = String::new();
    for node in &nodes {
        file = with_node(&file, node).expect("a node that was read can be written");
        assert!(!node.address.starts_with('-'), "an address that ssh takes for an option");
    }
    for node in &nodes {
        file = without_node(&file, &node.name).expect("what was written can be read").expect("it is there");
    }
    // Any text at all as that file.
    let _ = without_node(&text, "mds1");
}
